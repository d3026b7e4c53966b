// Dropout and DropoutBackward on f32 and the 16-bit floats: the draws of Philox, a vector of blocks at a
// time.
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS HWY_SSSE3
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/activation_dropout_simd.cpp"
#include <hwy/foreach_target.h>  // compiles what follows once for each instruction set
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <string>

#include "ops/activation.h"
#include "ops/registry/operator.h"
#include "providers/cpu/support/elementwise.h"
#include "providers/cpu/support/philox.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using DU = hn::RebindToUnsigned<D>;
using U = hn::Vec<DU>;

// The words of as many blocks as a vector has lanes, in the order of the elements.
void words_one_by_one(uint64_t first, uint64_t key, uint64_t stream, uint32_t* words) {
  for (uint64_t index = first; index < first + hn::Lanes(DU()); ++index, words += 4) {
    const Philox::Block block =
        Philox::rounds({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                        static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)},
                       static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
    std::copy(block.begin(), block.end(), words);
  }
}

#if HWY_TARGET == HWY_SCALAR
void philox_words(uint64_t first, uint64_t key, uint64_t stream, uint32_t* words) {
  words_one_by_one(first, key, stream, words);
}
#else
// The low and high words of a * m.
HWY_INLINE void multiply(U a, U m, U& low, U& high) {
  const DU d;
  const hn::RepartitionToWide<DU> wide;
  const auto even = hn::MulEven(a, m);
  const auto odd = hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(wide, a))), m);
  low = hn::OddEven(hn::BitCast(d, hn::ShiftLeft<32>(odd)), hn::BitCast(d, even));
  high = hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, hn::ShiftRight<32>(even)));
}

HWY_INLINE void philox_words(uint64_t first, uint64_t key, uint64_t stream, uint32_t* words) {
  const DU d;
  if (static_cast<uint32_t>(first) + uint64_t{hn::Lanes(d)} > uint64_t{1} << 32)
    return words_one_by_one(first, key, stream, words);
  U c0 = hn::Iota(d, static_cast<uint32_t>(first)), c1 = hn::Set(d, static_cast<uint32_t>(first >> 32));
  U c2 = hn::Set(d, static_cast<uint32_t>(stream)), c3 = hn::Set(d, static_cast<uint32_t>(stream >> 32));
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  const U m0 = hn::Set(d, 0xD2511F53u), m1 = hn::Set(d, 0xCD9E8D57u);
  for (int round = 0; round < 10; ++round) {
    U low_a, high_a, low_b, high_b;
    multiply(c0, m0, low_a, high_a);
    multiply(c2, m1, low_b, high_b);
    c0 = hn::Xor(hn::Xor(high_b, c1), hn::Set(d, k0));
    c2 = hn::Xor(hn::Xor(high_a, c3), hn::Set(d, k1));
    c1 = low_b;
    c3 = low_a;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  hn::StoreInterleaved4(c0, c1, c2, c3, d, words);
}
#endif

// y = x * scale where the element's draw, of which `first` is the first block, is `least` / 2^24 or more,
// else x * 0; mask, which may be null, says where.
void DropRow(const float* x, float* y, uint8_t* mask, int64_t n, uint32_t least, float scale, uint64_t first,
             uint64_t key, uint64_t stream) {
  const D d;
  const DU du;
  const hn::RebindToSigned<D> di;
  const hn::Rebind<uint8_t, D> bytes;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN uint32_t words[4 * hn::MaxLanes(d)];
  HWY_ALIGN float some[hn::MaxLanes(d)];
  HWY_ALIGN uint8_t some_mask[hn::MaxLanes(d)];
  const auto limit = hn::Set(di, static_cast<int32_t>(least) - 1);
  for (int64_t at = 0; at < n; at += 4 * lanes, first += static_cast<uint64_t>(lanes)) {
    philox_words(first, key, stream, words);
    for (int64_t part = 0; part < 4 && at + part * lanes < n; ++part) {
      const int64_t i = at + part * lanes, count = std::min(lanes, n - i);
      const auto draw = hn::BitCast(di, hn::ShiftRight<8>(hn::Load(du, words + part * lanes)));
      const auto keep = hn::Gt(draw, limit);
      const auto factor = hn::IfThenElseZero(hn::RebindMask(d, keep), hn::Set(d, scale));
      const auto kept = hn::DemoteTo(bytes, hn::IfThenElseZero(keep, hn::Set(di, 1)));
      if (count == lanes) {
        hn::StoreU(hn::Mul(hn::LoadU(d, x + i), factor), d, y + i);
        if (mask) hn::StoreU(kept, bytes, mask + i);
        continue;
      }
      std::fill_n(some, lanes, 0.0f);
      std::copy_n(x + i, count, some);
      hn::Store(hn::Mul(hn::Load(d, some), factor), d, some);
      std::copy_n(some, count, y + i);
      hn::Store(kept, bytes, some_mask);
      if (mask) std::copy_n(some_mask, count, mask + i);
    }
  }
}

// dx = dy * factor where the mask is set, else 0.
void DropBackwardRow(const float* dy, const uint8_t* mask, float factor, float* dx, int64_t n) {
  const D d;
  const hn::Rebind<uint8_t, D> bytes;
  const hn::RebindToSigned<D> di;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto dropped = hn::Eq(hn::PromoteTo(di, hn::LoadU(bytes, mask + i)), hn::Zero(di));
    const auto v = hn::Mul(hn::LoadU(d, dy + i), hn::Set(d, factor));
    hn::StoreU(hn::IfThenZeroElse(hn::RebindMask(d, dropped), v), d, dx + i);
  }
  for (; i < n; ++i) dx[i] = mask[i] ? dy[i] * factor : 0.0f;
}

}  // namespace sardonyx::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {

namespace {

HWY_EXPORT(DropRow);
HWY_EXPORT(DropBackwardRow);

Prepared prepare_dropout(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (!has_float_rows(dtype)) return decline("only float, float16 and bfloat16");
  const Tensor* mode = ctx.constant(2);
  if (!ctx.has_input(2) ||
      (mode && mode->size() == 1 && mode->dtype() == DType::Bool && !*mode->data<bool>()))
    return decline("nothing is dropped");
  const auto a = ctx.attributes<DropoutAttributes>();
  const int64_t n = ctx.input(0).size();
  ctx.expect(ctx.input(2).size() == 1, "input 'training_mode'", "a scalar", to_string(ctx.dims(2)));
  ctx.expect(ctx.dtype(2) == DType::Bool, "element type of 'training_mode'", "bool",
             dtype_name(ctx.dtype(2)));
  if (ctx.has_input(1)) {
    ctx.expect(ctx.input(1).size() == 1, "input 'ratio'", "a scalar", to_string(ctx.dims(1)));
    ctx.expect(is_float(ctx.dtype(1)), "element type of 'ratio'", "a float", dtype_name(ctx.dtype(1)));
  }
  ctx.output(0, dtype, ctx.dims(0));
  ctx.output(1, DType::Bool, ctx.dims(0));
  ctx.may_share(0, 0);
  return [=](RunContext& run) {
    const double ratio = run.has_input(1) ? run.input(1).to_doubles()[0] : 0.5;
    const void* x = run.input(0).data();
    void* y = run.output(0).mutable_data();
    uint8_t* mask = run.wants(1) ? static_cast<uint8_t*>(run.output(1).mutable_data()) : nullptr;
    const bool training = *run.in<bool>(2);
    if (training && !(ratio >= 0 && ratio <= 1))
      run.fail("input 'ratio'", "a number in [0, 1]", std::to_string(ratio));
    if (!training || ratio == 0) {
      if (x != y) std::memcpy(y, x, static_cast<size_t>(n) * element_size(dtype));
      if (mask) std::fill_n(mask, n, uint8_t{1});
      return;
    }
    std::optional<double> seed;
    if (a.seed) seed = static_cast<double>(*a.seed);
    const Philox philox(run, seed);
    // Draws are multiples of 2^-24.
    const auto least = static_cast<uint32_t>(std::ceil(ratio * 0x1p24));
    const float scale = ratio < 1 ? static_cast<float>(1 / (1 - ratio)) : 0.0f;
    const int64_t blocks = (n + kFloatBlock - 1) / kFloatBlock;
    parallel_for(blocks, grain_for(kFloatBlock), [&](int64_t begin, int64_t end) {
      alignas(64) float buffer[kFloatBlock];
      for (int64_t b = begin; b < end; ++b) {
        const int64_t at = b * kFloatBlock, size = std::min(kFloatBlock, n - at);
        const float* from = load_floats(dtype, x, at, size, buffer);
        float* target = float_target(dtype, y, at, buffer);
        HWY_DYNAMIC_DISPATCH(DropRow)
        (from, target, mask ? mask + at : nullptr, size, least, scale, static_cast<uint64_t>(at / 4),
         philox.key(), philox.stream());
        store_floats(dtype, target, y, at, size);
      }
    });
  };
}

void prepare_backward_ports(PrepareContext& ctx) {
  ctx.expect(ctx.dims(1) == ctx.dims(0), "dims of input 'mask'", to_string(ctx.dims(0)),
             to_string(ctx.dims(1)));
  ctx.expect(ctx.dtype(1) == DType::Bool, "dtype of input 'mask'", "bool", dtype_name(ctx.dtype(1)));
  ctx.expect(ctx.input(2).size() == 1, "input 'factor'", "a scalar", to_string(ctx.dims(2)));
  ctx.expect(ctx.dtype(2) == ctx.dtype(0), "dtype of input 'factor'", dtype_name(ctx.dtype(0)),
             dtype_name(ctx.dtype(2)));
  ctx.output(0, ctx.dtype(0), ctx.dims(0));
  ctx.may_share(0, 0);
}

Prepared prepare_backward(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (!has_float_rows(dtype)) return decline("only float, float16 and bfloat16");
  prepare_backward_ports(ctx);
  return [dtype, n = ctx.input(0).size()](RunContext& run) {
    const void* dy = run.input(0).data();
    const auto* mask = static_cast<const uint8_t*>(run.input(1).data());
    const float factor = static_cast<float>(run.input(2).to_doubles()[0]);
    void* dx = run.output(0).mutable_data();
    parallel_for(n, grain_for(0.3), [&](int64_t begin, int64_t end) {
      alignas(64) float buffer[kFloatBlock];
      for (int64_t at = begin; at < end; at += kFloatBlock) {
        const int64_t size = std::min(kFloatBlock, end - at);
        const float* from = load_floats(dtype, dy, at, size, buffer);
        float* target = float_target(dtype, dx, at, buffer);
        HWY_DYNAMIC_DISPATCH(DropBackwardRow)(from, mask + at, factor, target, size);
        store_floats(dtype, target, dx, at, size);
      }
    });
  };
}

Prepared prepare_backward_ref(PrepareContext& ctx) {
  prepare_backward_ports(ctx);
  Prepared prepared = no_kernel_for(ctx.dtype(0));
  visit<AllFloats>(ctx.dtype(0), [&]<typename T>() {
    prepared = [n = ctx.input(0).size()](RunContext& run) {
      using C = Compute<T>;
      const T* dy = run.in<T>(0);
      const bool* mask = run.in<bool>(1);
      const C factor = static_cast<C>(widen(*run.in<T>(2)));
      T* dx = run.out<T>(0);
      for (int64_t i = 0; i < n; ++i) dx[i] = static_cast<T>(mask[i] ? C(widen(dy[i])) * factor : C(0));
    };
  });
  return prepared;
}

}  // namespace

void register_activation_dropout_simd(KernelRegistry& r) {
  r.add("Dropout", "simd", kFirst, prepare_dropout);
  r.add("DropoutBackward", "simd", kFirst, prepare_backward, kOwnDomain);
  r.ref("DropoutBackward", prepare_backward_ref, kOwnDomain);
}

}  // namespace sardonyx::cpu
#endif
