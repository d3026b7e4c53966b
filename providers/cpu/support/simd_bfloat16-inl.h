// Vectors of f32 from and to rows of f32, or of the bits of bf16. Included once for each instruction set by
// files on Highway's foreach_target.
#if defined(SARDONYX_SIMD_BFLOAT16_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SARDONYX_SIMD_BFLOAT16_INL_H
#undef SARDONYX_SIMD_BFLOAT16_INL_H
#else
#define SARDONYX_SIMD_BFLOAT16_INL_H
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {

template <class D>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> load_row(D d, const float* p) {
  return hwy::HWY_NAMESPACE::LoadU(d, p);
}
template <class D>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<D> load_row(D d, const uint16_t* p) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<uint16_t, D> dh;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(dh, p))));
}

template <class D>
HWY_INLINE void store_row(hwy::HWY_NAMESPACE::Vec<D> v, D d, float* p) {
  hwy::HWY_NAMESPACE::StoreU(v, d, p);
}
// To nearest even; NaN stays NaN.
template <class D>
HWY_INLINE void store_row(hwy::HWY_NAMESPACE::Vec<D> v, D, uint16_t* p) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToUnsigned<D> du;
  const hn::RebindToSigned<D> di;
  const hn::Rebind<uint16_t, D> dh;
  const auto all = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(all), hn::Set(du, 1u));
  const auto rounded = hn::Add(hn::Add(all, hn::Set(du, 0x7fffu)), odd);
  const auto quiet = hn::Or(all, hn::Set(du, 0x400000u));
  const auto bits = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded);
  hn::StoreU(hn::DemoteTo(dh, hn::BitCast(di, hn::ShiftRight<16>(bits))), dh, p);
}

// f(d, i) for every vector of a row of n elements; the last vector overlaps the one before it, so f may not
// read what it writes.
template <class F>
HWY_INLINE void for_vectors(int64_t n, F f) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  if (n < lanes) {
    const hn::CappedTag<float, 1> one;
    for (int64_t i = 0; i < n; ++i) f(one, i);
    return;
  }
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) f(d, i);
  if (i < n) f(d, n - lanes);
}

}  // namespace HWY_NAMESPACE
}  // namespace sardonyx::cpu
HWY_AFTER_NAMESPACE();
#endif
