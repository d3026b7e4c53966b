// Writing operators out as simpler ones.
#pragma once

#include <functional>

#include "graph/evaluate.h"
#include "graph/graph.h"

namespace sardonyx {

// Replaces each node for which `supported` says no by its decomposition, until nothing changes; types are
// inferred after each round. Nodes without a decomposition stay.
GraphPtr decompose_unsupported(const GraphPtr& graph, const std::function<bool(const Node&)>& supported,
                               Evaluator* evaluator);

}  // namespace sardonyx
