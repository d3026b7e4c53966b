// Brings every node of a graph, bodies included, to the canonical opset.
#pragma once

#include "graph/graph.h"

namespace sardonyx {

// `graph` has inferred types. Each node whose operator changed meaning between its version and the
// canonical one is rewritten by the rules of onnx_import/upgrade/, one version step at a time.
// UnsupportedError names a node whose rule needs a rank or a constant that is not known.
GraphPtr upgrade_graph(const GraphPtr& graph);

}  // namespace sardonyx
