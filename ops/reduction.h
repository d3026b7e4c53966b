// Attribute structs of the Reduce operators.
#pragma once

#include <cstdint>

namespace sardonyx {

struct ReduceAttributes {
  int64_t noop_with_empty_axes = 0;
  int64_t keepdims = 1;
  template <class V>
  void visit(V&& v) {
    v("noop_with_empty_axes", noop_with_empty_axes);
    v("keepdims", keepdims);
  }
};

}  // namespace sardonyx
