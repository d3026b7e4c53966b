#include "graph/bodies.h"

#include <algorithm>

namespace sardonyx {

bool has_bodies(const Node& node) {
  return std::any_of(node.attributes.begin(), node.attributes.end(),
                     [](const auto& entry) { return std::holds_alternative<GraphPtr>(entry.second); });
}

void rewrite_bodies(Patch& patch, const std::function<GraphPtr(const GraphPtr&)>& pass) {
  const Graph& graph = patch.before();
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.nodes()[n];
    if (!has_bodies(node)) continue;
    std::vector<std::pair<std::string, GraphPtr>> changed;
    std::vector<char> still_used(node.captures.size(), 0);
    for (const auto& [name, attribute] : node.attributes) {
      const auto* body = std::get_if<GraphPtr>(&attribute);
      if (!body) continue;
      GraphPtr next = *body;
      const auto binds = [&](size_t i) {
        return i < next->captures().size() && next->captures()[i] != kNone && node.captures[i] != kNone &&
               graph.is_constant(node.captures[i]);
      };
      bool any = false;
      for (size_t i = 0; i < node.captures.size(); ++i) any = any || binds(i);
      if (any) {
        GraphBuilder builder(*next);
        for (size_t i = 0; i < node.captures.size(); ++i)
          if (binds(i)) builder.bind_capture(i, graph.value(node.captures[i]).constant);
        next = std::move(builder).build();
      }
      next = pass(next);
      for (size_t i = 0; i < node.captures.size(); ++i)
        if (i < next->captures().size() && next->captures()[i] != kNone) still_used[i] = 1;
      if (next != *body) changed.emplace_back(name, next);
    }
    if (changed.empty()) continue;
    Node& writable = patch.builder().node(static_cast<NodeId>(n));
    for (auto& [name, body] : changed) writable.attributes.set(name, body);
    for (size_t i = 0; i < writable.captures.size(); ++i)
      if (!still_used[i]) writable.captures[i] = kNone;
  }
}

}  // namespace sardonyx
