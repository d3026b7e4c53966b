// What the kernels of ConvInteger and QLinearConv share.
#pragma once

#include "ops/convolution.h"
#include "providers/cpu/quantization.h"
#include "providers/cpu/support/window.h"

namespace sardonyx::cpu {

// Which inputs of the node are what.
struct ConvPorts {
  size_t x, w, x_zero, w_zero;
  // QLinearConv only.
  size_t x_scale = 0, w_scale = 0, y_scale = 0, y_zero = 0, bias = 0;
  bool quantized() const { return y_scale != 0; }
};
inline constexpr ConvPorts kConvInteger{0, 1, 2, 3};
inline constexpr ConvPorts kQLinearConv{0, 3, 2, 5, 1, 4, 6, 7, 8};

struct IntegerConvolution {
  ConvPorts ports;
  int64_t batch = 0, groups = 1, in = 0, out = 0;  // channels of one group
  Window window;
  DType x_dtype, w_dtype, y_dtype = DType::Int32;
  Dims y_dims;
  int64_t x_plane = 1, y_plane = 1, taps = 1;
  int64_t in_channels() const { return groups * in; }
  int64_t out_channels() const { return groups * out; }
  bool empty() const { return element_count(y_dims) == 0 || in == 0 || x_plane == 0; }
};

// Reads and checks the attributes and inputs of a node.
IntegerConvolution integer_convolution(const PrepareContext& ctx, const ConvPorts& ports);

}  // namespace sardonyx::cpu
