// Values that shapes depend on, as far as they are known before a run.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace sardonyx {

struct PartialInt {
  std::optional<int64_t> value;
  std::string symbol;  // a dimension's name, when that is what is known
};

// What is known of an integer tensor of rank 0 or 1.
struct PartialValue {
  std::vector<PartialInt> elements;
  bool scalar = false;
  bool complete() const;
};

// The partial value of a node's first output, from those of its inputs (null where nothing is known) and
// their types; nothing when the operator is not one that shape arithmetic uses.
std::optional<PartialValue> propagate_value(const Graph& graph, const Node& node,
                                            const std::vector<const PartialValue*>& inputs);

// Whether a node reads no more of its input than its dims or length: the input may be of any dtype, and need
// not be there any more.
bool measures(const Node& node);

// Of an integer tensor of rank 0 or 1 with at most 1024 elements.
std::optional<PartialValue> partial_value_of(const Tensor& tensor);

}  // namespace sardonyx
