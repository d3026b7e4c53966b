// From an imported graph to one whose gradient can be appended, or that other engines understand.
#pragma once

#include <functional>

#include "graph/evaluate.h"
#include "graph/graph.h"
#include "sardonyx/trainer.h"
#include "training/objective.h"

namespace sardonyx {

// Typed, at the canonical opset. Values that remain keep their names.
GraphPtr canonical(const GraphPtr& graph, Evaluator* evaluator);

// The same arguments with the graphs of models canonical.
Arguments canonical(Arguments arguments, Evaluator* evaluator);

// The terms of `options.losses`, or of the one loss where there are none, of TrainerOptions or
// GradientOptions.
template <typename Options>
std::vector<LossTerm> loss_terms(const Options& options, Evaluator* evaluator) {
  std::vector<LossTerm> terms;
  std::vector<LossOptions> losses = options.losses;
  if (losses.empty()) losses.push_back({options.loss, 1, options.predictions, std::nullopt});
  for (const LossOptions& loss : losses) {
    LossTerm term{nullptr, canonical(loss.loss.arguments, evaluator), nullptr, loss.predictions, loss.weight};
    if (loss.graph)
      term.graph = canonical(loss.graph->get()->graph, evaluator);
    else
      term.loss = &find_loss(loss.loss.name);
    terms.push_back(std::move(term));
  }
  return terms;
}

// A typed graph in which every operator for which `kept` says no is written out, as far as it can be, at the
// canonical opset.
GraphPtr written_out(GraphPtr graph, const std::function<bool(const Node&)>& kept, Evaluator* evaluator);

// Canonical, and every operator that has no gradient rule written out as ones that have, as far as it can be.
GraphPtr differentiable(const GraphPtr& graph, Evaluator* evaluator);

// The same graph without operators of kOwnDomain.
GraphPtr standard_operators(const GraphPtr& graph, Evaluator* evaluator);

}  // namespace sardonyx
