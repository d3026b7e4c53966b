// Arithmetic of two operands.
#include "providers/cpu/support/elementwise.h"

#include <cmath>
#include <limits>
#include <type_traits>

#include "ops/elementwise.h"
#include "providers/cpu/support/integers.h"

namespace sardonyx::cpu {

namespace {

struct Add {
  template <typename T>
  T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>)
      return wrapped<T>(unsigned_of(a) + unsigned_of(b));
    else
      return a + b;
  }
};
struct Sub {
  template <typename T>
  T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>)
      return wrapped<T>(unsigned_of(a) - unsigned_of(b));
    else
      return a - b;
  }
};
struct Mul {
  template <typename T>
  T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>)
      return wrapped<T>(unsigned_of(a) * unsigned_of(b));
    else
      return a * b;
  }
};

// Integers: towards zero; a zero divisor gives 0, and the one quotient that overflows wraps.
struct Div {
  template <typename T>
  T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      if (b == 0) return 0;
      if constexpr (std::is_signed_v<T>)
        if (b == -1) return wrapped<T>(0u - unsigned_of(a));
      return static_cast<T>(a / b);
    } else {
      return a / b;
    }
  }
};

// Remainder of the quotient rounded towards zero: the sign of the dividend. 0 for a zero integer divisor.
struct TruncatedMod {
  template <typename T>
  T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      if (b == 0) return 0;
      if constexpr (std::is_signed_v<T>)
        if (b == -1) return 0;
      return static_cast<T>(a % b);
    } else {
      return std::fmod(a, b);
    }
  }
};

// Remainder of the quotient rounded down: the sign of the divisor.
struct FlooredMod {
  template <typename T>
  T operator()(T a, T b) const {
    const T rest = TruncatedMod()(a, b);
    if constexpr (std::is_integral_v<T>) {
      if constexpr (std::is_signed_v<T>)
        if (rest != 0 && (rest < 0) != (b < 0)) return static_cast<T>(rest + b);
      return rest;
    } else {
      if (rest == 0) return std::copysign(rest, b);
      return (rest < 0) != (b < 0) ? rest + b : rest;
    }
  }
};

template <typename F>
PrepareKernel ref(double ns) {
  return [ns](PrepareContext& ctx) { return prepare_binary<AllNumbers, F>(ctx, ns); };
}

PrepareKernel vectors(simd::Binary op) {
  return [op](PrepareContext& ctx) { return prepare_simd_binary(ctx, op); };
}

Prepared prepare_mod(PrepareContext& ctx) {
  const int64_t fmod = ctx.attributes<ModAttributes>().fmod;
  ctx.expect(fmod == 0 || fmod == 1, "attribute 'fmod'", "0 or 1", std::to_string(fmod));
  return fmod ? prepare_binary<AllNumbers, TruncatedMod>(ctx, 8)
              : prepare_binary<AllNumbers, FlooredMod>(ctx, 8);
}

}  // namespace

void register_elementwise(KernelRegistry& r) {
  r.add("Add", "simd", kFirst, vectors(simd::Binary::Add));
  r.add("Sub", "simd", kFirst, vectors(simd::Binary::Sub));
  r.add("Mul", "simd", kFirst, vectors(simd::Binary::Mul));
  r.add("Div", "simd", kFirst, vectors(simd::Binary::Div));
  r.ref("Add", ref<Add>(1));
  r.ref("Sub", ref<Sub>(1));
  r.ref("Mul", ref<Mul>(1));
  r.ref("Div", ref<Div>(3));
  r.ref("Mod", prepare_mod);
}

}  // namespace sardonyx::cpu
