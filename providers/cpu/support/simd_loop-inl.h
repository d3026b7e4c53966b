// The loop of a vector function over a row, for the instruction set being compiled. Included once for each.
#if defined(SARDONYX_SIMD_LOOP_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SARDONYX_SIMD_LOOP_INL
#undef SARDONYX_SIMD_LOOP_INL
#else
#define SARDONYX_SIMD_LOOP_INL
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::simd::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// The `count` elements at p, fewer than a vector, in a buffer of a whole vector with zeros after them.
template <class T, size_t kSize>
HWY_INLINE void copy_in(T (&buffer)[kSize], const T* p, int64_t count) {
  std::memset(buffer, 0, sizeof(buffer));
  std::memcpy(buffer, p, std::min(static_cast<size_t>(count), kSize) * sizeof(T));
}
template <class T, size_t kSize>
HWY_INLINE void copy_out(const T (&buffer)[kSize], T* p, int64_t count) {
  std::memcpy(p, buffer, std::min(static_cast<size_t>(count), kSize) * sizeof(T));
}

// y[i] = f(x[i]) for vectors of DFrom and DTo, which have as many lanes. The last elements, fewer than a
// vector, are done on copies. F is a struct: lambdas do not inherit the instruction set.
template <class DFrom, class DTo, class F>
HWY_INLINE void map(DFrom from, DTo to, const hn::TFromD<DFrom>* x, hn::TFromD<DTo>* y, int64_t n,
                    const F& f) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(from));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(f(hn::LoadU(from, x + i)), to, y + i);
  if (i == n) return;
  HWY_ALIGN hn::TFromD<DFrom> in[hn::MaxLanes(from)];
  HWY_ALIGN hn::TFromD<DTo> out[hn::MaxLanes(to)];
  copy_in(in, x + i, n - i);
  hn::StoreU(f(hn::LoadU(from, in)), to, out);
  copy_out(out, y + i, n - i);
}

}  // namespace
}  // namespace sardonyx::cpu::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
