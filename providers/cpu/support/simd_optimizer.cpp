#include "providers/cpu/support/simd_optimizer.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/support/simd_optimizer.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// The elements from `at` on with vectors of D; returns where it stopped.
template <class D>
int64_t sgd(D d, const SgdStep& s, const float* x, const float* g, const float* buffer, float* x_new,
            float* buffer_new, int64_t at, int64_t n) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto rate = hn::Set(d, s.rate), momentum = hn::Set(d, s.momentum), undamped = hn::Set(d, s.undamped);
  const auto decay = hn::Set(d, s.weight_decay), scale = hn::Set(d, s.scale);
  for (; at + lanes <= n; at += lanes) {
    const auto value = hn::LoadU(d, x + at);
    auto step = hn::MulAdd(decay, value, hn::Mul(scale, hn::LoadU(d, g + at)));
    if (buffer) {
      auto next = step;
      if (!s.first) next = hn::MulAdd(momentum, hn::LoadU(d, buffer + at), hn::Mul(undamped, step));
      hn::StoreU(next, d, buffer_new + at);
      step = s.nesterov ? hn::MulAdd(momentum, next, step) : next;
    }
    hn::StoreU(hn::NegMulAdd(rate, step, value), d, x_new + at);
  }
  return at;
}

void Sgd(const SgdStep& s, const float* x, const float* g, const float* buffer, float* x_new,
         float* buffer_new, int64_t n) {
  const int64_t rest = sgd(hn::ScalableTag<float>(), s, x, g, buffer, x_new, buffer_new, 0, n);
  sgd(hn::CappedTag<float, 1>(), s, x, g, buffer, x_new, buffer_new, rest, n);
}

template <class D>
int64_t adamw(D d, const AdamWStep& s, const float* x, const float* g, const float* m, const float* v,
              const float* largest, float* x_new, float* m_new, float* v_new, float* largest_new, int64_t at,
              int64_t n) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto kept = hn::Set(d, s.kept), beta1 = hn::Set(d, s.beta1), beta2 = hn::Set(d, s.beta2);
  const auto rest1 = hn::Set(d, s.rest1), rest2 = hn::Set(d, s.rest2), scale = hn::Set(d, s.scale);
  const auto step = hn::Set(d, s.step), root = hn::Set(d, s.inverse_root), epsilon = hn::Set(d, s.epsilon);
  for (; at + lanes <= n; at += lanes) {
    const auto gradient = hn::Mul(scale, hn::LoadU(d, g + at));
    const auto first = hn::MulAdd(beta1, hn::LoadU(d, m + at), hn::Mul(rest1, gradient));
    auto second = hn::MulAdd(beta2, hn::LoadU(d, v + at), hn::Mul(rest2, hn::Mul(gradient, gradient)));
    hn::StoreU(first, d, m_new + at);
    hn::StoreU(second, d, v_new + at);
    if (largest) {
      second = hn::Max(second, hn::LoadU(d, largest + at));
      hn::StoreU(second, d, largest_new + at);
    }
    const auto below = hn::MulAdd(hn::Sqrt(second), root, epsilon);
    const auto value = hn::Mul(kept, hn::LoadU(d, x + at));
    hn::StoreU(hn::NegMulAdd(step, hn::Div(first, below), value), d, x_new + at);
  }
  return at;
}

void Adamw(const AdamWStep& s, const float* x, const float* g, const float* m, const float* v,
           const float* largest, float* x_new, float* m_new, float* v_new, float* largest_new, int64_t n) {
  const int64_t rest =
      adamw(hn::ScalableTag<float>(), s, x, g, m, v, largest, x_new, m_new, v_new, largest_new, 0, n);
  adamw(hn::CappedTag<float, 1>(), s, x, g, m, v, largest, x_new, m_new, v_new, largest_new, rest, n);
}

}  // namespace sardonyx::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {
HWY_EXPORT(Sgd);
HWY_EXPORT(Adamw);

void sgd_row(const SgdStep& s, const float* x, const float* g, const float* buffer, float* x_new,
             float* buffer_new, int64_t n) {
  HWY_DYNAMIC_DISPATCH(Sgd)(s, x, g, buffer, x_new, buffer_new, n);
}
void adamw_row(const AdamWStep& s, const float* x, const float* g, const float* m, const float* v,
               const float* largest, float* x_new, float* m_new, float* v_new, float* largest_new,
               int64_t n) {
  HWY_DYNAMIC_DISPATCH(Adamw)(s, x, g, m, v, largest, x_new, m_new, v_new, largest_new, n);
}
}  // namespace sardonyx::cpu
#endif
