// Pow: the exponent may have another dtype than the base, which is also the result's.
#include <algorithm>
#include <cmath>

#include "providers/cpu/support/elementwise.h"
#include "providers/cpu/support/integers.h"

namespace sardonyx::cpu {

namespace {

// base^exponent modulo 2^bits.
template <typename T>
T integer_power(T base, uint64_t exponent) {
  Wrapping<T> result = 1, square = unsigned_of(base);
  for (; exponent != 0; exponent >>= 1) {
    if (exponent & 1) result *= square;
    square *= square;
  }
  return wrapped<T>(result);
}

struct Pow {
  // Exact for integers; a negative exponent gives 0 for every base but 1 and -1.
  template <typename T, typename E>
  T operator()(T base, E exponent) const {
    if constexpr (std::is_integral_v<T> && std::is_integral_v<E>) {
      if constexpr (std::is_signed_v<E>) {
        if (exponent < 0) {
          if (base == 1) return 1;
          return base == -1 ? static_cast<T>(exponent % 2 == 0 ? 1 : -1) : T(0);
        }
      }
      return integer_power(base, static_cast<uint64_t>(exponent));
    } else if constexpr (std::is_integral_v<T>) {
      return truncate_to<T>(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
    } else if constexpr (std::is_same_v<T, float> && std::is_same_v<E, float>) {
      return std::pow(base, exponent);
    } else {
      return static_cast<T>(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
    }
  }
};

using Bases = Join<AllFloats, Types<int32_t, int64_t>>;

Prepared prepare_pow(PrepareContext& ctx) {
  BinaryRow row = nullptr;
  visit<Bases>(ctx.dtype(0), [&]<typename T>() {
    visit<AllNumbers>(ctx.dtype(1), [&]<typename E>() { row = binary_row<T, E, T, Pow>; });
  });
  if (!row) return no_kernel_for(ctx.dtype(0));
  return prepare_rows(ctx, ctx.dtype(0), row, 15);
}

// A float base and one constant exponent of -1, 1, 2 or 3: products instead of powers.
Prepared prepare_small_pow(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (dtype != DType::Float32) return decline("only a float base");
  const Tensor* exponent = ctx.constant(1);
  if (!exponent || exponent->size() != 1 || !is_float(exponent->dtype()))
    return decline("only one constant exponent");
  const double power = exponent->to_doubles()[0];
  if (power != 1 && power != 2 && power != 3 && power != -1) return decline("only exponents -1, 1, 2 and 3");
  const Broadcast plan({ctx.dims(0), ctx.dims(1)});
  declare_elementwise(ctx, dtype, plan.dims());
  return [n = plan.size(), power](RunContext& run) {
    const float* x = run.in<float>(0);
    float* y = run.out<float>(0);
    const auto multiply = simd::row(simd::Binary::Mul);
    parallel_for(n, grain_for(0.5), [&](int64_t begin, int64_t end) {
      if (power == -1) return simd::row(simd::Unary::Reciprocal)(x + begin, y + begin, end - begin, 0, 0);
      for (int64_t at = begin; at < end; at += kFloatBlock) {
        const int64_t size = std::min(kFloatBlock, end - at);
        alignas(64) float square[kFloatBlock];
        if (power == 1)
          std::copy_n(x + at, size, square);
        else
          multiply(x + at, 1, x + at, 1, square, size);
        if (power == 3) multiply(square, 1, x + at, 1, square, size);
        std::copy_n(square, size, y + at);
      }
    });
  };
}

}  // namespace

void register_elementwise_pow(KernelRegistry& r) {
  r.add("Pow", "simd", kFirst, prepare_small_pow);
  r.ref("Pow", prepare_pow);
}

}  // namespace sardonyx::cpu
