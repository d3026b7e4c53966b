// ONNX's own operator of differentiation.
#pragma once

#include "graph/evaluate.h"
#include "graph/graph.h"

namespace sardonyx {

// Whether a node of ai.onnx.preview.training's Gradient is among the nodes.
bool has_gradient_nodes(const Graph& graph);

// Writes one such node out, the first in order: the nodes between the tensors that `xs` and `zs` name and `y`
// are repeated for the inputs of the node, and their backward pass appended. The graph is typed, at the
// canonical opset, and prepared for gradients. Of a `y` that is no scalar it is the sum that is
// differentiated. ModelError for names that do not exist.
GraphPtr expand_gradient_node(const GraphPtr& graph);

}  // namespace sardonyx
