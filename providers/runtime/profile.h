// What a profile says of one executed kernel.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace sardonyx {

struct Plan;

struct NodeEvent {
  const Graph* graph;
  const Node* node;
  int64_t begin_ns, end_ns;
  // Set: what follows is found in step `step` of it, by complete(). Saying it while the graph runs would take
  // time that an enclosing event shows.
  std::shared_ptr<const Plan> plan;
  size_t step = 0;

  std::string kernel;           // "onednn+Relu": with the nodes that it computed too
  std::string inputs, outputs;  // "float[1, 3] int64[2]"
  size_t bytes = 0;             // of inputs and outputs together
  std::optional<double>
      flops;  // by the operator's definition; of the node alone, not of those computed with it
};

// Of a step of a plan.
NodeEvent profile_step(const Graph& graph, std::shared_ptr<const Plan> plan, size_t step, int64_t begin_ns,
                       int64_t end_ns);
void complete(NodeEvent& event);
// Of a node whose kernel was chosen while running.
NodeEvent profile_node(const Graph& graph, const Node& node, const std::string& kernel,
                       const std::vector<Value>& inputs, const std::vector<Value>& outputs, int64_t begin_ns,
                       int64_t end_ns);

}  // namespace sardonyx
