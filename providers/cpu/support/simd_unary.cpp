#include "providers/cpu/support/simd.h"

#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS HWY_SSSE3
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/support/simd_unary.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>
#include <utility>

#include "providers/cpu/support/simd_loop-inl.h"
#include "providers/cpu/support/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::simd::HWY_NAMESPACE {
namespace {

template <Unary kOp>
struct Function {
  V a, b;
  HWY_INLINE V operator()(V x) const {
    const V zero = hn::Zero(D());
    const V one = constant(1);
    if constexpr (kOp == Unary::Abs) return hn::Abs(x);
    if constexpr (kOp == Unary::Neg) return hn::Neg(x);
    if constexpr (kOp == Unary::Reciprocal) return hn::Div(one, x);
    if constexpr (kOp == Unary::Sqrt) return hn::Sqrt(x);
    if constexpr (kOp == Unary::Floor) return hn::Floor(x);
    if constexpr (kOp == Unary::Ceil) return hn::Ceil(x);
    if constexpr (kOp == Unary::Round) return hn::Round(x);
    if constexpr (kOp == Unary::Exp) return exp(x);
    if constexpr (kOp == Unary::Log) return log(x);
    if constexpr (kOp == Unary::Sin || kOp == Unary::Cos) {
      constexpr int kShift = kOp == Unary::Cos;
      const auto far = hn::Gt(hn::Abs(x), constant(kLargestAngle));
      return HWY_LIKELY(hn::AllFalse(D(), far)) ? sine<kShift>(x) : far_sine(x);
    }
    if constexpr (kOp == Unary::Erf) return erf(x);
    if constexpr (kOp == Unary::Tanh) return tanh(x);
    if constexpr (kOp == Unary::Clip) {
      // A comparison with NaN is false: a NaN bound is taken, and x where it is NaN itself.
      const V raised = hn::IfThenElse(hn::Ge(x, a), x, hn::IfThenElse(hn::IsNaN(x), x, a));
      return hn::IfThenElse(hn::Le(raised, b), raised, hn::IfThenElse(hn::IsNaN(raised), raised, b));
    }
    if constexpr (kOp == Unary::Relu) return hn::IfThenElse(hn::Lt(x, zero), zero, x);
    if constexpr (kOp == Unary::LeakyRelu) return hn::IfThenElse(hn::Lt(x, zero), hn::Mul(a, x), x);
    if constexpr (kOp == Unary::ThresholdedRelu) return hn::IfThenElse(hn::Le(x, a), zero, x);
    if constexpr (kOp == Unary::Elu)
      return hn::IfThenElse(hn::Lt(x, zero), hn::Mul(a, expm1_negative(hn::Min(x, zero))), x);
    if constexpr (kOp == Unary::Celu) {
      const V negative = hn::Mul(a, expm1_negative(hn::Div(hn::Min(x, zero), a)));
      return hn::IfThenElse(hn::Lt(x, zero), negative, x);
    }
    if constexpr (kOp == Unary::Selu) {
      const V negative = hn::Mul(hn::Mul(a, b), expm1_negative(hn::Min(x, zero)));
      return hn::IfThenElse(hn::Lt(x, zero), negative, hn::Mul(b, x));
    }
    if constexpr (kOp == Unary::HardSigmoid || kOp == Unary::HardSwish) {
      V y = hn::Add(hn::Mul(a, x), b);
      y = hn::IfThenElse(hn::Gt(y, one), one, hn::IfThenElse(hn::Lt(y, zero), zero, y));
      return kOp == Unary::HardSwish ? hn::Mul(x, y) : y;
    }
    if constexpr (kOp == Unary::Sigmoid) return sigmoid(x);
    if constexpr (kOp == Unary::Softplus) {
      const V positive = hn::IfThenElse(hn::Lt(x, zero), zero, x);
      return hn::Add(positive, log1p_unit(exp(hn::Neg(hn::Abs(x)))));
    }
    if constexpr (kOp == Unary::Softsign) return hn::Div(x, hn::Add(one, hn::Abs(x)));
    if constexpr (kOp == Unary::Mish) {
      // tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2), which is 1 from x = 20 on.
      const V e = exp(hn::IfThenElse(hn::Gt(x, constant(20)), constant(20), x));
      const V n = hn::Mul(e, hn::Add(e, constant(2)));
      return hn::Mul(x, hn::Div(n, hn::Add(n, constant(2))));
    }
    if constexpr (kOp == Unary::GeluErf) return gelu(x);
    if constexpr (kOp == Unary::GeluTanh) {
      // (1 + tanh u) / 2 = sigmoid(2 u)
      const V u = hn::Mul(x, hn::MulAdd(hn::Mul(x, x), constant(0.07135481627f), constant(1.595769122f)));
      return hn::Mul(x, sigmoid(u));
    }
    if constexpr (kOp == Unary::Swish) return hn::Mul(x, sigmoid(hn::Mul(a, x)));
  }

  // Angles that need more digits of pi than the vector function has.
  static HWY_NOINLINE V far_sine(V x) {
    HWY_ALIGN float lanes[hn::MaxLanes(D())];
    hn::Store(x, D(), lanes);
    for (float& lane : lanes) lane = kOp == Unary::Cos ? std::cos(lane) : std::sin(lane);
    return hn::Load(D(), lanes);
  }
};

template <Unary kOp>
void loop(const float* x, float* y, int64_t n, float a, float b) {
  map(D(), D(), x, y, n, Function<kOp>{constant(a), constant(b)});
}

template <int... kOps>
UnaryRow pick(Unary op, std::integer_sequence<int, kOps...>) {
  static constexpr UnaryRow kRows[] = {loop<static_cast<Unary>(kOps)>...};
  return kRows[static_cast<int>(op)];
}

UnaryRow find_unary(Unary op) { return pick(op, std::make_integer_sequence<int, kUnaryCount>()); }

void swiglu_row(const float* x, const float* y, float* out, int64_t n, float alpha) {
  const D d;
  const Function<Unary::Swish> swish{constant(alpha), constant(0)};
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::Mul(swish(hn::LoadU(d, x + i)), hn::LoadU(d, y + i)), d, out + i);
  if (i == n) return;
  HWY_ALIGN float in_x[hn::MaxLanes(d)], in_y[hn::MaxLanes(d)];
  copy_in(in_x, x + i, n - i);
  copy_in(in_y, y + i, n - i);
  hn::Store(hn::Mul(swish(hn::Load(d, in_x)), hn::Load(d, in_y)), d, in_x);
  copy_out(in_x, out + i, n - i);
}

}  // namespace
}  // namespace sardonyx::cpu::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu::simd {
HWY_EXPORT(find_unary);
HWY_EXPORT(swiglu_row);
UnaryRow row(Unary op) { return HWY_DYNAMIC_DISPATCH(find_unary)(op); }
void swiglu(const float* x, const float* y, float* out, int64_t n, float alpha) {
  HWY_DYNAMIC_DISPATCH(swiglu_row)(x, y, out, n, alpha);
}
}  // namespace sardonyx::cpu::simd
#endif
