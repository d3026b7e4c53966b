// Sizes that are known although the tensor they were asked of is not.
#include <algorithm>
#include <utility>

#include "graph/bodies.h"
#include "ops/registry/match.h"
#include "ops/registry/propagate.h"

namespace sardonyx {

namespace {

Value to_tensor(const PartialValue& known, DType dtype) {
  std::vector<int64_t> wide;
  std::vector<int32_t> narrow;
  for (const PartialInt& e : known.elements) {
    wide.push_back(*e.value);
    narrow.push_back(static_cast<int32_t>(*e.value));
  }
  const Dims dims = known.scalar ? Dims{} : Dims{static_cast<int64_t>(wide.size())};
  return dtype == DType::Int64 ? Tensor::of(wide, dims) : Tensor::of(narrow, dims);
}

// Integer arithmetic on a Shape whose result does not depend on unknown dimensions becomes a constant.
GraphPtr fold_shapes(const GraphPtr& graph) {
  LazyPatch patch(graph);
  if (std::any_of(graph->nodes().begin(), graph->nodes().end(), has_bodies))
    rewrite_bodies(patch.get(), fold_shapes);
  std::vector<std::optional<PartialValue>> known(graph->values().size());
  for (size_t i = 0; i < known.size(); ++i) {
    const ValueInfo& info = graph->values()[i];
    if (info.kind == ValueKind::Constant && info.constant.is_tensor())
      known[i] = partial_value_of(info.constant.tensor());
  }
  for (const Node& node : graph->nodes()) {
    if (!node.domain.empty() || node.outputs.size() != 1 || has_bodies(node)) continue;
    std::vector<const PartialValue*> inputs;
    for (const ValueId id : node.inputs) {
      const bool has = id != kNone && known[static_cast<size_t>(id)];
      inputs.push_back(has ? &*known[static_cast<size_t>(id)] : nullptr);
    }
    const ValueId out = node.outputs[0];
    auto value = propagate_value(*graph, node, inputs);
    if (!value) continue;
    const DType dtype = graph->value(out).type.dtype;
    const auto fits = [&](const PartialInt& e) {
      return dtype == DType::Int64 || std::in_range<int32_t>(*e.value);
    };
    const auto& outputs = graph->outputs();
    const bool is_output = std::find(outputs.begin(), outputs.end(), out) != outputs.end();
    if (!is_output && value->complete() && (dtype == DType::Int64 || dtype == DType::Int32) &&
        std::all_of(value->elements.begin(), value->elements.end(), fits))
      patch.get().replace(out,
                          patch.get().builder().constant(to_tensor(*value, dtype), graph->value(out).name));
    known[static_cast<size_t>(out)] = std::move(value);
  }
  return std::move(patch).apply();
}

}  // namespace

void register_shape(FusionRegistry& r) { r.add({"fold_shapes", 0, fold_shapes}); }

}  // namespace sardonyx
