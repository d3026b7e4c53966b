#include "ops/registry/decompose.h"

#include "graph/bodies.h"
#include "graph/patch.h"
#include "ops/registry/operator.h"
#include "ops/registry/schema.h"

namespace sardonyx {

namespace {

GraphPtr decompose_once(const GraphPtr& graph, const std::function<bool(const Node&)>& supported) {
  Patch patch(graph);
  rewrite_bodies(patch, [&](const GraphPtr& body) { return decompose_once(body, supported); });
  for (size_t n = 0; n < graph->nodes().size(); ++n) {
    const Node& node = graph->nodes()[n];
    if (supported(node)) continue;
    const Operator* op = OperatorRegistry::instance().find(node.domain, node.op);
    if (!op || !op->decompose) continue;
    std::vector<ValueId> outputs;
    try {
      const size_t first = patch.builder().graph().nodes().size();
      Compose compose(patch.builder(), node, node.stream);
      outputs = op->decompose(compose);
      for (size_t i = first; i < patch.builder().graph().nodes().size(); ++i)
        patch.builder().node(static_cast<NodeId>(i)).stream = node.stream;
    } catch (Error& e) {
      e.add_node(describe(*graph, node));
      throw;
    }
    if (outputs.empty()) continue;
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i] != kNone) {
        if (i >= outputs.size() || outputs[i] == kNone) {
          UnsupportedError error("decomposition", "output " + std::to_string(i), "none");
          error.add_node(describe(*graph, node));
          throw error;
        }
        patch.replace(node.outputs[i], outputs[i]);
      }
    patch.remove(static_cast<NodeId>(n));
  }
  return std::move(patch).apply();
}

}  // namespace

GraphPtr decompose_unsupported(const GraphPtr& graph, const std::function<bool(const Node&)>& supported,
                               Evaluator* evaluator) {
  constexpr int kMaxRounds = 16;
  GraphPtr current = graph;
  for (int round = 0; round < kMaxRounds; ++round) {
    GraphPtr next = decompose_once(current, supported);
    if (next == current) return current;
    current = infer_types(next, evaluator);
  }
  return current;
}

}  // namespace sardonyx
