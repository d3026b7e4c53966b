// Which opset versions a graph may be written in.
#pragma once

#include <onnx/defs/schema.h>

#include <map>
#include <string>

#include "graph/graph.h"

namespace sardonyx {

// The opset versions of its domain in which a node means what it means where it stands.
struct OpsetRange {
  int lowest = 0, highest = 0;
};
OpsetRange opset_range(const Graph& graph, const Node& node);

// The opset of every domain that the nodes use (bodies included), ai.onnx always among them: the lowest
// that fits, but not below what other engines read today unless the graph needs it. `forced` is that of
// ai.onnx, 0: choose. UnsupportedError names the node that forbids it, or two nodes that exclude each other.
std::map<std::string, int> choose_opsets(const Graph& graph, int forced);

// The lowest IR version that has the opsets and element types.
int choose_ir(const std::map<std::string, int>& opsets, const Graph& graph);

// The schema in force, or null.
const onnx::OpSchema* schema_at(const std::string& domain, const std::string& name, int version);

}  // namespace sardonyx
