#include "training/rebatch.h"

#include <algorithm>
#include <set>

#include "graph/builder.h"
#include "ops/registry/schema.h"
#include "sardonyx/error.h"

namespace sardonyx {

namespace {

constexpr const char* kBatch = "batch";

bool leads(const Graph& graph, ValueId id) {
  if (id == kNone) return false;
  const auto& shape = graph.value(id).type.shape;
  return shape && !shape->empty() && !shape->front().known() && shape->front().symbol == kBatch;
}

bool follows(const Graph& graph, ValueId id) {
  if (id == kNone) return false;
  const auto& shape = graph.value(id).type.shape;
  return !shape || std::any_of(shape->begin(), shape->end(), [](const Dim& d) { return !d.known(); });
}

// Reshape to {1, ...} of something that the batch leads takes that dimension as it comes. Returns whether one
// was found.
bool free_reshapes(GraphBuilder& builder) {
  bool found = false;
  const size_t nodes = builder.graph().nodes().size();
  for (size_t n = 0; n < nodes; ++n) {
    const auto id = static_cast<NodeId>(n);
    const Node& node = builder.graph().node(id);
    if (!node.is("Reshape") || node.inputs.size() < 2 || !leads(builder.graph(), node.inputs[0])) continue;
    const ValueInfo& target = builder.graph().value(node.inputs[1]);
    if (target.kind != ValueKind::Constant || node.attributes.get<int64_t>("allowzero", 0) != 0) continue;
    std::vector<int64_t> dims = target.constant.tensor().to_int64s();
    if (dims.empty() || dims[0] != 1) continue;
    dims[0] = 0;
    const ValueId freed = builder.constant(Tensor::of(dims), target.name);
    builder.node(id).inputs[1] = freed;
    found = true;
  }
  return found;
}

// Types of what nodes make are found anew.
GraphPtr inferred(GraphBuilder&& builder, Evaluator* evaluator) {
  for (size_t i = 0; i < builder.graph().values().size(); ++i)
    if (ValueInfo& info = builder.info(static_cast<ValueId>(i));
        info.kind == ValueKind::Transient && info.type.is_tensor())
      info.type.shape.reset();
  return infer_types(std::move(builder).build(), evaluator);
}

std::string first_pin(const Graph& graph) {
  for (const Node& node : graph.nodes())
    if (std::any_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) { return leads(graph, id); }) &&
        std::none_of(node.outputs.begin(), node.outputs.end(),
                     [&](ValueId id) { return follows(graph, id); }))
      return describe(graph, node);
  return "its outputs";
}

}  // namespace

GraphPtr rebatch(const GraphPtr& graph, Evaluator* evaluator, std::string* pin) {
  GraphBuilder builder(*graph);
  bool fixed = false;
  for (const ValueId id : graph->inputs()) {
    Type& type = builder.info(id).type;
    if (!type.is_tensor() || !type.shape || type.shape->size() < 2) continue;
    Dim& first = type.shape->front();
    if (!first.known() || first.value != 1) continue;
    first = Dim(kBatch);
    fixed = true;
  }
  if (!fixed) return graph;
  try {
    GraphPtr next = inferred(std::move(builder), evaluator);
    for (;;) {
      GraphBuilder again(*next);
      if (!free_reshapes(again)) break;
      next = inferred(std::move(again), evaluator);
    }
    for (const ValueId id : next->outputs()) {
      const auto& shape = next->value(id).type.shape;
      if (shape && !shape->empty() && shape->front().known() && shape->front().value == 1) {
        *pin = first_pin(*next);
        return nullptr;
      }
    }
    return next;
  } catch (const Error& e) {
    *pin = e.parts().node.empty() ? e.what() : e.parts().node;
    return nullptr;
  }
}

GraphPtr with_dims(const GraphPtr& graph, const std::map<std::string, Dims>& dims, Evaluator* evaluator) {
  GraphBuilder builder(*graph);
  for (const ValueId id : graph->inputs()) {
    const auto it = dims.find(graph->value(id).name);
    if (it == dims.end()) continue;
    Shape shape(it->second.begin(), it->second.end());
    const auto& declared = graph->value(id).type.shape;
    const auto fits = [](const Dim& a, const Dim& b) { return !a.known() || a.value == b.value; };
    if (declared && !std::equal(declared->begin(), declared->end(), shape.begin(), shape.end(), fits))
      continue;
    builder.info(id).type.shape = std::move(shape);
  }
  return inferred(std::move(builder), evaluator);
}

}  // namespace sardonyx
