// What vectorised softmax and log-sum-exp share. Included once for each instruction set by files on Highway's
// foreach_target.
#if defined(SARDONYX_SIMD_SOFTMAX_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SARDONYX_SIMD_SOFTMAX_INL
#undef SARDONYX_SIMD_SOFTMAX_INL
#else
#define SARDONYX_SIMD_SOFTMAX_INL
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// exp(x) for x <= 0, within 2.1 ulp and exact at 0; results below the smallest normal number are 0, NaN stays
// NaN.
HWY_INLINE V exp_negative(D d, V x) {
  const hn::RebindToSigned<D> di;
  // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
  const V magic = hn::Set(d, 12582912.0f);
  const V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504f), magic);
  const V n = hn::Sub(shifted, magic);
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  const V r2 = hn::Mul(r, r);
  const V low = hn::MulAdd(hn::Set(d, 0.499991477f), r, hn::Set(d, 0.999999702f));
  const V high = hn::MulAdd(hn::Set(d, 0.0418981612f), r, hn::Set(d, 0.166676387f));
  const V series = hn::MulAdd(hn::MulAdd(hn::Set(d, 0.00829027221f), r2, high), r2, low);
  const V p = hn::MulAdd(series, r, hn::Set(d, 1.0f));
  const V scale =
      hn::BitCast(d, hn::Add(hn::ShiftLeft<23>(hn::BitCast(di, shifted)), hn::Set(di, 0x3f800000)));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.3f)), hn::Mul(p, scale));
}

// The first n lanes, fewer than a vector, of what lies at p; `fill` in the others.
HWY_INLINE V load_some(D d, const float* p, int64_t n, float fill) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
  const auto some = hn::FirstN(d, static_cast<size_t>(n));
  return hn::IfThenElse(some, hn::MaskedLoad(some, d, p), hn::Set(d, fill));
#else
  HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(hn::Set(d, fill), d, buffer);
  for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
  return hn::Load(d, buffer);
#endif
}
HWY_INLINE void store_some(D d, V v, float* p, int64_t n) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
  hn::BlendedStore(v, hn::FirstN(d, static_cast<size_t>(n)), d, p);
#else
  HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(v, d, buffer);
  for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
#endif
}

}  // namespace
}  // namespace sardonyx::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
