// How much arithmetic a node takes.
#pragma once

#include <optional>

#include "graph/graph.h"

namespace sardonyx {

// Floating-point operations of a node (a multiply-add counts as two), where the shapes are known.
// Contractions (convolution, matmul, recurrent layers) are counted exactly, everything else as one
// operation for each output element.
std::optional<double> node_flops(const Graph& graph, const Node& node);

}  // namespace sardonyx
