// The gradient of a body of a control-flow operator.
#pragma once

#include <vector>

#include "ops/registry/gradient.h"

namespace sardonyx {

// What is asked of a body. Positions are those among its outputs, inputs and captures.
struct BodyQuestion {
  std::vector<size_t> outputs;   // whose cotangents are given
  std::vector<size_t> inputs;    // whose cotangents are wanted; zeros where nothing depends on one
  std::vector<size_t> captures;  // the same, but kNone without `capture_zeros`
  std::vector<size_t> fed;       // inputs that the backward body is given once more
  bool capture_zeros = false;
  // Values that are no tensors can be saved too. Else what makes them is computed once more; where that draws
  // random numbers or is an input, a sequence is saved as well with `saves_sequence_inputs`, and the rest is
  // an UnsupportedError.
  bool saves_sequences = false, saves_sequence_inputs = false;
};

// The body split in two: `forward` computes what it did and, as further outputs, the values that `backward`
// reads of it. `backward` is under construction: the values named here have no producer, and are to become
// inputs or captures of it (the kind of `restored` and `cotangents` is Input) or outputs of nodes.
struct BodyGradient {
  GraphPtr forward;
  GraphBuilder backward;
  std::vector<ValueId> restored;    // in the order of the further outputs
  std::vector<Type> saved;          // their types
  std::vector<ValueId> cotangents;  // parallel to BodyQuestion::outputs
  std::vector<ValueId> fed;         // parallel to BodyQuestion::fed; kNone where nothing reads it
  std::vector<ValueId> captures;    // parallel to the captures of the node; kNone where nothing reads it
  std::vector<ValueId> of_inputs, of_captures;  // what is wanted
};

BodyGradient differentiate_body(Differentiate& d, const Graph& body, const BodyQuestion& question);

// The values that something differentiable flows to from any of `from`.
std::vector<char> reached_values(const Graph& graph, const std::vector<ValueId>& from);

// Makes a body and the operands of the node that will hold it.
class BodyPorts {
 public:
  // The captures that the node has already, named by the values of the body; kNone where it reads none.
  BodyPorts(GraphBuilder& body, std::vector<ValueId> captures) : body_(body), inside_(std::move(captures)) {}
  // `id` becomes the next input.
  void input(ValueId id);
  ValueId new_input(const std::string& name, Type type) {
    const ValueId id = body_.value(name, std::move(type));
    input(id);
    return id;
  }
  // `id` becomes the capture at `index`.
  void capture(ValueId id, size_t index);
  ValueId new_capture(const std::string& name, Type type, size_t index) {
    const ValueId id = body_.value(name, std::move(type));
    capture(id, index);
    return id;
  }
  // Every output is made by a node of its own; captures that nothing reads are gone.
  GraphPtr finish(std::vector<ValueId> outputs);

 private:
  GraphBuilder& body_;
  std::vector<ValueId> inputs_, inside_;
};

// `captures`, kNone where none of the bodies reads one.
std::vector<ValueId> used_captures(std::vector<ValueId> captures, const std::vector<GraphPtr>& bodies);

}  // namespace sardonyx
