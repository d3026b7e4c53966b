// Index arithmetic over several strided views at once.
#pragma once

#include <vector>

#include "sardonyx/tensor.h"

namespace sardonyx::cpu {

// Dimensions walked together by several views; strides[v][i] is the step of view v in dimension i, in
// elements.
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
    for (size_t v = 0; merge && v < strides.size(); ++v)
      merge = to.strides[v].back() == strides[v][i] * sizes[i];
    if (!merge) to.sizes.push_back(1);
    to.sizes.back() *= sizes[i];
    for (size_t v = 0; v < strides.size(); ++v) {
      if (merge)
        to.strides[v].back() = strides[v][i];
      else
        to.strides[v].push_back(strides[v][i]);
    }
  }
  *this = std::move(to);
}

}  // namespace sardonyx::cpu
