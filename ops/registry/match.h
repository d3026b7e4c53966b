// What the patterns of ops/fusion/ are written with: questions to the graph around one node, and operators
// to put in its place.
#pragma once

#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "graph/patch.h"
#include "ops/registry/fusion.h"

namespace sardonyx {

// factor * values[0] * values[1] * ...
struct Product {
  double factor = 1;
  std::vector<ValueId> values;
};
// constant + values[0] + values[1] + ...
struct Sum {
  double constant = 0;
  std::vector<ValueId> values;
};
// a * value + b
struct Affine {
  ValueId value = kNone;
  double a = 1, b = 0;
};

// A patch that is made when it is first asked for: most graphs have nothing of most patterns.
class LazyPatch {
 public:
  explicit LazyPatch(const GraphPtr& before) : before_(before) {}
  const Graph& before() const { return *before_; }
  Patch& get() {
    if (!patch_) patch_.emplace(before_);
    return *patch_;
  }
  GraphPtr apply() && { return patch_ ? std::move(*patch_).apply() : before_; }

 private:
  GraphPtr before_;
  std::optional<Patch> patch_;
};

// One attempt at a pattern that ends in a node: the nodes taken so far, and what may replace its result.
class Match {
 public:
  Match(LazyPatch& patch, NodeId root);

  const Graph& graph() const { return patch_.before(); }
  const Node& root() const { return graph().node(root_); }
  ValueId result() const { return root().outputs[0]; }
  // Unknown for an input that is left out.
  const Type& type(ValueId id) const;
  int rank(ValueId id) const { return type(id).rank(); }
  DType dtype(ValueId id) const { return type(id).dtype; }
  // The dims of a value when every one is known.
  std::optional<Dims> dims(ValueId id) const;
  // A constant tensor, else null.
  const Tensor* constant(ValueId id) const;
  // The constant int64 elements of an input; nothing when it is not constant.
  std::optional<std::vector<int64_t>> ints(ValueId id) const;
  // The number in a constant of one element.
  std::optional<double> scalar(ValueId id);
  // Whether a constant of a pattern is `expected`, up to the rounding of the result's type.
  bool near(double value, double expected) const;

  // The node of ai.onnx that makes a value, when it is an `op` with one output. It belongs to the match.
  const Node* take(ValueId id, const char* op);
  // The same without taking it.
  const Node* find(ValueId id, const char* op) const;
  // The two inputs of an `op` in both orders, for operators that commute; empty when it is not one.
  std::vector<std::pair<ValueId, ValueId>> both_orders(ValueId id, const char* op);
  // Mul, Div by a constant, and Pow by 2 or 3 below a value, flattened as far as nobody else reads what
  // lies between. The value itself when it is none of these.
  Product product(ValueId id);
  // The same for Add, and Sub of a constant.
  Sum sum(ValueId id);
  // The same for steps that have one constant operand each.
  Affine affine(ValueId id);
  size_t size() const { return nodes_.size(); }
  // Forgets the nodes after the first `size`, for another attempt.
  void rewind(size_t size) { nodes_.resize(size); }
  // Whether nobody outside reads what the nodes taken make, except the result.
  bool closed() const;
  // The same, and the result has the shape and the floating-point type of `x`, of which it is an
  // elementwise function.
  bool closed(ValueId x) const;
  const std::vector<NodeId>& nodes() const { return nodes_; }

  // Appends an operator at the canonical opset; its type is that of the result unless given.
  ValueId op(const std::string& op, std::vector<ValueId> inputs, Attributes attributes = {});
  ValueId op(const std::string& op, std::vector<ValueId> inputs, Attributes attributes, Type type);
  ValueId constant(Value value, const std::string& name = "");

 private:
  bool sole_reader(ValueId id) const { return id == result() || (id != kNone && graph().use_count(id) == 1); }
  void add(NodeId node);

  LazyPatch& patch_;
  NodeId root_;
  std::vector<NodeId> nodes_;
  int scalar_rank_ = 0;  // the highest rank of a constant that scalar() has seen
};

// Floats rounded once from f64. `dtype` is Float32, Float64, Float16 or BFloat16.
Tensor tensor_of(DType dtype, Dims dims, const std::vector<double>& values);
bool same_dim(const Dim& a, const Dim& b);

// Offers each node of ai.onnx whose operator is among `roots`, the last first, to `pattern`, which returns
// what replaces the node's first output, or kNone; bodies too. A replacement made by the pattern takes over
// the name of what it replaces. Nodes that a pattern has taken and that nobody needs any more go.
using Pattern = std::function<ValueId(Match&)>;
Fusion pattern_fusion(std::string name, int order, std::vector<std::string> roots, Pattern pattern);

}  // namespace sardonyx
