// Builds a graph node by node.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace sardonyx {

class GraphBuilder {
 public:
  explicit GraphBuilder(std::string name = "");
  // Continues from a graph: its values and nodes keep their ids.
  explicit GraphBuilder(const Graph& graph);

  void set_name(std::string name) { graph_.name_ = std::move(name); }
  ValueId input(std::string name, Type type);
  // `index` is the position in the captures of the node that will hold this body.
  ValueId capture(size_t index, std::string name, Type type);
  // Widens the captures to `count`, for a node whose other bodies use more than this one.
  void reserve_captures(size_t count) {
    if (graph_.captures_.size() < count) graph_.captures_.resize(count, kNone);
  }
  ValueId constant(Value value, std::string name = "");
  ValueId variable(Value initial, std::string name);
  // A value without a producer yet; a node added later must make it.
  ValueId value(std::string name = "", Type type = {});
  void output(ValueId id);
  void set_outputs(std::vector<ValueId> ids) { graph_.outputs_ = std::move(ids); }
  void set_inputs(std::vector<ValueId> ids) { graph_.inputs_ = std::move(ids); }
  void set_captures(std::vector<ValueId> ids) { graph_.captures_ = std::move(ids); }

  // The output may be written over the input's memory. What makes it may read the input itself, element by
  // element, and is never computed together with nodes before it.
  void update(ValueId input, ValueId output) { graph_.updates_.push_back({input, output}); }
  std::vector<Graph::Update>& updates() { return graph_.updates_; }

  // The capture at `index` becomes a constant of this body.
  void bind_capture(size_t index, Value value);
  // Appends the nodes of a body, reading `inputs` and `captures` (ids of this graph) in place of its own;
  // returns the ids of its outputs.
  std::vector<ValueId> inline_body(const Graph& body, const std::vector<ValueId>& inputs,
                                   const std::vector<ValueId>& captures);

  // Adds a node whose outputs are already values of this graph.
  NodeId add(Node node);
  // Adds a node of ai.onnx at the canonical opset and returns its only output.
  ValueId op(const std::string& op, std::vector<ValueId> inputs, Attributes attributes = {});
  // The same with several outputs.
  std::vector<ValueId> ops(const std::string& op, std::vector<ValueId> inputs, size_t outputs,
                           Attributes attributes = {}, const std::string& domain = "");

  Graph& graph() { return graph_; }
  ValueInfo& info(ValueId id) { return graph_.values_[static_cast<size_t>(id)]; }
  Node& node(NodeId id) { return graph_.nodes_[static_cast<size_t>(id)]; }
  // A name that no value has: the stem itself, or the stem with a number.
  std::string fresh_name(const std::string& stem);

  // Sorts topologically and checks the invariants of Graph. ModelError names what breaks them: a value
  // made twice, one that nobody makes, a cycle.
  GraphPtr build() &&;
  // The same, and drops nodes and values that no output needs.
  GraphPtr build_pruned() &&;

 private:
  GraphPtr finish(bool prune);
  Graph graph_;
  std::unordered_map<std::string, int> names_;
};

// Attributes in one expression: attributes({{"axis", int64_t{1}}, {"mode", std::string("linear")}}).
Attributes attributes(std::initializer_list<std::pair<std::string, Attribute>> list);

}  // namespace sardonyx
