// Operators that give their input as it is and tell the runtime something: StopGradient(X), through which no
// gradient flows, and Barrier(X, after), which does not run before `after` is there, and which is never the
// same value as X: what is computed from it is computed again.
#include "ops/registry/gradient.h"

namespace sardonyx {

void register_barrier(OperatorRegistry& r) {
  const auto identity = [](Compose& c) { return std::vector<ValueId>{c.op("Identity", {c.in(0)})}; };
  r.op("StopGradient", kOwnDomain).ports({{"X"}}, {{"Y", 0, 0}}).decomposes(identity).gradient_is_zero();
  r.op("Barrier", kOwnDomain)
      .ports({{"X", "V"}, {"after", "W"}}, {{"Y", 0, 0}})
      .decomposes(identity)
      .differentiates([](Differentiate& d) { d.give(0, d.cotangent()); });
}

}  // namespace sardonyx
