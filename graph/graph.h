// The operator graph: immutable once built. GraphBuilder makes one, Patch rewrites one.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/attributes.h"
#include "graph/type.h"

namespace sardonyx {

using ValueId = int32_t;
using NodeId = int32_t;
inline constexpr int32_t kNone = -1;  // an omitted optional input or output

// What a value is over the life of a session.
enum class ValueKind {
  Input,      // fed by the caller; for a body: a formal input
  Captured,   // a value of an enclosing graph
  Constant,   // never changes: folded, packed once, merged into neighbours
  Variable,   // persistent and updated in place (parameter, optimizer state, statistic, seed)
  Transient,  // made by a node in each run
};

struct ValueInfo {
  std::string name;  // unique within the graph
  Type type;         // Unknown until inferred
  ValueKind kind = ValueKind::Transient;
  Value constant;  // Constant: its value. Input: the default that a feed overrides, if defined (IR >= 4).
};

struct Node {
  std::string domain;  // "" is ai.onnx
  std::string op;      // "Conv"
  int version = 0;     // opset version of `domain` in the scope that the node was written in; 0: canonical
  std::string name;    // as in the file; may be empty or repeated
  std::vector<ValueId> inputs;   // kNone where omitted
  std::vector<ValueId> outputs;  // kNone where not wanted
  // Values of this graph that the bodies among the attributes use; body->captures() is parallel to it.
  std::vector<ValueId> captures;
  Attributes attributes;
  // Random operators: the identity of their stream, given at import and kept by every rewrite.
  uint64_t stream = 0;

  bool is(const char* op_name, const char* op_domain = "") const {
    return op == op_name && domain == op_domain;
  }
  ValueId input(size_t i) const { return i < inputs.size() ? inputs[i] : kNone; }
  ValueId output(size_t i) const { return i < outputs.size() ? outputs[i] : kNone; }
};

// "'conv1' (Conv)"; a node without a name is called by its first output.
std::string describe(const Graph& graph, const Node& node);

// Nodes stand in topological order: every input of a node is an input, capture, constant, variable or an
// output of an earlier node. Every value has exactly one producer. GraphBuilder::build and
// Patch::apply guarantee both.
class Graph {
 public:
  const std::string& name() const { return name_; }
  const std::vector<ValueInfo>& values() const { return values_; }
  const ValueInfo& value(ValueId id) const { return values_[static_cast<size_t>(id)]; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const Node& node(NodeId id) const { return nodes_[static_cast<size_t>(id)]; }
  const std::vector<ValueId>& inputs() const { return inputs_; }
  const std::vector<ValueId>& outputs() const { return outputs_; }
  // For a body: parallel to the captures of the node that holds it; kNone where this body does not use one.
  const std::vector<ValueId>& captures() const { return captures_; }
  // Outputs that a caller may write over the memory of an input (a parameter and its next value): the node
  // that makes such an output stands behind all other readers of the input.
  struct Update {
    ValueId input, output;
  };
  const std::vector<Update>& updates() const { return updates_; }
  // The node that makes a value, or kNone.
  NodeId producer(ValueId id) const { return producers_[static_cast<size_t>(id)]; }
  // How many node inputs, captures and graph outputs read a value.
  int use_count(ValueId id) const { return uses_[static_cast<size_t>(id)]; }
  bool is_constant(ValueId id) const { return id != kNone && value(id).kind == ValueKind::Constant; }
  // kNone when there is no such value.
  ValueId find(const std::string& value_name) const;

 private:
  friend class GraphBuilder;
  std::string name_;
  std::vector<ValueInfo> values_;
  std::vector<Node> nodes_;
  std::vector<ValueId> inputs_, outputs_, captures_;
  std::vector<Update> updates_;
  std::vector<NodeId> producers_;
  std::vector<int> uses_;
};

// A graph with what a file says around it. Shared by sessions; holds the weights once.
struct Model {
  GraphPtr graph;
  std::string path;  // empty for bytes
  int64_t ir_version = 0;
  std::map<std::string, int64_t> opsets;
  std::string producer_name, producer_version, domain, doc_string;
  int64_t model_version = 0;
  std::map<std::string, std::string> metadata;
  std::vector<std::string> initializers;  // names, in the file's order: what training may call a parameter
};

}  // namespace sardonyx
