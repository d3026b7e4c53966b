// Appends the backward graph to a forward graph.
#pragma once

#include <string>
#include <vector>

#include "graph/builder.h"
#include "graph/evaluate.h"

namespace sardonyx {

// Reverse-mode differentiation by the rules of the operators (Operator::differentiates). For cotangents of
// `outputs` it appends what gives the cotangents of `wrt`, and returns them in that order; kNone for a value
// that the outputs do not depend on. The builder's graph is typed, at the canonical opset and in topological
// order; every operator on the way has a rule (see prepare_gradient). UnsupportedError names at once all
// nodes that have none, with the reasons.
std::vector<ValueId> append_gradient(GraphBuilder& builder, const std::vector<ValueId>& outputs,
                                     const std::vector<ValueId>& cotangents, const std::vector<ValueId>& wrt);

// Decomposes the operators that have no gradient rule of their own, as far as they can be; values that
// remain keep their names, inputs and outputs their places.
GraphPtr prepare_gradient(const GraphPtr& graph, Evaluator* evaluator);

}  // namespace sardonyx
