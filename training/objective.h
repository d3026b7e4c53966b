// What is minimized: a sum of losses over outputs of a model and targets.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"
#include "training/loss.h"

namespace sardonyx {

// A loss of torch's, or any graph whose first output is the loss: its inputs are outputs of the model of the
// same name (where none has such a name, the first input is the model's first output), the others targets.
struct LossTerm {
  const Loss* loss = nullptr;
  Arguments arguments;
  GraphPtr graph;  // typed, at the canonical opset; instead of `loss`
  std::vector<std::string>
      predictions;  // outputs of the model for its ports, in order; empty: the first ones
  double weight = 1;
};

struct Objective {
  std::vector<LossTerm> terms;
  // Types of all targets, term after term; empty: those that are usual for each loss.
  std::vector<Type> targets;
  std::string (*target_name)(size_t) = nullptr;
};

// How many targets the terms take, given the outputs of the model.
size_t target_count(const Objective& objective, const std::vector<std::string>& outputs);

inline constexpr const char* kLossOutput = "loss";
// The forward graph, of which `outputs` are the model's outputs, with the targets as inputs and the loss as
// the first output, before those in `keep`. Returns the name of the loss in `loss_name`. Types of the new
// values are not inferred. InputError for outputs that do not exist and for too many or too few targets.
GraphPtr with_loss(const GraphPtr& forward, const Objective& objective,
                   const std::vector<std::string>& outputs, const std::vector<std::string>& keep,
                   std::string* loss_name);

// A value of its own under a name.
ValueId named_value(GraphBuilder& builder, ValueId id, const std::string& name);
// The output of that name; InputError lists the outputs.
ValueId output_named(const Graph& graph, const std::string& name);

}  // namespace sardonyx
