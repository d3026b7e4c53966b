// Weights inside bodies.
#pragma once

#include "graph/graph.h"

namespace sardonyx {

// The same graph, in which the float constants of more than one element inside bodies (If, Loop, Scan, at any
// depth) are constants of the main graph that the bodies capture, so that they can be trained. They keep
// their names where those are free.
GraphPtr hoist_weights(const GraphPtr& graph);

}  // namespace sardonyx
