// What the backward kernels of MaxPool and AveragePool share.
#pragma once

#include "providers/cpu/pooling.h"

namespace sardonyx::cpu {

// MaxPoolBackward(dY, X) and AveragePoolBackward(dY, shape of X): the pooling of X, which gives dims like dY.
PoolShape max_pool_backward_shape(const PrepareContext& ctx);
PoolShape average_pool_backward_shape(const PrepareContext& ctx);

}  // namespace sardonyx::cpu
