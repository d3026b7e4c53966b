// What Det and its backward pass share.
#pragma once

#include "providers/kernel.h"

namespace sardonyx::cpu {

// The dims [..., M, M] of input X.
struct SquareMatrices {
  int64_t n;
  Dims batch;
};
SquareMatrices square_matrices(const PrepareContext& ctx, const Dims& x);

}  // namespace sardonyx::cpu
