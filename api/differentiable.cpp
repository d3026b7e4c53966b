#include "api/differentiable.h"

#include "autodiff/backward.h"
#include "onnx_import/upgrade.h"
#include "ops/registry/decompose.h"
#include "ops/registry/operator.h"
#include "ops/registry/schema.h"

namespace sardonyx {

GraphPtr differentiable(GraphPtr graph, Evaluator* evaluator) {
  graph = infer_types(upgrade_graph(infer_types(graph, evaluator)), evaluator);
  // A decomposition by a function body may be written at an older opset.
  for (;;) {
    const GraphPtr next = prepare_gradient(graph, evaluator);
    if (next == graph) return graph;
    graph = infer_types(upgrade_graph(next), evaluator);
  }
}

GraphPtr standard_operators(GraphPtr graph, Evaluator* evaluator) {
  graph = infer_types(graph, evaluator);
  for (;;) {
    const auto kept = [](const Node& node) { return node.domain != kOwnDomain; };
    const GraphPtr next = decompose_unsupported(graph, kept, evaluator);
    if (next == graph) return graph;
    graph = infer_types(upgrade_graph(next), evaluator);
  }
}

}  // namespace sardonyx
