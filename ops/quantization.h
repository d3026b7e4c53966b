// Attributes of the quantized operators.
#pragma once

#include <cstdint>

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

}  // namespace sardonyx
