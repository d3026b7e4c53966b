// Attributes of the operators on sequences and optionals.
#pragma once

#include <optional>

#include "graph/attributes.h"

namespace sardonyx {

struct SequenceEmptyAttributes {
  std::optional<int64_t> dtype;
  template <class V>
  void visit(V&& v) {
    v("dtype", dtype);
  }
};
struct ConcatFromSequenceAttributes {
  std::optional<int64_t> axis;
  int64_t new_axis = 0;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
    v("new_axis", new_axis);
  }
};
struct SplitToSequenceAttributes {
  int64_t axis = 0, keepdims = 1;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
    v("keepdims", keepdims);
  }
};
struct OptionalAttributes {
  std::optional<Type> type;
  template <class V>
  void visit(V&& v) {
    v("type", type);
  }
};

}  // namespace sardonyx
