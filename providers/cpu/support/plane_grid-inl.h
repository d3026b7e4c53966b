// Fills the padded copy of a PlaneGrid. Included once for each instruction set by files on Highway's
// foreach_target.
#if defined(SARDONYX_PLANE_GRID_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SARDONYX_PLANE_GRID_INL_H
#undef SARDONYX_PLANE_GRID_INL_H
#else
#define SARDONYX_PLANE_GRID_INL_H
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "providers/cpu/support/plane_grid.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {

// to[i] = from[i] for rows too short for a call of memcpy to pay. The last vector overlaps the one before it.
template <typename T, size_t kLanes>
HWY_INLINE void copy_vectors(const T* HWY_RESTRICT from, int64_t n, T* HWY_RESTRICT to) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::CappedTag<T, kLanes> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i + lanes < n; i += lanes) hn::StoreU(hn::LoadU(d, from + i), d, to + i);
  hn::StoreU(hn::LoadU(d, from + n - lanes), d, to + n - lanes);
}
template <typename T>
HWY_INLINE void copy_row(const T* HWY_RESTRICT from, int64_t n, T* HWY_RESTRICT to) {
  namespace hn = hwy::HWY_NAMESPACE;
  if (n >= static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>())))
    copy_vectors<T, HWY_MAX_BYTES / sizeof(T)>(from, n, to);
  else if (n >= static_cast<int64_t>(hn::Lanes(hn::CappedTag<T, 8>())))
    copy_vectors<T, 8>(from, n, to);
  else if (n >= static_cast<int64_t>(hn::Lanes(hn::CappedTag<T, 4>())))
    copy_vectors<T, 4>(from, n, to);
  else if (n > 0)
    copy_vectors<T, 1>(from, n, to);
}

// to[p * sub + j] = line[j * stride + p] for p < stride and begin <= j < end.
template <typename T, size_t kLanes>
HWY_INLINE void split_pairs(const T* HWY_RESTRICT line, int64_t begin, int64_t end, int64_t sub,
                            T* HWY_RESTRICT to) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::CappedTag<T, kLanes> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t j = begin; j < end; j += lanes) {
    const int64_t at = std::min(j, end - lanes);
    hn::Vec<hn::CappedTag<T, kLanes>> even, odd;
    hn::LoadInterleaved2(d, line + 2 * at, even, odd);
    hn::StoreU(even, d, to + at);
    hn::StoreU(odd, d, to + sub + at);
  }
}
template <typename T>
HWY_INLINE void split_line(const T* HWY_RESTRICT line, int64_t stride, int64_t begin, int64_t end,
                           int64_t sub, T* HWY_RESTRICT to) {
  namespace hn = hwy::HWY_NAMESPACE;
  if (stride == 2 && end - begin >= 4) {
    if (end - begin >= static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>())))
      return split_pairs<T, HWY_MAX_BYTES / sizeof(T)>(line, begin, end, sub, to);
    if (end - begin >= static_cast<int64_t>(hn::Lanes(hn::CappedTag<T, 8>())))
      return split_pairs<T, 8>(line, begin, end, sub, to);
    return split_pairs<T, 4>(line, begin, end, sub, to);
  }
  for (int64_t p = 0; p < stride; ++p)
    for (int64_t j = begin; j < end; ++j) to[p * sub + j] = line[j * stride + p];
}

// The input rows of output rows [begin, begin + rows) of the plane x. `copy` holds `pad` when this is first
// called with it; what is padding for every block stays as it was.
template <typename T>
void fill_copy(const PlaneGrid& g, const T* x, int64_t begin, int64_t rows, T pad, T* copy) {
  const int64_t first = begin * g.sh - g.ph, count = g.input_rows(rows);
  const bool one_block = g.block_rows == g.oh;  // then rows of padding are the same for every plane
  int64_t phase = 0, down = 0;
  for (int64_t t = 0; t < count; ++t) {
    const int64_t y = first + t;
    T* to = copy + phase * g.sw * g.sub + down * g.row;
    if (++phase == g.sh) phase = 0, ++down;
    if (y < 0 || y >= g.ih) {
      if (one_block) continue;
      for (int64_t p = 0; p < g.sw; ++p) std::fill(to + p * g.sub, to + p * g.sub + g.row, pad);
      continue;
    }
    const T* from = x + y * g.iw - g.pw;  // the line with its padding, which is not there
    if (g.sw == 1) {
      copy_row(from + g.inside.begin, g.inside.size(), to + g.inside.begin);
      continue;
    }
    const auto edge = [&](int64_t j) {
      for (int64_t p = 0; p < g.sw; ++p)
        if (const int64_t at = j * g.sw + p; at >= g.inside.begin && at < g.inside.end)
          to[p * g.sub + j] = from[at];
    };
    if (g.some.begin < g.whole.begin) edge(g.some.begin);
    split_line(from, g.sw, g.whole.begin, g.whole.end, g.sub, to);
    if (g.some.end > g.whole.end && g.some.end > g.whole.begin) edge(g.some.end - 1);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sardonyx::cpu
HWY_AFTER_NAMESPACE();
#endif
