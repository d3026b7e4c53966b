// Appends the backward graph to a forward graph.
#pragma once

#include <string>
#include <vector>

#include "graph/builder.h"

namespace sardonyx {

// Reverse-mode differentiation by the rules of the operators (Operator::differentiates). For cotangents of
// `outputs` it appends what gives the cotangents of `wrt`, and returns them in that order; kNone for a value
// that the outputs do not depend on. The builder's graph is typed, at the canonical opset and in topological
// order; every operator on the way has a rule (see keeps_gradient). UnsupportedError names at once all
// nodes that have none, with the reasons.
std::vector<ValueId> append_gradient(GraphBuilder& builder, const std::vector<ValueId>& outputs,
                                     const std::vector<ValueId>& cotangents, const std::vector<ValueId>& wrt);

// The same from a scalar loss. InputError when it is no scalar.
std::vector<ValueId> append_loss_gradient(GraphBuilder& builder, ValueId loss,
                                          const std::vector<ValueId>& wrt);

// Whether a node is differentiated as it stands: it has a rule, or a reason to have none. Others have the
// gradient of their decomposition.
bool keeps_gradient(const Node& node);

}  // namespace sardonyx
