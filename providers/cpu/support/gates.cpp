#include "providers/cpu/support/gates.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/support/gates.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 32>;
using V = hn::Vec<D>;

HWY_INLINE V sigmoid(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  const V e = hn::Exp(d, hn::Neg(hn::Abs(x)));
  return hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one), hn::Add(one, e));
}

template <class F>
HWY_INLINE void each(float* x, int64_t n, F f) {
  const D d;
  for (int64_t i = 0; i < n; i += static_cast<int64_t>(hn::Lanes(d))) {
    const V v = hn::LoadU(d, x + i);
    hn::StoreU(hn::IfThenElse(hn::Eq(v, v), f(v), v), d, x + i);
  }
}

void Apply(const GateFunction& f, float* x, int64_t n) {
  const D d;
  const V zero = hn::Zero(d), one = hn::Set(d, 1.0f), alpha = hn::Set(d, f.alpha), beta = hn::Set(d, f.beta);
  switch (f.gate) {
    case Gate::Relu:
      return each(x, n, [=](V v) { return hn::Max(v, zero); });
    case Gate::Tanh:
      return each(x, n, [=](V v) { return hn::Tanh(d, v); });
    case Gate::Sigmoid:
      return each(x, n, [=](V v) { return sigmoid(d, v); });
    case Gate::Affine:
      return each(x, n, [=](V v) { return hn::Add(hn::Mul(alpha, v), beta); });
    case Gate::LeakyRelu:
      return each(x, n, [=](V v) { return hn::IfThenElse(hn::Ge(v, zero), v, hn::Mul(alpha, v)); });
    case Gate::ThresholdedRelu:
      return each(x, n, [=](V v) { return hn::IfThenElseZero(hn::Ge(v, alpha), v); });
    case Gate::ScaledTanh:
      return each(x, n, [=](V v) { return hn::Mul(alpha, hn::Tanh(d, hn::Mul(beta, v))); });
    case Gate::HardSigmoid:
      return each(x, n, [=](V v) { return hn::Min(hn::Max(hn::Add(hn::Mul(alpha, v), beta), zero), one); });
    case Gate::Elu:
      return each(x, n,
                  [=](V v) { return hn::IfThenElse(hn::Ge(v, zero), v, hn::Mul(alpha, hn::Expm1(d, v))); });
    case Gate::Softsign:
      return each(x, n, [=](V v) { return hn::Div(v, hn::Add(one, hn::Abs(v))); });
    case Gate::Softplus:
      return each(x, n, [=](V v) {
        return hn::Add(hn::Max(v, zero), hn::Log1p(d, hn::Exp(d, hn::Neg(hn::Abs(v)))));
      });
  }
}

}  // namespace sardonyx::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {
HWY_EXPORT(Apply);
void simd_gate(const GateFunction& f, float* x, int64_t n) { HWY_DYNAMIC_DISPATCH(Apply)(f, x, n); }
}  // namespace sardonyx::cpu
#endif
