// Attributes of the operators that address elements by index, or find indices.
#pragma once

#include <optional>
#include <string>

#include "graph/attributes.h"

namespace sardonyx {

// Gather, GatherElements and the deprecated Scatter.
struct GatherAttributes {
  int64_t axis = 0;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
  }
};
struct GatherNdAttributes {
  int64_t batch_dims = 0;
  template <class V>
  void visit(V&& v) {
    v("batch_dims", batch_dims);
  }
};
struct ScatterElementsAttributes {
  int64_t axis = 0;
  std::string reduction = "none";
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
    v("reduction", reduction);
  }
};
struct ScatterNdAttributes {
  std::string reduction = "none";
  template <class V>
  void visit(V&& v) {
    v("reduction", reduction);
  }
};
struct TensorScatterAttributes {
  int64_t axis = -2;
  std::string mode = "linear";
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
    v("mode", mode);
  }
};
struct TopKAttributes {
  int64_t axis = -1, largest = 1, sorted = 1;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
    v("largest", largest);
    v("sorted", sorted);
  }
};
struct UniqueAttributes {
  std::optional<int64_t> axis;
  int64_t sorted = 1;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
    v("sorted", sorted);
  }
};
struct OneHotAttributes {
  int64_t axis = -1;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
  }
};
// ArgMax and ArgMin.
struct ArgExtremeAttributes {
  int64_t axis = 0, keepdims = 1, select_last_index = 0;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
    v("keepdims", keepdims);
    v("select_last_index", select_last_index);
  }
};
struct HardmaxAttributes {
  int64_t axis = -1;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
  }
};
struct NonMaxSuppressionAttributes {
  int64_t center_point_box = 0;
  template <class V>
  void visit(V&& v) {
    v("center_point_box", center_point_box);
  }
};

}  // namespace sardonyx
