#include "api/differentiable.h"

#include "autodiff/backward.h"
#include "onnx_import/upgrade.h"
#include "ops/registry/decompose.h"
#include "ops/registry/operator.h"
#include "ops/registry/schema.h"

namespace sardonyx {

GraphPtr canonical(const GraphPtr& graph, Evaluator* evaluator) {
  return infer_types(upgrade_graph(infer_types(graph, evaluator)), evaluator);
}

Arguments canonical(Arguments arguments, Evaluator* evaluator) {
  for (auto& [name, argument] : arguments) {
    auto* given = std::get_if<std::shared_ptr<const Model>>(&argument);
    if (!given) continue;
    auto model = std::make_shared<Model>(**given);
    try {
      model->graph = canonical(model->graph, evaluator);
    } catch (Error& e) {
      e.add_file(model->path);
      throw;
    }
    *given = std::move(model);
  }
  return arguments;
}

GraphPtr written_out(GraphPtr graph, const std::function<bool(const Node&)>& kept, Evaluator* evaluator) {
  // A decomposition by a function body may be written at an older opset.
  for (;;) {
    const GraphPtr next = decompose_unsupported(graph, kept, evaluator);
    if (next == graph) return graph;
    graph = infer_types(upgrade_graph(next), evaluator);
  }
}

GraphPtr differentiable(const GraphPtr& graph, Evaluator* evaluator) {
  return written_out(canonical(graph, evaluator), keeps_gradient, evaluator);
}

GraphPtr standard_operators(const GraphPtr& graph, Evaluator* evaluator) {
  const auto is_standard = [](const Node& node) { return node.domain != kOwnDomain; };
  return written_out(infer_types(graph, evaluator), is_standard, evaluator);
}

}  // namespace sardonyx
