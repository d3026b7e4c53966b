// Copies, sums and products over strided views.
#pragma once

#include <cstring>
#include <type_traits>
#include <vector>

#include "providers/cpu/support/parallel.h"
#include "sardonyx/tensor.h"

namespace sardonyx::cpu {

// Dimensions walked together by several views; strides[v][i] is the step of view v in dimension i, in elements.
struct StridedLoop {
  Dims sizes;
  std::vector<Dims> strides;

  int64_t count() const { return element_count(sizes); }
  // Drops dimensions of size 1 and merges neighbours that every view walks as one.
  void collapse();
  // The offset of view v at a linear index over `sizes`.
  int64_t offset(size_t v, int64_t linear) const {
    int64_t at = 0;
    for (size_t i = sizes.size(); i-- > 0; linear /= sizes[i]) at += linear % sizes[i] * strides[v][i];
    return at;
  }
};

inline void StridedLoop::collapse() {
  StridedLoop to;
  to.strides.resize(strides.size());
  for (size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] == 1) continue;
    bool merge = !to.sizes.empty();
    for (size_t v = 0; merge && v < strides.size(); ++v) merge = to.strides[v].back() == strides[v][i] * sizes[i];
    if (!merge) to.sizes.push_back(1);
    to.sizes.back() *= sizes[i];
    for (size_t v = 0; v < strides.size(); ++v) {
      if (merge) to.strides[v].back() = strides[v][i];
      else to.strides[v].push_back(strides[v][i]);
    }
  }
  *this = std::move(to);
}

// dst, dense in the order of loop.sizes, from view 0 of the loop, which is collapsed and not empty.
template <typename T>
void gather_strided(const StridedLoop& loop, const T* src, T* dst) {
  const size_t rank = loop.sizes.size();
  if (rank == 0) {
    *dst = *src;
    return;
  }
  const Dims& strides = loop.strides[0];
  const int64_t columns = loop.sizes[rank - 1], step = strides[rank - 1];
  size_t unit = rank;  // a dimension that lies densely in the source, to be read along
  for (size_t i = 0; i + 1 < rank; ++i)
    if (strides[i] == 1) unit = i;
  if (step == 1 || unit == rank) {
    const int64_t rows = loop.count() / columns;
    StridedLoop outer = loop;
    outer.sizes.pop_back();
    parallel_for(rows, grain_for(0.5 * static_cast<double>(columns) + 5), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* from = src + outer.offset(0, row);
        T* to = dst + row * columns;
        if (step == 1) std::memcpy(to, from, static_cast<size_t>(columns) * sizeof(T));
        else for (int64_t i = 0; i < columns; ++i) to[i] = from[i * step];
      }
    });
    return;
  }
  // A transposition: square tiles keep both sides in the cache.
  constexpr int64_t kTile = 16;
  StridedLoop outer;
  outer.strides.resize(2);
  int64_t dense = columns, unit_step = 0;
  for (size_t i = rank - 1; i-- > 0;) {
    if (i == unit) {
      unit_step = dense;
    } else {
      outer.sizes.insert(outer.sizes.begin(), loop.sizes[i]);
      outer.strides[0].insert(outer.strides[0].begin(), strides[i]);
      outer.strides[1].insert(outer.strides[1].begin(), dense);
    }
    dense *= loop.sizes[i];
  }
  const int64_t lines = loop.sizes[unit], blocks = (lines + kTile - 1) / kTile;
  parallel_for(outer.count() * blocks, grain_for(static_cast<double>(columns * kTile)), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const T* from = src + outer.offset(0, task / blocks);
      T* to = dst + outer.offset(1, task / blocks);
      const int64_t first = task % blocks * kTile, last = std::min(lines, first + kTile);
      for (int64_t j = 0; j < columns; j += kTile)
        for (int64_t u = first; u < last; ++u)
          for (int64_t i = j; i < std::min(columns, j + kTile); ++i) to[u * unit_step + i] = from[i * step + u];
    }
  });
}

}  // namespace sardonyx::cpu
