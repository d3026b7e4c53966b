// Giving a classifier other classes.
#pragma once

#include <string>

#include "graph/graph.h"

namespace sardonyx {

// The graph with a new last layer: the product (Gemm, MatMul with or without Add, or a 1 x 1 Conv) that an
// output comes from, through activations and operators that only move elements, gives `classes` numbers
// instead of what it gave. Weights and bias keep their names and are drawn from U(-1/sqrt(k), 1/sqrt(k)), k
// the inputs of the layer, as torch.nn.Linear does. A Softmax, LogSoftmax or Sigmoid behind the layer goes:
// the output gives logits. `output` may be empty for the first one. InputError when there is no such layer or
// another node reads what it gives.
GraphPtr replace_head(const GraphPtr& graph, int64_t classes, uint64_t seed, const std::string& output);

}  // namespace sardonyx
