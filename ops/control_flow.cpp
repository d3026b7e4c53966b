#include "ops/control_flow.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_control_flow(OperatorRegistry& registry) {
  registry.op("If").attributes<IfAttributes>();
  registry.op("Loop").attributes<BodyAttributes>();
  registry.op("Scan").attributes<ScanAttributes>();
  registry.op("SequenceMap").attributes<BodyAttributes>();
}

}  // namespace sardonyx
