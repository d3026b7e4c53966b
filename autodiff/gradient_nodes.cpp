#include "autodiff/gradient_nodes.h"

#include <algorithm>
#include <unordered_map>

#include "autodiff/backward.h"
#include "graph/patch.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

bool is_gradient(const Node& node) { return node.is("Gradient", "ai.onnx.preview.training"); }

// Repeats the nodes behind `values`' keys with what they map to; later lookups find the repeated values.
void repeat(GraphBuilder& builder, const Graph& graph, NodeId until,
            std::unordered_map<ValueId, ValueId>& values) {
  const std::unordered_map<ValueId, ValueId> leaves = values;
  for (NodeId n = 0; n < until; ++n) {
    Node copy = graph.node(n);
    bool behind = false;
    for (auto* ids : {&copy.inputs, &copy.captures})
      for (ValueId& id : *ids)
        if (const auto it = values.find(id); it != values.end()) {
          id = it->second;
          behind = true;
        }
    if (!behind) continue;
    for (ValueId& id : copy.outputs) {
      if (id == kNone) continue;
      const ValueInfo info = graph.value(id);
      const ValueId made = builder.value(info.name, info.type);
      if (!leaves.count(id)) values[id] = made;
      id = made;
    }
    builder.add(std::move(copy));
  }
}

}  // namespace

bool has_gradient_nodes(const Graph& graph) {
  return std::any_of(graph.nodes().begin(), graph.nodes().end(), is_gradient);
}

GraphPtr expand_gradient_node(const GraphPtr& graph) {
  const auto found = std::find_if(graph->nodes().begin(), graph->nodes().end(), is_gradient);
  if (found == graph->nodes().end()) return graph;
  const Node& node = *found;
  const auto id = static_cast<NodeId>(found - graph->nodes().begin());
  try {
    const auto xs = node.attributes.get<std::vector<std::string>>("xs", {});
    const auto zs = node.attributes.get<std::vector<std::string>>("zs", {});
    const auto value_named = [&](const std::string& name) {
      const ValueId value = graph->find(name);
      if (value == kNone) throw ModelError("attributes of Gradient", "names of tensors", "'" + name + "'");
      return value;
    };
    if (node.inputs.size() != xs.size() + zs.size())
      throw ModelError("inputs", std::to_string(xs.size() + zs.size()) + " (xs and zs)",
                       std::to_string(node.inputs.size()));
    Patch patch(graph);
    GraphBuilder& builder = patch.builder();
    std::unordered_map<ValueId, ValueId> values;
    std::vector<ValueId> wrt;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const bool varies = i < xs.size();
      const ValueId at = builder.ops(varies ? "Identity" : "StopGradient", {node.inputs[i]}, 1, {},
                                     varies ? "" : kOwnDomain)[0];
      builder.info(at).type = graph->value(node.inputs[i]).type;
      values[value_named(varies ? xs[i] : zs[i - xs.size()])] = at;
      if (varies) wrt.push_back(at);
    }
    repeat(builder, *graph, id, values);
    const ValueId y = value_named(node.attributes.get<std::string>("y", ""));
    if (!values.count(y))
      throw ModelError("attribute 'y'", "a tensor that xs and zs give", graph->value(y).name);
    const ValueId ones = builder.op("CastLike", {builder.constant(Tensor::scalar(1.0f)), values[y]});
    const ValueId seed = builder.op("Expand", {ones, builder.op("Shape", {values[y]})});
    const std::vector<ValueId> gradients = append_gradient(builder, {values[y]}, {seed}, wrt);
    for (size_t i = 0; i < xs.size(); ++i) {
      if (node.output(i) == kNone) continue;
      const ValueId gradient = gradients[i] == kNone
                                   ? zero_cotangent(builder, wrt[i], Type(builder.info(wrt[i]).type))
                                   : gradients[i];
      patch.replace(node.outputs[i], gradient);
    }
    patch.remove(id);
    return std::move(patch).apply();
  } catch (Error& e) {
    e.add_node(describe(*graph, node));
    throw;
  }
}

}  // namespace sardonyx
