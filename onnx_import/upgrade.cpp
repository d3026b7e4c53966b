#include "onnx_import/upgrade.h"

#include <algorithm>

#include "onnx_import/upgrade/rules.h"
#include "ops/registry/schema.h"

namespace sardonyx {

namespace {

bool has_body(const Node& node) {
  for (const auto& [name, attribute] : node.attributes)
    if (std::holds_alternative<GraphPtr>(attribute) ||
        std::holds_alternative<std::vector<GraphPtr>>(attribute))
      return true;
  return false;
}

Attributes upgrade_bodies(const Attributes& attributes) {
  Attributes result = attributes;
  for (const auto& [name, attribute] : attributes) {
    if (const auto* body = std::get_if<GraphPtr>(&attribute)) {
      result.set(name, upgrade_graph(*body));
    } else if (const auto* bodies = std::get_if<std::vector<GraphPtr>>(&attribute)) {
      std::vector<GraphPtr> upgraded;
      for (const GraphPtr& each : *bodies) upgraded.push_back(upgrade_graph(each));
      result.set(name, std::move(upgraded));
    }
  }
  return result;
}

// The first version of the operator after `version`; 0 when there is none.
int next_version(const std::vector<int>& versions, int version) {
  int next = 0;
  for (const int candidate : versions)
    if (candidate > version && (next == 0 || candidate < next)) next = candidate;
  return next;
}

// The version of the operator whose schema is in force at `opset`.
int version_in_force(const std::vector<int>& versions, int opset) {
  int in_force = 0;
  for (const int version : versions)
    if (version <= opset) in_force = std::max(in_force, version);
  return in_force;
}

void upgrade_node(Patch& patch, NodeId id) {
  const Node& before = patch.before().node(id);
  const bool body = has_body(before);
  const int canonical = canonical_opset(before.domain);
  const bool old = before.version > 0 && before.version < canonical;
  if (!body && !old) return;
  if (std::all_of(before.outputs.begin(), before.outputs.end(), [](ValueId v) { return v == kNone; })) return;

  upgrade::Rewrite rewrite(patch, id);
  Node& node = rewrite.node;
  if (body) node.attributes = upgrade_bodies(node.attributes);
  if (old) {
    int version = version_in_force(schema_versions(node.domain, node.op), node.version);
    while (!rewrite.done()) {
      const int next = next_version(schema_versions(node.domain, node.op), version);
      if (next == 0) break;
      const upgrade::Step* step = upgrade::find_step(node.domain, node.op, next);
      if (!step)
        throw UnsupportedError("no upgrade rule for " + node.op + " from opset " + std::to_string(version) +
                               " to " + std::to_string(next));
      if (step->rule) step->rule(rewrite);
      version = next;
    }
    node.version = canonical;
  }
  rewrite.commit();
}

}  // namespace

GraphPtr upgrade_graph(const GraphPtr& graph) {
  Patch patch(graph);
  for (NodeId id = 0; id < static_cast<NodeId>(graph->nodes().size()); ++id) {
    try {
      upgrade_node(patch, id);
    } catch (Error& error) {
      error.add_node(describe(*graph, graph->node(id)));
      throw;
    }
  }
  return std::move(patch).apply();
}

}  // namespace sardonyx
