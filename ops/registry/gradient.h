// The vocabulary of gradient rules.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "ops/registry/operator.h"

namespace sardonyx {

// What a rule sees: the node with its inputs, outputs and types as in a decomposition, and the cotangents of
// its outputs (the derivative of a scalar by each of them, of the output's shape). It gives the cotangents of
// those inputs that need one; an input that it gives nothing has a derivative of zero. Ids are values of the
// builder's graph. The types of the forward graph are known; those of appended values are not.
class Differentiate : public Compose {
 public:
  // Appends the cotangents of `wrt` for the given cotangents of `outputs`, all values of one graph under
  // construction; kNone for what nothing depends on. What a body of a control-flow operator needs.
  using Backward = std::function<std::vector<ValueId>(GraphBuilder&, const std::vector<ValueId>& outputs,
                                                      const std::vector<ValueId>& cotangents,
                                                      const std::vector<ValueId>& wrt)>;

  // `node` is the position of the node in the builder's graph.
  Differentiate(GraphBuilder& builder, NodeId id, const Node& node, std::vector<ValueId> cotangents,
                std::vector<char> needs, const Backward* backward = nullptr)
      : Compose(builder, node, node.stream),
        id_(id),
        cotangents_(std::move(cotangents)),
        needs_(std::move(needs)),
        given_(node.inputs.size(), kNone),
        captures_given_(node.captures.size(), kNone),
        backward_(backward) {}

  // The node itself, in the builder's graph: a rule may widen what it computes. Its inputs and outputs stay.
  Node& forward() { return builder().node(id_); }
  // An output of the node; one that is optional and was not wanted so far is asked for.
  ValueId out(size_t i = 0);
  // kNone where nothing depends on the output.
  ValueId cotangent(size_t i = 0) const { return i < cotangents_.size() ? cotangents_[i] : kNone; }
  // The same, zeros where nothing depends on it.
  ValueId cotangent_or_zeros(size_t i);
  bool needs(size_t input) const { return input < needs_.size() && needs_[input]; }
  bool needs_capture(size_t i) const { return needs(given_.size() + i); }

  // The cotangent of an input; what is given twice is added. Nothing happens for an input that needs none.
  void give(size_t input, ValueId cotangent);
  // The same for a cotangent in the shape that the input was broadcast to (the type of output 0).
  void give_summed(size_t input, ValueId cotangent);
  void give_capture(size_t i, ValueId cotangent);

  // x in the shape of `like`, summed over the axes along which `like` was broadcast to x.
  ValueId sum_to(ValueId x, const Type& x_type, ValueId like);
  ValueId zeros_like(ValueId x, DType dtype);
  // 1 where a boolean is true, else 0.
  ValueId number(ValueId condition, DType dtype) { return cast(condition, dtype); }
  // x where the condition holds, else 0.
  ValueId where_else_zero(ValueId condition, ValueId x) { return where(condition, x, scalar(dtype(0), 0)); }
  Type out_type(size_t i = 0);
  const Backward& backward() const { return *backward_; }

  const std::vector<ValueId>& given() const { return given_; }
  const std::vector<ValueId>& captures_given() const { return captures_given_; }

 private:
  NodeId id_;
  std::vector<ValueId> cotangents_;
  std::vector<char> needs_;
  std::vector<ValueId> given_, captures_given_;
  const Backward* backward_;
};

// The sum of two cotangents of a value of this type: of sequences, item by item.
ValueId add_cotangents(GraphBuilder& builder, const Type& type, ValueId a, ValueId b);

// Zeros for a cotangent of x. Those of sequences and optionals are scalars, which broadcast to what they
// stand for.
ValueId zero_cotangent(GraphBuilder& builder, ValueId x, const Type& type);

// Whether cotangents of this type exist: of floats, and of sequences and optionals of such.
bool carries_gradient(const Type& type);

// Whether a node has a rule, or is one through which nothing flows.
bool has_gradient(const Node& node);

}  // namespace sardonyx
