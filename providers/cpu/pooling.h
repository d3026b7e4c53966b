// What the kernels of MaxPool, AveragePool and LpPool share.
#pragma once

#include "ops/pooling.h"
#include "providers/cpu/support/window.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

enum class Pooling { Max, Average, Lp };

// A validated pooling of `planes` images.
struct PoolShape {
  Pooling kind = Pooling::Max;
  int64_t planes = 0;
  Window window;
  Dims dims;                       // of Y
  bool count_include_pad = false;  // Average
  int64_t p = 2;                   // Lp
  bool column_major = false;       // Max: the order of Indices within a plane
  // How many elements of the padded input (Average with count_include_pad) or of the input itself the window
  // at position `o` of dimension i covers.
  int64_t covered(size_t i, int64_t o) const {
    const int64_t start = o * window.stride[i] - window.pad_begin[i];
    if (count_include_pad)
      return std::clamp<int64_t>(ceil_div(window.in[i] + window.pad_end[i] - start, window.dilation[i]), 0,
                                 window.kernel[i]);
    return valid_range(window.kernel[i], window.dilation[i], start, window.in[i]).size();
  }
};

PoolShape max_pool_shape(const PrepareContext& ctx);
PoolShape average_pool_shape(const PrepareContext& ctx);
PoolShape lp_pool_shape(const PrepareContext& ctx);
// A window over the whole input.
PoolShape global_pool_shape(const PrepareContext& ctx, Pooling kind, int64_t p = 2);

}  // namespace sardonyx::cpu
