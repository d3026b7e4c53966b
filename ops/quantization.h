// Attributes of the quantized operators.
#pragma once

#include <cstdint>
#include <optional>

#include "graph/graph.h"

namespace sardonyx {

struct QuantizeLinearAttributes {
  int64_t axis = 1, block_size = 0, output_dtype = 0, precision = 0, saturate = 1;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
    v("block_size", block_size);
    v("output_dtype", output_dtype);
    v("precision", precision);
    v("saturate", saturate);
  }
};

struct DequantizeLinearAttributes {
  int64_t axis = 1, block_size = 0, output_dtype = 0;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
    v("block_size", block_size);
    v("output_dtype", output_dtype);
  }
};

// The numbers of a QuantizeLinear or DequantizeLinear between f32 and 8 bits that has one constant scale and
// one constant zero point: an elementwise function. Nothing for any other node.
struct ByteScale {
  DType dtype;  // of the integers
  float scale;
  int32_t zero;
};
std::optional<ByteScale> byte_scale(const Graph& graph, const Node& node);

}  // namespace sardonyx
