// The graph of a training step: forward, loss, backward, clipping, accumulation and update.
#pragma once

#include <string>
#include <vector>

#include "graph/evaluate.h"
#include "graph/graph.h"
#include "training/objective.h"
#include "training/optimizer.h"

namespace sardonyx {

// Names of the step's inputs and outputs beside the model's own.
struct StepNames {
  static std::string target(size_t i) { return "target/" + std::to_string(i); }
  static std::string hyper(size_t group) { return "hyper/" + std::to_string(group); }
  static std::string state(const std::string& state, const std::string& parameter) {
    return state + "/" + parameter;
  }
  static std::string next(const std::string& input) { return "next/" + input; }
  static std::string gradient(const std::string& parameter) { return "gradient/" + parameter; }
  static std::string accumulated(const std::string& parameter) { return "accumulated/" + parameter; }
};
inline constexpr const char* kScaleOutput = "scale";

struct StepRequest {
  struct Group {
    OptimizerRule rule;
    std::vector<std::string> parameters;
  };
  std::string loss_name;
  std::vector<Group> groups;
  double clip_norm = 0, clip_value = 0;  // 0: no clipping
  int accumulate = 1;                    // batches whose mean gradient makes an update
  bool updates = true;                   // false: a batch that only accumulates, or only gives gradients
  bool keep_gradients = true;
  std::vector<std::string> cuts;  // see recompute.h
};
// Appends the backward pass and the updates to a typed graph of with_loss that has rules for all its
// operators. An update is an output over its input (Graph::updates) and is left out where the loss or a
// gradient is not finite: the output `scale` is NaN then. Parameters that the loss does not depend on are
// taken out of the groups. UnsupportedError as for append_gradient; InputError when the loss is no scalar or
// depends on no parameter.
GraphPtr append_step(const GraphPtr& graph, StepRequest& request);

// Of such a graph with known dims: the cuts into the fewest pieces whose step has no more live_bytes than
// that. InputError when none has, with the least.
std::vector<std::string> cuts_within(const GraphPtr& graph, const StepRequest& request, double bytes,
                                     Evaluator* evaluator);

}  // namespace sardonyx
