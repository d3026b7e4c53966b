// Precision "medium": f32 graphs computed on bf16 tensors.
#pragma once

#include "graph/graph.h"

namespace sardonyx {

// The stage "lowered". Operators take and give bf16 as their Operator::narrow says, bodies included; a Cast
// stands wherever f32 and bf16 meet. Inputs, outputs, captures and variables of the graph keep their types,
// as do values of any type but f32. Types must be inferred before. The result may hold operators some of
// whose inputs are f32 beside bf16, which ONNX's schemas do not allow: types are not inferred again.
GraphPtr lower_precision(const GraphPtr& graph);

}  // namespace sardonyx
