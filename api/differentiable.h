// From an imported graph to one whose gradient can be appended.
#pragma once

#include "graph/evaluate.h"
#include "graph/graph.h"

namespace sardonyx {

// Typed, at the canonical opset, and every operator that has no gradient rule written out as ones that have,
// as far as it can be. Values that remain keep their names.
GraphPtr differentiable(GraphPtr graph, Evaluator* evaluator);

// The same graph without operators of kOwnDomain.
GraphPtr standard_operators(GraphPtr graph, Evaluator* evaluator);

}  // namespace sardonyx
