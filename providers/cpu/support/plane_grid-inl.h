// Fills the padded copy of a PlaneGrid. Included once for each instruction set by files on Highway's foreach_target.
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

// to[p * sub + j] = line[j * stride + p] for p < stride and j < length; whole vectors are read and written.
template <typename T>
HWY_INLINE void split_line(const T* HWY_RESTRICT line, int64_t stride, int64_t length, int64_t sub, T* HWY_RESTRICT to) {
  namespace hn = hwy::HWY_NAMESPACE;
  if (stride == 2) {
    const hn::ScalableTag<T> d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    int64_t j = 0;
    for (; j + lanes <= length; j += lanes) {
      hn::Vec<hn::ScalableTag<T>> even, odd;
      hn::LoadInterleaved2(d, line + 2 * j, even, odd);
      hn::StoreU(even, d, to + j);
      hn::StoreU(odd, d, to + sub + j);
    }
    for (; j < length; ++j) to[j] = line[2 * j], to[sub + j] = line[2 * j + 1];
    return;
  }
  for (int64_t p = 0; p < stride; ++p)
    for (int64_t j = 0; j < length; ++j) to[p * sub + j] = line[j * stride + p];
}

// The input rows of output rows [begin, begin + rows) of the plane x. Outside `inside`, `copy` and `line` hold `pad`
// already: nothing here changes that.
template <typename T>
void fill_copy(const PlaneGrid& g, const T* x, int64_t begin, int64_t rows, T pad, T* line, T* copy) {
  const int64_t first = begin * g.sh - g.ph, count = g.input_rows(rows);
  for (int64_t t = 0; t < count; ++t) {
    const int64_t y = first + t;
    T* to = copy + t % g.sh * g.sw * g.sub + t / g.sh * g.row;
    if (y < 0 || y >= g.ih) {
      for (int64_t p = 0; p < g.sw; ++p) std::fill(to + p * g.sub, to + p * g.sub + g.row, pad);
      continue;
    }
    T* target = g.sw == 1 ? to : line;
    std::memcpy(target + g.inside.begin, x + y * g.iw + g.inside.begin - g.pw, static_cast<size_t>(g.inside.size()) * sizeof(T));
    if (g.sw > 1) split_line(line, g.sw, g.row, g.sub, to);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sardonyx::cpu
HWY_AFTER_NAMESPACE();
#endif
