// Derivatives of activations as one operator each, so that a backward pass reads and writes its tensors once:
// ReluBackward(dY, Y), SigmoidBackward(dY, Y), TanhBackward(dY, Y), HardSwishBackward(dY, X).
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

ValueId number(Compose& c, double v) { return c.scalar(c.dtype(0), v); }

std::vector<ValueId> relu_backward(Compose& c) {
  const ValueId zero = number(c, 0);
  return {c.where(c.op("LessOrEqual", {c.in(1), zero}), zero, c.in(0))};
}

std::vector<ValueId> sigmoid_backward(Compose& c) {
  const ValueId y = c.in(1);
  return {c.mul(c.in(0), c.mul(y, c.sub(number(c, 1), y)))};
}

std::vector<ValueId> tanh_backward(Compose& c) {
  const ValueId y = c.in(1);
  return {c.mul(c.in(0), c.sub(number(c, 1), c.mul(y, y)))};
}

// At the ends, -3 and 3, the derivative is that from the left and from the right.
std::vector<ValueId> hard_swish_backward(Compose& c) {
  const ValueId dy = c.in(0), x = c.in(1);
  const ValueId slope = c.add(c.mul(x, number(c, 1.0 / 3)), number(c, 0.5));
  const ValueId right = c.where(c.op("Less", {x, number(c, 3)}), c.mul(dy, slope), dy);
  return {c.where(c.op("LessOrEqual", {x, number(c, -3)}), number(c, 0), right)};
}

}  // namespace

void register_activation_backward(OperatorRegistry& r) {
  struct Entry {
    const char* forward;
    const char* backward;
    bool by_output;
    std::vector<ValueId> (*decompose)(Compose&);
  };
  for (const Entry& e : {Entry{"Relu", "ReluBackward", true, relu_backward},
                         Entry{"Sigmoid", "SigmoidBackward", true, sigmoid_backward},
                         Entry{"Tanh", "TanhBackward", true, tanh_backward},
                         Entry{"HardSwish", "HardSwishBackward", false, hard_swish_backward}}) {
    r.op(e.forward).differentiates([e](Differentiate& d) {
      d.give(0, d.own(e.backward, {d.cotangent(), e.by_output ? d.out() : d.in(0)}));
    });
    r.op(e.backward, kOwnDomain)
        .ports({{"dY"}, {e.by_output ? "Y" : "X"}}, {{"dX", 1, 1}})
        .elementwise()
        .narrows(Narrow::Between)
        .decomposes(e.decompose);
  }
}

}  // namespace sardonyx
