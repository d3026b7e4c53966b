#include "providers/cpu/support/simd_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/support/simd_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <limits>

#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// y[i] = f(y[i], x[i]); x may be null.
template <class F>
HWY_INLINE void rows(float* y, const float* x, int64_t n, F f) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(f(hn::LoadU(d, y + i), x ? hn::LoadU(d, x + i) : hn::Zero(d)), d, y + i);
  if (i == n) return;
  HWY_ALIGN float a[HWY_MAX_BYTES / sizeof(float)] = {};
  HWY_ALIGN float b[HWY_MAX_BYTES / sizeof(float)] = {};
  std::copy(y + i, y + n, a);
  if (x) std::copy(x + i, x + n, b);
  hn::Store(f(hn::Load(d, a), hn::Load(d, b)), d, a);
  std::copy(a, a + (n - i), y + i);
}

void Scale(float* x, int64_t n, float scale) {
  const V s = hn::Set(D(), scale);
  rows(x, nullptr, n, [=](V v, V) { return hn::Mul(v, s); });
}
void Softcap(float* x, int64_t n, float cap) {
  const D d;
  const V c = hn::Set(d, cap), inverse = hn::Set(d, 1 / cap);
  rows(x, nullptr, n,
       [=](V v, V) { return hn::IfThenElse(hn::Eq(v, v), hn::Mul(c, hn::Tanh(d, hn::Mul(v, inverse))), v); });
}
void Add(float* x, const float* y, int64_t n) {
  rows(x, y, n, [](V v, V w) { return hn::Add(v, w); });
}
void Mask(float* x, const uint8_t* allow, int64_t n) {
  const D d;
  const hn::Rebind<uint8_t, D> d8;
  const hn::RebindToSigned<D> di;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const V low = hn::Set(d, -std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto on = hn::RebindMask(d, hn::Gt(hn::PromoteTo(di, hn::LoadU(d8, allow + i)), hn::Zero(di)));
    hn::StoreU(hn::IfThenElse(on, hn::LoadU(d, x + i), low), d, x + i);
  }
  for (; i < n; ++i)
    if (!allow[i]) x[i] = -std::numeric_limits<float>::infinity();
}
void Axpby(float a, float* y, float b, const float* x, int64_t n) {
  const D d;
  const V av = hn::Set(d, a), bv = hn::Set(d, b);
  rows(y, x, n, [=](V v, V w) { return hn::MulAdd(bv, w, hn::Mul(av, v)); });
}

}  // namespace sardonyx::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {
HWY_EXPORT(Scale);
HWY_EXPORT(Softcap);
HWY_EXPORT(Add);
HWY_EXPORT(Mask);
HWY_EXPORT(Axpby);

void scale_row(float* x, int64_t n, float scale) { HWY_DYNAMIC_DISPATCH(Scale)(x, n, scale); }
void softcap_row(float* x, int64_t n, float cap) { HWY_DYNAMIC_DISPATCH(Softcap)(x, n, cap); }
void add_row(float* x, const float* y, int64_t n) { HWY_DYNAMIC_DISPATCH(Add)(x, y, n); }
void mask_row(float* x, const uint8_t* allow, int64_t n) { HWY_DYNAMIC_DISPATCH(Mask)(x, allow, n); }
void axpby_row(float a, float* y, float b, const float* x, int64_t n) {
  HWY_DYNAMIC_DISPATCH(Axpby)(a, y, b, x, n);
}
}  // namespace sardonyx::cpu
#endif
