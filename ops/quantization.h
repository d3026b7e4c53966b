// Attributes of the quantized operators.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sardonyx {

struct QuantizeLinearAttributes {
  int64_t axis = 1, block_size = 0, output_dtype = 0, precision = 0, saturate = 1;
  template <class V> void visit(V&& v) {
    v("axis", axis); v("block_size", block_size); v("output_dtype", output_dtype);
    v("precision", precision); v("saturate", saturate);
  }
};

struct DequantizeLinearAttributes {
  int64_t axis = 1, block_size = 0, output_dtype = 0;
  template <class V> void visit(V&& v) { v("axis", axis); v("block_size", block_size); v("output_dtype", output_dtype); }
};

// ConvInteger and QLinearConv.
struct QuantizedConvAttributes {
  std::string auto_pad = "NOTSET";
  int64_t group = 1;
  std::optional<std::vector<int64_t>> dilations, kernel_shape, pads, strides;
  template <class V> void visit(V&& v) {
    v("auto_pad", auto_pad); v("group", group); v("dilations", dilations);
    v("kernel_shape", kernel_shape); v("pads", pads); v("strides", strides);
  }
};

}  // namespace sardonyx
