// What the kernels of Conv and ConvTranspose share.
#pragma once

#include "ops/convolution.h"
#include "providers/cpu/support/window.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

// A validated convolution: X [batch, groups * in_channels, ...], Y [batch, groups * out_channels, ...].
struct ConvShape {
  int64_t batch = 0, groups = 1;
  int64_t in_channels = 0, out_channels = 0;  // of one group
  bool transposed = false;
  bool bias = false;
  Window window;  // of a transposed convolution: from Y (window.in) to X (window.out)
  const Dims& x_spatial() const { return transposed ? window.out : window.in; }
  const Dims& y_spatial() const { return transposed ? window.in : window.out; }
  Dims x_dims() const { return with_channels(in_channels, x_spatial()); }
  Dims y_dims() const { return with_channels(out_channels, y_spatial()); }
  bool empty() const;  // some dimension of X, W or Y is 0

 private:
  Dims with_channels(int64_t channels, const Dims& spatial) const {
    Dims dims = {batch, groups * channels};
    dims.insert(dims.end(), spatial.begin(), spatial.end());
    return dims;
  }
};

// Reads and checks the attributes and inputs X, W, B of a Conv or ConvTranspose.
ConvShape conv_shape(const PrepareContext& ctx);
ConvShape conv_transpose_shape(const PrepareContext& ctx);
// The convolution of X that ConvBackwardWeights(X, dY, shape of W) belongs to.
ConvShape conv_backward_weights_shape(const PrepareContext& ctx);
// What ConvBackwardWeights and ConvBackwardBias make: f32 where the graph says so, also of bf16, else the
// dtype of input 0.
DType weights_gradient_dtype(const PrepareContext& ctx);

// Plain loops over input 0 and the weights in input 1, for any float type.
Prepared prepare_convolution_ref(PrepareContext& ctx, ConvShape (*read)(const PrepareContext&));

}  // namespace sardonyx::cpu
