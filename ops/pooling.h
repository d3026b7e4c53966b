// Attribute structs of the poolings.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "graph/attributes.h"

namespace sardonyx {

// What MaxPool, AveragePool and LpPool have in common. kernel_shape is required.
struct PoolAttributes {
  std::string auto_pad = "NOTSET";
  int64_t ceil_mode = 0;
  std::optional<std::vector<int64_t>> dilations, kernel_shape, pads, strides;
  template <class V>
  void visit(V&& v) {
    v("auto_pad", auto_pad);
    v("ceil_mode", ceil_mode);
    v("dilations", dilations);
    v("kernel_shape", kernel_shape);
    v("pads", pads);
    v("strides", strides);
  }
};

struct MaxPoolAttributes : PoolAttributes {
  int64_t storage_order = 0;
  template <class V>
  void visit(V&& v) {
    PoolAttributes::visit(v);
    v("storage_order", storage_order);
  }
};

struct AveragePoolAttributes : PoolAttributes {
  int64_t count_include_pad = 0;
  template <class V>
  void visit(V&& v) {
    PoolAttributes::visit(v);
    v("count_include_pad", count_include_pad);
  }
};

struct LpPoolAttributes : PoolAttributes {
  int64_t p = 2;
  template <class V>
  void visit(V&& v) {
    PoolAttributes::visit(v);
    v("p", p);
  }
};

struct GlobalLpPoolAttributes {
  int64_t p = 2;
  template <class V>
  void visit(V&& v) {
    v("p", p);
  }
};

struct MaxUnpoolAttributes {
  std::optional<std::vector<int64_t>> kernel_shape, pads, strides;
  template <class V>
  void visit(V&& v) {
    v("kernel_shape", kernel_shape);
    v("pads", pads);
    v("strides", strides);
  }
};

struct MaxRoiPoolAttributes {
  float spatial_scale = 1;
  std::optional<std::vector<int64_t>> pooled_shape;  // required
  template <class V>
  void visit(V&& v) {
    v("spatial_scale", spatial_scale);
    v("pooled_shape", pooled_shape);
  }
};

struct RoiAlignAttributes {
  std::string coordinate_transformation_mode = "half_pixel", mode = "avg";
  int64_t output_height = 1, output_width = 1, sampling_ratio = 0;
  float spatial_scale = 1;
  template <class V>
  void visit(V&& v) {
    v("coordinate_transformation_mode", coordinate_transformation_mode);
    v("mode", mode);
    v("output_height", output_height);
    v("output_width", output_width);
    v("sampling_ratio", sampling_ratio);
    v("spatial_scale", spatial_scale);
  }
};

}  // namespace sardonyx
