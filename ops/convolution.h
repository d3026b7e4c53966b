// Attribute structs of the convolutions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "graph/attributes.h"

namespace sardonyx {

struct FlopPorts;
// Operations of a convolution whose weights are input `weights`: every weight of an output's channel is used
// for it.
std::optional<double> conv_flops(const FlopPorts& ports, size_t weights);

struct ConvAttributes {
  std::string auto_pad = "NOTSET";
  int64_t group = 1;
  std::optional<std::vector<int64_t>> dilations, kernel_shape, pads, strides;
  template <class V>
  void visit(V&& v) {
    v("auto_pad", auto_pad);
    v("group", group);
    v("dilations", dilations);
    v("kernel_shape", kernel_shape);
    v("pads", pads);
    v("strides", strides);
  }
};

struct ConvTransposeAttributes : ConvAttributes {
  std::optional<std::vector<int64_t>> output_padding, output_shape;
  template <class V>
  void visit(V&& v) {
    ConvAttributes::visit(v);
    v("output_padding", output_padding);
    v("output_shape", output_shape);
  }
};

// Of ConvBackwardData and ConvBackwardWeights: those of the convolution whose derivatives they are, with its
// pads as numbers.
struct ConvBackwardAttributes {
  int64_t group = 1;
  std::optional<std::vector<int64_t>> dilations, pads, strides;
  template <class V>
  void visit(V&& v) {
    v("group", group);
    v("dilations", dilations);
    v("pads", pads);
    v("strides", strides);
  }
};

struct DeformConvAttributes {
  int64_t group = 1, offset_group = 1;
  std::optional<std::vector<int64_t>> dilations, kernel_shape, pads, strides;
  template <class V>
  void visit(V&& v) {
    v("group", group);
    v("offset_group", offset_group);
    v("dilations", dilations);
    v("kernel_shape", kernel_shape);
    v("pads", pads);
    v("strides", strides);
  }
};

struct CausalConvWithStateAttributes {
  std::string activation = "none";
  template <class V>
  void visit(V&& v) {
    v("activation", activation);
  }
};

struct Col2ImAttributes {
  std::optional<std::vector<int64_t>> dilations, pads, strides;
  template <class V>
  void visit(V&& v) {
    v("dilations", dilations);
    v("pads", pads);
    v("strides", strides);
  }
};

}  // namespace sardonyx
