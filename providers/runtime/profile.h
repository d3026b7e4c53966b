// What a profile says of one executed kernel.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace sardonyx {

struct Plan;
struct PlanStep;

struct NodeEvent {
  const Graph* graph;
  const Node* node;
  std::string kernel;           // "onednn+Relu": with the nodes that it computed too
  std::string inputs, outputs;  // "float[1, 3] int64[2]"
  int64_t begin_ns, end_ns;
  size_t bytes = 0;  // of inputs and outputs together
  std::optional<double>
      flops;  // by the operator's definition; of the node alone, not of those computed with it
};

// Of a step of a plan, whose dims are known from it.
NodeEvent profile_step(const Graph& graph, const Plan& plan, const PlanStep& step, int64_t begin_ns,
                       int64_t end_ns);
// Of a node whose kernel was chosen while running.
NodeEvent profile_node(const Graph& graph, const Node& node, const std::string& kernel,
                       const std::vector<Value>& inputs, const std::vector<Value>& outputs, int64_t begin_ns,
                       int64_t end_ns);

}  // namespace sardonyx
