// Attributes of the operators that sample a tensor at other positions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "graph/attributes.h"

namespace sardonyx {

struct ResizeAttributes {
  int64_t antialias = 0;
  std::optional<std::vector<int64_t>> axes;
  std::string coordinate_transformation_mode = "half_pixel";
  float cubic_coeff_a = -0.75f;
  int64_t exclude_outside = 0;
  float extrapolation_value = 0;
  std::string keep_aspect_ratio_policy = "stretch";
  std::string mode = "nearest";
  std::string nearest_mode = "round_prefer_floor";
  template <class V>
  void visit(V&& v) {
    v("antialias", antialias);
    v("axes", axes);
    v("coordinate_transformation_mode", coordinate_transformation_mode);
    v("cubic_coeff_a", cubic_coeff_a);
    v("exclude_outside", exclude_outside);
    v("extrapolation_value", extrapolation_value);
    v("keep_aspect_ratio_policy", keep_aspect_ratio_policy);
    v("mode", mode);
    v("nearest_mode", nearest_mode);
  }
};
struct UpsampleAttributes {
  std::string mode = "nearest";
  template <class V>
  void visit(V&& v) {
    v("mode", mode);
  }
};
struct GridSampleAttributes {
  int64_t align_corners = 0;
  std::string mode = "linear";
  std::string padding_mode = "zeros";
  template <class V>
  void visit(V&& v) {
    v("align_corners", align_corners);
    v("mode", mode);
    v("padding_mode", padding_mode);
  }
};
// Of the operator of this project's own that gives the derivatives of GridSample. `absolute`: the grid holds
// places of elements, not numbers between -1 and 1.
struct GridSampleBackwardAttributes : GridSampleAttributes {
  int64_t absolute = 0;
  template <class V>
  void visit(V&& v) {
    GridSampleAttributes::visit(v);
    v("absolute", absolute);
  }
};
struct AffineGridAttributes {
  int64_t align_corners = 0;
  template <class V>
  void visit(V&& v) {
    v("align_corners", align_corners);
  }
};

}  // namespace sardonyx
