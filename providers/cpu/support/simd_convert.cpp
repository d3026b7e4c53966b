#include "providers/cpu/support/simd.h"

#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS HWY_SSSE3
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/support/simd_convert.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <limits>
#include <type_traits>

#include "providers/cpu/support/simd_loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::simd::HWY_NAMESPACE {
namespace {

using D = hn::ScalableTag<float>;
using DI = hn::RebindToSigned<D>;
using DU = hn::RebindToUnsigned<D>;
using DH = hn::Rebind<uint16_t, D>;
using V = hn::Vec<D>;

HWY_INLINE hn::Vec<DU> bits(uint32_t value) { return hn::Set(DU(), value); }
HWY_INLINE hn::Vec<DH> narrow(hn::Vec<DU> v) { return hn::DemoteTo(DH(), hn::BitCast(DI(), v)); }
struct FromHalf {
  HWY_INLINE V operator()(hn::Vec<DH> h) const {
    const auto wide = hn::PromoteTo(DU(), h);
    const auto sign = hn::ShiftLeft<16>(hn::And(wide, bits(0x8000)));
    const auto code = hn::And(wide, bits(0x7fff));
    const auto magnitude = hn::ShiftLeft<13>(code);
    const auto normal = hn::Add(magnitude, bits(0x38000000));
    const auto special = hn::Or(hn::Add(magnitude, bits(0x70000000)),
                                hn::IfThenElseZero(hn::Gt(code, bits(0x7c00)), bits(0x00400000)));
    const auto subnormal =
        hn::BitCast(DU(), hn::Mul(hn::ConvertTo(D(), hn::BitCast(DI(), code)), hn::Set(D(), 0x1p-24f)));
    auto y = hn::IfThenElse(hn::Lt(code, bits(0x400)), subnormal, normal);
    y = hn::IfThenElse(hn::Gt(code, bits(0x7bff)), special, y);
    return hn::BitCast(D(), hn::Or(y, sign));
  }
};

struct ToHalf {
  HWY_INLINE hn::Vec<DH> operator()(V x) const {
    const auto all = hn::BitCast(DU(), x);
    const auto sign = hn::And(hn::ShiftRight<16>(all), bits(0x8000));
    const auto magnitude = hn::And(all, bits(0x7fffffff));
    const auto odd = hn::And(hn::ShiftRight<13>(magnitude), bits(1));
    const auto rounded = hn::Add(hn::Add(magnitude, bits(0xfff)), odd);
    auto y = hn::ShiftRight<13>(hn::Sub(rounded, bits(0x38000000)));
    // Below 2^-14 the unit in the last place of 0.5 is the step.
    const auto shifted = hn::BitCast(DU(), hn::Add(hn::BitCast(D(), magnitude), hn::Set(D(), 0.5f)));
    y = hn::IfThenElse(hn::Lt(magnitude, bits(0x38800000)), hn::Sub(shifted, bits(0x3f000000)), y);
    y = hn::IfThenElse(hn::Gt(magnitude, bits(0x477fefff)), bits(0x7c00), y);
    const auto quiet = hn::Or(bits(0x7e00), hn::And(hn::ShiftRight<13>(magnitude), bits(0x3ff)));
    y = hn::IfThenElse(hn::Gt(magnitude, bits(0x7f800000)), quiet, y);
    return narrow(hn::Or(y, sign));
  }
};

struct FromBFloat16 {
  HWY_INLINE V operator()(hn::Vec<DH> h) const {
    return hn::BitCast(D(), hn::ShiftLeft<16>(hn::PromoteTo(DU(), h)));
  }
};

struct ToBFloat16 {
  HWY_INLINE hn::Vec<DH> operator()(V x) const {
    const auto all = hn::BitCast(DU(), x);
    const auto odd = hn::And(hn::ShiftRight<16>(all), bits(1));
    const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(all, bits(0x7fff)), odd));
    const auto quiet = hn::Or(hn::ShiftRight<16>(all), bits(0x40));
    const auto nan = hn::Gt(hn::And(all, bits(0x7fffffff)), bits(0x7f800000));
    return narrow(hn::IfThenElse(nan, quiet, rounded));
  }
};

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
// The processor's own conversions.
using DF16 = hn::Rebind<hwy::float16_t, D>;
struct FromHalfInstruction {
  HWY_INLINE V operator()(hn::Vec<DH> h) const { return hn::PromoteTo(D(), hn::BitCast(DF16(), h)); }
};
struct ToHalfInstruction {
  HWY_INLINE hn::Vec<DH> operator()(V x) const { return hn::BitCast(DH(), hn::DemoteTo(DF16(), x)); }
};
void half_to_float_row(const uint16_t* x, float* y, int64_t n) {
  map(DH(), D(), x, y, n, FromHalfInstruction());
}
void float_to_half_row(const float* x, uint16_t* y, int64_t n) {
  map(D(), DH(), x, y, n, ToHalfInstruction());
}
#else
void half_to_float_row(const uint16_t* x, float* y, int64_t n) { map(DH(), D(), x, y, n, FromHalf()); }
void float_to_half_row(const float* x, uint16_t* y, int64_t n) { map(D(), DH(), x, y, n, ToHalf()); }
#endif
void bfloat16_to_float_row(const uint16_t* x, float* y, int64_t n) {
  map(DH(), D(), x, y, n, FromBFloat16());
}
void float_to_bfloat16_row(const float* x, uint16_t* y, int64_t n) { map(D(), DH(), x, y, n, ToBFloat16()); }

// Rounds, adds the zero point and saturates. NaN becomes the smallest T.
template <typename T>
struct Narrow {
  using DT = hn::Rebind<T, D>;
  int zero;
  HWY_INLINE hn::Vec<DT> operator()(V x) const {
    const V low = hn::Set(D(), static_cast<float>(std::numeric_limits<T>::min() - zero));
    const V high = hn::Set(D(), static_cast<float>(std::numeric_limits<T>::max() - zero));
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSE4
    const V y = hn::Min(hn::Max(x, low), high);  // the instruction gives its second operand when one is NaN
#else
    const V raised = hn::IfThenElse(hn::Gt(x, low), x, low);
    const V y = hn::IfThenElse(hn::Lt(raised, high), raised, high);
#endif
    return hn::DemoteTo(DT(), hn::Add(hn::NearestInt(y), hn::Set(DI(), zero)));
  }
};

template <typename T>
struct Quantize {
  float scale;
  Narrow<T> narrow;
  HWY_INLINE hn::Vec<typename Narrow<T>::DT> operator()(V x) const {
    return narrow(hn::Div(x, hn::Set(D(), scale)));
  }
};
template <typename T>
struct Dequantize {
  float scale;
  int zero;
  HWY_INLINE V operator()(hn::Vec<hn::Rebind<T, D>> x) const {
    const auto wide = hn::Sub(hn::PromoteTo(DI(), x), hn::Set(DI(), zero));
    return hn::Mul(hn::ConvertTo(D(), wide), hn::Set(D(), scale));
  }
};
template <typename T>
void quantize_row(const float* x, T* y, int64_t n, float scale, int zero) {
  map(D(), hn::Rebind<T, D>(), x, y, n, Quantize<T>{scale, {zero}});
}
template <typename T>
void dequantize_row(const T* x, float* y, int64_t n, float scale, int zero) {
  map(hn::Rebind<T, D>(), D(), x, y, n, Dequantize<T>{scale, zero});
}
template <typename T, bool kStep>
void requantize_row(const int32_t* x, const int32_t* offset, T* y, int64_t n, const float* scale, int zero) {
  const Narrow<T> narrow{zero};
  const V repeated = hn::Set(D(), kStep ? 0 : *scale);
  const auto one = [&](hn::Vec<DI> v, hn::Vec<DI> o, V s)
                       HWY_ATTR { return narrow(hn::Mul(hn::ConvertTo(D(), hn::Add(v, o)), s)); };
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(one(hn::LoadU(DI(), x + i), hn::LoadU(DI(), offset + i),
                   kStep ? hn::LoadU(D(), scale + i) : repeated),
               hn::Rebind<T, D>(), y + i);
  if (i == n) return;
  HWY_ALIGN int32_t last_x[hn::MaxLanes(DI())], last_offset[hn::MaxLanes(DI())];
  HWY_ALIGN float last_scale[hn::MaxLanes(D())];
  HWY_ALIGN T last_y[hn::MaxLanes(hn::Rebind<T, D>())];
  copy_in(last_x, x + i, n - i);
  copy_in(last_offset, offset + i, n - i);
  copy_in(last_scale, kStep ? scale + i : scale, kStep ? n - i : 1);
  hn::Store(
      one(hn::Load(DI(), last_x), hn::Load(DI(), last_offset), kStep ? hn::Load(D(), last_scale) : repeated),
      hn::Rebind<T, D>(), last_y);
  copy_out(last_y, y + i, n - i);
}

void add_int32_row(const int32_t* x, const int32_t* offset, int32_t* y, int64_t n) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(DI()));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::Add(hn::LoadU(DI(), x + i), hn::LoadU(DI(), offset + i)), DI(), y + i);
  for (; i < n; ++i)
    y[i] = static_cast<int32_t>(static_cast<uint32_t>(x[i]) + static_cast<uint32_t>(offset[i]));
}
// HWY_EXPORT takes names, not templates.
void quantize_u8(const float* x, uint8_t* y, int64_t n, float scale, int zero) {
  quantize_row(x, y, n, scale, zero);
}
void quantize_s8(const float* x, int8_t* y, int64_t n, float scale, int zero) {
  quantize_row(x, y, n, scale, zero);
}
void dequantize_u8(const uint8_t* x, float* y, int64_t n, float scale, int zero) {
  dequantize_row(x, y, n, scale, zero);
}
void dequantize_s8(const int8_t* x, float* y, int64_t n, float scale, int zero) {
  dequantize_row(x, y, n, scale, zero);
}
void requantize_u8(const int32_t* x, const int32_t* offset, uint8_t* y, int64_t n, const float* scale,
                   int64_t step, int zero) {
  step ? requantize_row<uint8_t, true>(x, offset, y, n, scale, zero)
       : requantize_row<uint8_t, false>(x, offset, y, n, scale, zero);
}
void requantize_s8(const int32_t* x, const int32_t* offset, int8_t* y, int64_t n, const float* scale,
                   int64_t step, int zero) {
  step ? requantize_row<int8_t, true>(x, offset, y, n, scale, zero)
       : requantize_row<int8_t, false>(x, offset, y, n, scale, zero);
}

void find_range(const float* x, int64_t n, float* lowest, float* highest) {
  const D d;
  V low = hn::Zero(d), high = hn::Zero(d);
  auto nan = hn::IsNaN(low);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const V v = hn::LoadU(d, x + i);
    nan = hn::Or(nan, hn::IsNaN(v));
    low = hn::IfThenElse(hn::Lt(v, low), v, low);
    high = hn::IfThenElse(hn::Gt(v, high), v, high);
  }
  bool any_nan = !hn::AllFalse(d, nan);
  float least = hn::GetLane(hn::MinOfLanes(d, low)), most = hn::GetLane(hn::MaxOfLanes(d, high));
  for (; i < n; ++i) {
    any_nan = any_nan || x[i] != x[i];
    least = std::min(least, x[i]);
    most = std::max(most, x[i]);
  }
  *lowest = any_nan ? std::numeric_limits<float>::quiet_NaN() : least;
  *highest = any_nan ? std::numeric_limits<float>::quiet_NaN() : most;
}

}  // namespace
}  // namespace sardonyx::cpu::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu::simd {
HWY_EXPORT(half_to_float_row);
HWY_EXPORT(float_to_half_row);
HWY_EXPORT(bfloat16_to_float_row);
HWY_EXPORT(float_to_bfloat16_row);
HWY_EXPORT(quantize_u8);
HWY_EXPORT(quantize_s8);
HWY_EXPORT(dequantize_u8);
HWY_EXPORT(dequantize_s8);
HWY_EXPORT(requantize_u8);
HWY_EXPORT(requantize_s8);
HWY_EXPORT(add_int32_row);
HWY_EXPORT(find_range);

void half_to_float(const uint16_t* x, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(half_to_float_row)(x, y, n);
}
void float_to_half(const float* x, uint16_t* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(float_to_half_row)(x, y, n);
}
void bfloat16_to_float(const uint16_t* x, float* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(bfloat16_to_float_row)(x, y, n);
}
void float_to_bfloat16(const float* x, uint16_t* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(float_to_bfloat16_row)(x, y, n);
}
template <typename T>
void quantize(const float* x, T* y, int64_t n, float scale, int zero) {
  if constexpr (std::is_signed_v<T>)
    HWY_DYNAMIC_DISPATCH(quantize_s8)(x, y, n, scale, zero);
  else
    HWY_DYNAMIC_DISPATCH(quantize_u8)(x, y, n, scale, zero);
}
template <typename T>
void dequantize(const T* x, float* y, int64_t n, float scale, int zero) {
  if constexpr (std::is_signed_v<T>)
    HWY_DYNAMIC_DISPATCH(dequantize_s8)(x, y, n, scale, zero);
  else
    HWY_DYNAMIC_DISPATCH(dequantize_u8)(x, y, n, scale, zero);
}
template <typename T>
void requantize(const int32_t* x, const int32_t* offset, T* y, int64_t n, const float* scale,
                int64_t scale_step, int zero) {
  if constexpr (std::is_signed_v<T>)
    HWY_DYNAMIC_DISPATCH(requantize_s8)(x, offset, y, n, scale, scale_step, zero);
  else
    HWY_DYNAMIC_DISPATCH(requantize_u8)(x, offset, y, n, scale, scale_step, zero);
}
void add_int32(const int32_t* x, const int32_t* offset, int32_t* y, int64_t n) {
  HWY_DYNAMIC_DISPATCH(add_int32_row)(x, offset, y, n);
}
template void quantize(const float*, uint8_t*, int64_t, float, int);
template void quantize(const float*, int8_t*, int64_t, float, int);
template void dequantize(const uint8_t*, float*, int64_t, float, int);
template void dequantize(const int8_t*, float*, int64_t, float, int);
template void requantize(const int32_t*, const int32_t*, uint8_t*, int64_t, const float*, int64_t, int);
template void requantize(const int32_t*, const int32_t*, int8_t*, int64_t, const float*, int64_t, int);

void range_with_zero(const float* x, int64_t n, float* lowest, float* highest) {
  HWY_DYNAMIC_DISPATCH(find_range)(x, n, lowest, highest);
}
}  // namespace sardonyx::cpu::simd
#endif
