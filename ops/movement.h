// Attributes of the operators that move, view or make elements.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "graph/attributes.h"

namespace sardonyx {

struct ReshapeAttributes {
  int64_t allowzero = 0;
  template <class V>
  void visit(V&& v) {
    v("allowzero", allowzero);
  }
};
struct FlattenAttributes {
  int64_t axis = 1;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
  }
};
struct TransposeAttributes {
  std::optional<std::vector<int64_t>> perm;
  template <class V>
  void visit(V&& v) {
    v("perm", perm);
  }
};
struct ConcatAttributes {
  std::optional<int64_t> axis;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
  }
};
struct SplitAttributes {
  int64_t axis = 0;
  std::optional<int64_t> num_outputs;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
    v("num_outputs", num_outputs);
  }
};
// DepthToSpace and SpaceToDepth.
struct BlockAttributes {
  std::optional<int64_t> blocksize;
  std::string mode = "DCR";
  template <class V>
  void visit(V&& v) {
    v("blocksize", blocksize);
    v("mode", mode);
  }
};
struct ShapeAttributes {
  int64_t start = 0;
  std::optional<int64_t> end;
  template <class V>
  void visit(V&& v) {
    v("start", start);
    v("end", end);
  }
};
struct ConstantOfShapeAttributes {
  std::optional<Tensor> value;
  template <class V>
  void visit(V&& v) {
    v("value", value);
  }
};
struct RangeAttributes {
  int64_t stash_type = 1;
  template <class V>
  void visit(V&& v) {
    v("stash_type", stash_type);
  }
};
struct EyeLikeAttributes {
  std::optional<int64_t> dtype;
  int64_t k = 0;
  template <class V>
  void visit(V&& v) {
    v("dtype", dtype);
    v("k", k);
  }
};
struct TriluAttributes {
  int64_t upper = 1;
  template <class V>
  void visit(V&& v) {
    v("upper", upper);
  }
};
struct CenterCropPadAttributes {
  std::optional<std::vector<int64_t>> axes;
  template <class V>
  void visit(V&& v) {
    v("axes", axes);
  }
};
struct ReverseSequenceAttributes {
  int64_t batch_axis = 1, time_axis = 0;
  template <class V>
  void visit(V&& v) {
    v("batch_axis", batch_axis);
    v("time_axis", time_axis);
  }
};
struct CompressAttributes {
  std::optional<int64_t> axis;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
  }
};

}  // namespace sardonyx
