// Which vector loop of simd.h computes an elementwise node on f32.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "providers/cpu/support/simd.h"

namespace sardonyx::cpu {

// One of unary, with its parameters, and binary is set.
struct RowOp {
  std::optional<simd::Unary> unary;
  float a = 0, b = 0;
  std::optional<simd::Binary> binary;
};

// Nothing for an operator without a loop, and for parameters that are no constants of the graph.
std::optional<RowOp> row_op(const Graph& graph, const Node& node);
// The operators that have loops, with their domains.
const std::vector<std::pair<std::string, std::string>>& row_op_names();

}  // namespace sardonyx::cpu
