// What the upgrade rules are written with, and the tables they stand in. Private to onnx_import/upgrade*.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "graph/patch.h"

namespace sardonyx::upgrade {

// One node on its way to the canonical opset. A rule edits `node`, which keeps the values it makes unless
// the rule detaches one, and adds nodes of the canonical opset around it.
class Rewrite {
 public:
  Rewrite(Patch& patch, NodeId id);

  Node node;
  // The name of the first output, after which new values are named.
  const std::string& label() const { return label_; }

  // An input that the operator cannot do without: ModelError when it is omitted.
  ValueId in(size_t i) const;
  bool has(size_t i) const { return node.input(i) != kNone; }
  bool wants(size_t i) const { return node.output(i) != kNone; }
  Type type(ValueId id) const { return builder_.graph().value(id).type; }
  DType dtype(ValueId id) const { return type(id).dtype; }
  // -1 when unknown.
  int rank(ValueId id) const { return type(id).rank(); }
  // The value of a constant tensor, else null.
  const Tensor* constant(ValueId id) const;

  // Inputs before `i` that do not exist yet become omitted ones.
  void set_input(size_t i, ValueId id);
  // Takes an attribute off the node; `fallback` when it is absent.
  template <typename T>
  T take(const char* name, T fallback) {
    T result = node.attributes.get<T>(name, std::move(fallback));
    node.attributes.erase(name);
    return result;
  }

  // New values, before the node.
  ValueId op(const std::string& op, std::vector<ValueId> inputs, Attributes attributes = {});
  ValueId constant(Tensor tensor);
  ValueId ints(std::vector<int64_t> values) { return constant(Tensor::of(values)); }
  // A scalar of the dtype that `like` has.
  ValueId scalar_like(double value, ValueId like);
  // `value` with the dtype of `like`.
  ValueId cast_like(ValueId value, ValueId like);
  ValueId cast(ValueId value, DType to);
  ValueId shape(ValueId id) { return op("Shape", {id}); }
  // The rank, as an int64 tensor of one element and one dimension.
  ValueId rank_of(ValueId id) { return op("Shape", {shape(id)}); }
  // As many int64 ones as the one-element tensor `count` says.
  ValueId ones(ValueId count);
  // A zero in `dims` is a dimension of zero.
  ValueId reshape(ValueId id, ValueId dims);

  // The node makes a new value in place of its output i. Returns the new value and the old one, which
  // finish() has to make.
  std::pair<ValueId, ValueId> detach(size_t i, Type type = {});
  void finish(ValueId made, const std::string& op, std::vector<ValueId> inputs, Attributes attributes = {});
  // Replaces the node by one of the canonical opset that makes the same values; no later rule sees it.
  void become(const std::string& op, std::vector<ValueId> inputs, Attributes attributes = {});
  bool done() const { return done_; }

  // Writes `node` to the graph.
  void commit();

 private:
  GraphBuilder& builder_;
  NodeId id_;
  std::string label_;
  bool done_ = false;
};

// How a node of `op` that means what it meant before `version` comes to mean the same at `version`.
using Rule = void (*)(Rewrite&);
struct Step {
  std::string op;
  int version = 0;
  Rule rule = nullptr;  // null: nodes mean the same in both versions
  std::string domain;
};

// The rules of each family.
std::vector<Step> elementwise_steps();
std::vector<Step> matmul_steps();
std::vector<Step> reduction_steps();
std::vector<Step> softmax_steps();
std::vector<Step> normalization_steps();
std::vector<Step> pooling_steps();
std::vector<Step> resize_steps();
std::vector<Step> movement_steps();
std::vector<Step> recurrent_steps();
std::vector<Step> control_flow_steps();
std::vector<Step> quantization_steps();
std::vector<Step> signal_steps();
std::vector<Step> ml_steps();
// Versions that only widened types, or added inputs and attributes whose absence means what it meant.
std::vector<Step> unchanged_steps();

// All of the above.
const std::vector<Step>& steps();
// Null when the step is in no table.
const Step* find_step(const std::string& domain, const std::string& op, int version);

// Attributes "consumed_inputs" of opset 1 say nothing about values.
void drop_consumed_inputs(Rewrite& r);
// For operators that lost their integer types: integers are computed in float64 and cut off.
void in_float64(Rewrite& r);

}  // namespace sardonyx::upgrade
