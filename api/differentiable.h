// From an imported graph to one whose gradient can be appended, or that other engines understand.
#pragma once

#include <functional>

#include "graph/evaluate.h"
#include "graph/graph.h"
#include "sardonyx/arguments.h"

namespace sardonyx {

// Typed, at the canonical opset. Values that remain keep their names.
GraphPtr canonical(const GraphPtr& graph, Evaluator* evaluator);

// The same arguments with the graphs of models canonical.
Arguments canonical(Arguments arguments, Evaluator* evaluator);

// A typed graph in which every operator for which `kept` says no is written out, as far as it can be, at the
// canonical opset.
GraphPtr written_out(GraphPtr graph, const std::function<bool(const Node&)>& kept, Evaluator* evaluator);

// Canonical, and every operator that has no gradient rule written out as ones that have, as far as it can be.
GraphPtr differentiable(const GraphPtr& graph, Evaluator* evaluator);

// The same graph without operators of kOwnDomain.
GraphPtr standard_operators(const GraphPtr& graph, Evaluator* evaluator);

}  // namespace sardonyx
