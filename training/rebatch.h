// Other batches than the one that a model was exported for.
#pragma once

#include <map>
#include <string>

#include "graph/evaluate.h"
#include "graph/graph.h"

namespace sardonyx {

// The graph for any batch: where inputs have 1 as their first dimension, that becomes a symbol, and so does
// what follows from it, the constant 1 of a Reshape among it. `graph` is typed, at the canonical opset. Null
// where the first dimension of an output does not follow; `pin` then says which node fixes it. The graph
// itself when no input has such a dimension.
GraphPtr rebatch(const GraphPtr& graph, Evaluator* evaluator, std::string* pin);

// The graph as it is for inputs of these dims: what follows from them is known. Inputs that cannot have them
// stay.
GraphPtr with_dims(const GraphPtr& graph, const std::map<std::string, Dims>& dims, Evaluator* evaluator);

}  // namespace sardonyx
