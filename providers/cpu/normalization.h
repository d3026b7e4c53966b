// What the kernels of the normalizations share: validated shapes.
#pragma once

#include "ops/normalization.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

// LayerNormalization and RMSNormalization: each of `rows` runs of `n` neighbours is normalized.
struct RowNormalization {
  int64_t rows = 1, n = 1;
  size_t axis = 0;  // the first dimension of a run
  double epsilon = 0;
  bool centred = true;  // false: RMS
  bool has_bias = false;
  Dims dims;                                                // of X
  Dims reduced;                                             // of Mean and InvStdDev
  DType result = DType::Undefined, stash = DType::Float32;  // of Y; of Mean and InvStdDev
  // Scale and bias walked along X: strides of 0 where they are broadcast.
  Dims scale_strides, bias_strides;
  // Whether an operand with these strides is one dense vector, the same for every row.
  bool by_row(const Dims& strides) const;
};
RowNormalization row_normalization(const PrepareContext& ctx, bool centred);

// X as [outer, channels, inner], with statistics over outer and inner.
struct ChannelView {
  int64_t outer = 1, channels = 1, inner = 1;
  int64_t count() const { return outer * inner; }
};

struct BatchNormalization {
  ChannelView view;
  bool training = false;
  double epsilon = 0, momentum = 0;
};
BatchNormalization batch_normalization(const PrepareContext& ctx);

// Instance and group normalization: each of batch * groups runs of channels * inner neighbours.
struct GroupNormalization {
  int64_t batch = 1, groups = 1, channels = 1, inner = 1;  // channels of one group
  double epsilon = 0;
};
GroupNormalization instance_normalization(const PrepareContext& ctx);
GroupNormalization group_normalization(const PrepareContext& ctx);

// X as [outer, n, inner], normalized along n.
struct LpNormalization {
  int64_t outer = 1, n = 1, inner = 1, p = 2;
};
LpNormalization lp_normalization(const PrepareContext& ctx);

// X as [outer, channels, inner].
struct LocalResponse {
  int64_t outer = 1, channels = 1, inner = 1;
  int64_t before = 0, after = 0;        // channels of the region besides the one at hand
  float scale = 0, beta = 0, bias = 0;  // alpha / size
  double exact_scale = 0;
};
LocalResponse local_response(const PrepareContext& ctx);

// Which dimensions MeanVarianceNormalization reduces.
std::vector<bool> mean_variance_axes(const PrepareContext& ctx);
// Added to the standard deviation by its definition.
inline constexpr double kMeanVarianceEpsilon = 1e-9;

}  // namespace sardonyx::cpu
