// Functions of one operand.
#include <cmath>
#include <limits>

#include "providers/cpu/support/elementwise.h"
#include "providers/cpu/support/integers.h"

namespace sardonyx::cpu {

namespace {

#define SARDONYX_FUNCTION(Name, expression) \
  struct Name {                             \
    template <typename T>                   \
    T operator()(T x) const {               \
      return expression;                    \
    }                                       \
  };
SARDONYX_FUNCTION(Reciprocal, T(1) / x)
SARDONYX_FUNCTION(Sqrt, std::sqrt(x))
SARDONYX_FUNCTION(Exp, std::exp(x))
SARDONYX_FUNCTION(Log, std::log(x))
SARDONYX_FUNCTION(Ceil, std::ceil(x))
SARDONYX_FUNCTION(Floor, std::floor(x))
SARDONYX_FUNCTION(Round, std::nearbyint(x))
SARDONYX_FUNCTION(Sin, std::sin(x))
SARDONYX_FUNCTION(Cos, std::cos(x))
SARDONYX_FUNCTION(Tan, std::tan(x))
SARDONYX_FUNCTION(Asin, std::asin(x))
SARDONYX_FUNCTION(Acos, std::acos(x))
SARDONYX_FUNCTION(Atan, std::atan(x))
SARDONYX_FUNCTION(Sinh, std::sinh(x))
SARDONYX_FUNCTION(Cosh, std::cosh(x))
SARDONYX_FUNCTION(Tanh, std::tanh(x))
SARDONYX_FUNCTION(Asinh, std::asinh(x))
SARDONYX_FUNCTION(Acosh, std::acosh(x))
SARDONYX_FUNCTION(Atanh, std::atanh(x))
SARDONYX_FUNCTION(Erf, std::erf(x))
#undef SARDONYX_FUNCTION

struct Neg {
  template <typename T>
  T operator()(T x) const {
    if constexpr (std::is_integral_v<T>)
      return wrapped<T>(0u - unsigned_of(x));
    else
      return -x;
  }
};
// The smallest integer stays itself, as in numpy.
struct Abs {
  template <typename T>
  T operator()(T x) const {
    if constexpr (std::is_unsigned_v<T>)
      return x;
    else if constexpr (std::is_integral_v<T>)
      return x < 0 ? Neg()(x) : x;
    else
      return std::fabs(x);
  }
};
struct Sign {
  template <typename T>
  T operator()(T x) const {
    if constexpr (std::is_floating_point_v<T>)
      if (std::isnan(x)) return x;
    return static_cast<T>((T(0) < x) - (x < T(0)));
  }
};
struct Not {
  bool operator()(bool x) const { return !x; }
};
struct BitwiseNot {
  template <typename T>
  T operator()(T x) const {
    return static_cast<T>(~x);
  }
};

template <typename F, typename List = AllFloats>
PrepareKernel ref(double ns) {
  return [ns](PrepareContext& ctx) { return prepare_unary<List, F>(ctx, ns); };
}

}  // namespace

void register_elementwise_unary(KernelRegistry& r) {
  using Signed = Join<AllFloats, Types<int8_t, int16_t, int32_t, int64_t>>;
  r.ref("Neg", ref<Neg, Signed>(1));
  r.ref("Abs", ref<Abs, AllNumbers>(1));
  r.ref("Sign", ref<Sign, AllNumbers>(1));
  r.ref("Reciprocal", ref<Reciprocal>(2));
  r.ref("Sqrt", ref<Sqrt>(3));
  r.ref("Exp", ref<Exp>(6));
  r.ref("Log", ref<Log>(6));
  r.ref("Ceil", ref<Ceil>(2));
  r.ref("Floor", ref<Floor>(2));
  r.ref("Round", ref<Round>(2));
  r.ref("Sin", ref<Sin>(10));
  r.ref("Cos", ref<Cos>(10));
  r.ref("Tan", ref<Tan>(15));
  r.ref("Asin", ref<Asin>(10));
  r.ref("Acos", ref<Acos>(10));
  r.ref("Atan", ref<Atan>(10));
  r.ref("Sinh", ref<Sinh>(15));
  r.ref("Cosh", ref<Cosh>(10));
  r.ref("Tanh", ref<Tanh>(15));
  r.ref("Asinh", ref<Asinh>(15));
  r.ref("Acosh", ref<Acosh>(15));
  r.ref("Atanh", ref<Atanh>(15));
  r.ref("Erf", ref<Erf>(10));
  r.ref("Not", ref<Not, Types<bool>>(1));
  r.ref("BitwiseNot", ref<BitwiseNot, Ints>(1));
}

}  // namespace sardonyx::cpu
