// From an imported model to a graph that is ready to run.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "graph/evaluate.h"
#include "graph/graph.h"
#include "ops/registry/fusion.h"
#include "providers/provider.h"
#include "sardonyx/session.h"

namespace sardonyx {

// In order: "imported", "inferred", "upgraded", "simplified", "decomposed", "fused", "lowered".
const std::vector<std::string>& stage_names();

// What a caller is told of an input or output.
ValueDescription describe_value(const ValueInfo& info);

// What is expected in the place of an unknown name: "one of 'x', 'mask'", and the nearest where one is near.
std::string suggest(const std::string& name, const std::vector<ValueDescription>& known);

// A simplified graph after the fusions and what they make possible, round after round.
GraphPtr fused(GraphPtr graph, Evaluator& evaluator, const FusionOptions& options);

struct Pipeline {
  std::vector<std::shared_ptr<Provider>> providers;
  std::shared_ptr<Provider> host;
  std::unique_ptr<Evaluator> evaluator;
  explicit Pipeline(const std::vector<std::string>& provider_names);
  // The graph at a stage, prepared for these options. Errors carry the file's name.
  GraphPtr run(const Model& model, const SessionOptions& options,
               const std::string& last_stage = stage_names().back()) const;
};

}  // namespace sardonyx
