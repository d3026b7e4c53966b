#include "ops/registry/fusion.h"

#include <algorithm>

#include "ops/registry/schema.h"

namespace sardonyx {

void register_all_fusions(FusionRegistry& registry);

const FusionRegistry& FusionRegistry::instance() {
  static const FusionRegistry registry = [] {
    FusionRegistry all;
    register_all_fusions(all);
    std::stable_sort(all.fusions_.begin(), all.fusions_.end(),
                     [](const Fusion& a, const Fusion& b) { return a.order < b.order; });
    return all;
  }();
  return registry;
}

namespace {

int count_unsupported(const Graph& graph, const std::function<bool(const Node&)>& supported) {
  int count = 0;
  for (const Node& node : graph.nodes()) {
    count += !supported(node);
    for (const auto& [name, attribute] : node.attributes)
      if (const auto* body = std::get_if<GraphPtr>(&attribute)) count += count_unsupported(**body, supported);
  }
  return count;
}

}  // namespace

GraphPtr fuse(GraphPtr graph, Evaluator* evaluator, const FusionOptions& options) {
  constexpr int kMaxRounds = 16;
  const GraphPtr given = graph;
  for (const Fusion& fusion : FusionRegistry::instance().all()) {
    if (options.disabled.count(fusion.name)) continue;
    GraphPtr after = graph;
    for (int round = 0; round < kMaxRounds; ++round) {
      const GraphPtr next = fusion.rewrite(after);
      if (next == after) break;
      after = next;
    }
    if (after == graph ||
        count_unsupported(*after, options.supported) > count_unsupported(*graph, options.supported))
      continue;
    if (options.report) options.report(fusion, *graph, *after);
    graph = after;
  }
  return graph == given ? graph : infer_types(graph, evaluator);
}

}  // namespace sardonyx
