// How the lower rooms run one node on host values without knowing a kernel.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace sardonyx {

class Evaluator {
 public:
  virtual ~Evaluator() = default;
  // Runs one node without bodies; inputs in the node's order, undefined where omitted. Throws Error when
  // it cannot.
  virtual std::vector<Value> evaluate(const Graph& graph, const Node& node,
                                      const std::vector<Value>& inputs) = 0;
};

}  // namespace sardonyx
