// Gradients of Softmax and LogSoftmax.
#include "ops/registry/gradient.h"
#include "ops/softmax.h"

namespace sardonyx {

namespace {

ValueId summed(Compose& c, ValueId x) {
  // A scalar is a row of its own.
  return c.rank(0) == 0 ? x : c.reduce_sum(x, {c.attributes<SoftmaxAttributes>().axis});
}

// SoftmaxBackward(dY, Y): (dY - sum(dY Y)) Y.
std::vector<ValueId> softmax_backward(Compose& c) {
  const ValueId dy = c.in(0), y = c.in(1);
  return {c.mul(c.sub(dy, summed(c, c.mul(dy, y))), y)};
}

// LogSoftmaxBackward(dY, Y): dY - sum(dY) exp(Y).
std::vector<ValueId> log_softmax_backward(Compose& c) {
  const ValueId dy = c.in(0), y = c.in(1);
  return {c.sub(dy, c.mul(summed(c, dy), c.op("Exp", {y})))};
}

Gradient backward_operator(const char* name) {
  return [name](Differentiate& d) {
    const int64_t axis = d.attributes<SoftmaxAttributes>().axis;
    d.give(0, d.own(name, {d.cotangent(), d.out()}, attributes({{"axis", axis}})));
  };
}

}  // namespace

void register_softmax_gradient(OperatorRegistry& r) {
  r.op("Softmax").differentiates(backward_operator("SoftmaxBackward"));
  r.op("LogSoftmax").differentiates(backward_operator("LogSoftmaxBackward"));
  r.op("Hardmax").gradient_is_zero();
  const std::pair<const char*, std::vector<ValueId> (*)(Compose&)> operators[] = {
      {"SoftmaxBackward", softmax_backward}, {"LogSoftmaxBackward", log_softmax_backward}};
  for (const auto& [name, backward] : operators)
    r.op(name, kOwnDomain)
        .ports({{"dY"}, {"Y"}}, {{"dX", 1, 1}})
        .attributes<SoftmaxAttributes>()
        .decomposes(backward);
}

}  // namespace sardonyx
