// Gradients of the operators that move elements.
#include "ops/movement.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

// Elements keep their order: dY in the dims of X.
void reshaped(Differentiate& d) {
  if (!d.needs(0)) return;
  d.give(0, d.op("Reshape", {d.cotangent(), d.shape_of(d.in(0))}, attributes({{"allowzero", int64_t{1}}})));
}

void transpose(Differentiate& d) {
  const auto* perm = d.node().attributes.find("perm");
  if (!perm) return d.give(0, d.op("Transpose", {d.cotangent()}));
  const auto& to = std::get<std::vector<int64_t>>(*perm);
  std::vector<int64_t> back(to.size());
  for (size_t i = 0; i < to.size(); ++i) back[static_cast<size_t>(to[i])] = static_cast<int64_t>(i);
  d.give(0, d.transpose(d.cotangent(), std::move(back)));
}

}  // namespace

void register_movement_gradient(OperatorRegistry& r) {
  for (const char* name : {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}) r.op(name).differentiates(reshaped);
  r.op("Transpose").differentiates(transpose);
  r.op("Expand").differentiates([](Differentiate& d) { d.give_summed(0, d.cotangent()); });
}

}  // namespace sardonyx
