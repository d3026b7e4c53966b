// Sums over neighbouring f32 elements, and maps over these or the bits of bf16. Included once for each
// instruction set by files on Highway's foreach_target.
#if defined(SARDONYX_ROWS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SARDONYX_ROWS_INL_H
#undef SARDONYX_ROWS_INL_H
#else
#define SARDONYX_ROWS_INL_H
#endif

#include <hwy/highway.h>

#include <algorithm>

#include "providers/cpu/support/simd_bfloat16-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {

// The sum of f(d, vector) over x; at most 256 terms are added in one lane before they go to f64.
template <class F>
HWY_INLINE double sum_of(const float* x, int64_t n, F f) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> one;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), block = 256 * lanes;
  double total = 0;
  int64_t i = 0;
  while (n - i >= lanes) {
    const int64_t end = i + std::min(block, n - i);
    auto a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0;
    for (; i + 4 * lanes <= end; i += 4 * lanes) {
      a0 = hn::Add(a0, f(d, hn::LoadU(d, x + i)));
      a1 = hn::Add(a1, f(d, hn::LoadU(d, x + i + lanes)));
      a2 = hn::Add(a2, f(d, hn::LoadU(d, x + i + 2 * lanes)));
      a3 = hn::Add(a3, f(d, hn::LoadU(d, x + i + 3 * lanes)));
    }
    for (; i + lanes <= end; i += lanes) a0 = hn::Add(a0, f(d, hn::LoadU(d, x + i)));
    total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)))));
  }
  for (; i < n; ++i) total += static_cast<double>(hn::GetLane(f(one, hn::LoadU(one, x + i))));
  return total;
}

// y[i] = f(d, x[i], i) for whole vectors; y may be x. The last vector overlaps the one before it, so it is
// computed before anything is written.
template <class T, class F>
HWY_INLINE void map_row(const T* x, int64_t n, T* y, F f) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  if (n < lanes) {
    const hn::CappedTag<float, 1> one;
    for (int64_t i = 0; i < n; ++i) store_row(f(one, load_row(one, x + i), i), one, y + i);
    return;
  }
  const auto last = f(d, load_row(d, x + n - lanes), n - lanes);
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    const auto v0 = f(d, load_row(d, x + i), i), v1 = f(d, load_row(d, x + i + lanes), i + lanes);
    const auto v2 = f(d, load_row(d, x + i + 2 * lanes), i + 2 * lanes),
               v3 = f(d, load_row(d, x + i + 3 * lanes), i + 3 * lanes);
    store_row(v0, d, y + i), store_row(v1, d, y + i + lanes);
    store_row(v2, d, y + i + 2 * lanes), store_row(v3, d, y + i + 3 * lanes);
  }
  for (; i + lanes <= n; i += lanes) store_row(f(d, load_row(d, x + i), i), d, y + i);
  store_row(last, d, y + n - lanes);
}

}  // namespace HWY_NAMESPACE
}  // namespace sardonyx::cpu
HWY_AFTER_NAMESPACE();
#endif
