#include "training/hoist.h"

#include <map>

#include "graph/patch.h"

namespace sardonyx {

namespace {

bool is_weight(const ValueInfo& info) {
  return info.kind == ValueKind::Constant && info.constant.is_tensor() &&
         is_float(info.constant.tensor().dtype()) && info.constant.tensor().size() > 1;
}

// Those of one body, which become captures from position `first` on; returned with their names.
std::vector<std::pair<std::string, Value>> take_out(GraphPtr& body, size_t first) {
  const GraphPtr flat = hoist_weights(body);
  Patch patch(flat);
  std::vector<std::pair<std::string, Value>> taken;
  for (size_t i = 0; i < flat->values().size(); ++i) {
    const ValueInfo& info = flat->values()[i];
    if (!is_weight(info) || flat->use_count(static_cast<ValueId>(i)) == 0) continue;
    const ValueId outside = patch.builder().capture(first + taken.size(), info.name, info.type);
    patch.replace(static_cast<ValueId>(i), outside);
    taken.emplace_back(info.name, info.constant);
  }
  body = std::move(patch).apply();
  return taken;
}

}  // namespace

GraphPtr hoist_weights(const GraphPtr& graph) {
  GraphBuilder builder(*graph);
  bool changed = false;
  for (size_t n = 0; n < graph->nodes().size(); ++n) {
    const auto id = static_cast<NodeId>(n);
    std::map<std::string, GraphPtr> bodies;
    for (const auto& [name, attribute] : graph->node(id).attributes)
      if (const auto* body = std::get_if<GraphPtr>(&attribute)) bodies[name] = *body;
    if (bodies.empty()) continue;
    std::vector<ValueId> captures = graph->node(id).captures;
    const size_t before = captures.size();
    for (auto& [name, body] : bodies)
      for (auto& [weight, value] : take_out(body, captures.size()))
        captures.push_back(builder.constant(std::move(value), weight));
    if (captures.size() == before) continue;
    changed = true;
    for (auto& [name, body] : bodies) {
      GraphBuilder widened(*body);
      widened.reserve_captures(captures.size());
      builder.node(id).attributes.set(name, std::move(widened).build());
    }
    builder.node(id).captures = std::move(captures);
  }
  return changed ? std::move(builder).build() : graph;
}

}  // namespace sardonyx
