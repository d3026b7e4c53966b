// How much arithmetic a node takes.
#pragma once

#include <optional>

#include "graph/graph.h"
#include "ops/registry/operator.h"

namespace sardonyx {

// By the definition of the node's operator (Operator::flops); nothing where it has none, as operators whose
// time is that of moving their data, or where a shape that counts is not known.
std::optional<double> node_flops(const Node& node, const PortDims& inputs, const PortDims& outputs);
// From the shapes that the graph knows; operators without a definition count one operation for each output
// element.
std::optional<double> node_flops(const Graph& graph, const Node& node);

// Number of elements of dims[from...]; 1 when there are none.
double elements_from(const Dims& dims, size_t from = 0);

}  // namespace sardonyx
