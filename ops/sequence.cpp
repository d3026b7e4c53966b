#include "ops/sequence.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_sequence(OperatorRegistry& registry) {
  registry.op("SequenceEmpty").attributes<SequenceEmptyAttributes>();
  registry.op("ConcatFromSequence").attributes<ConcatFromSequenceAttributes>();
  registry.op("SplitToSequence").attributes<SplitToSequenceAttributes>();
  registry.op("Optional").attributes<OptionalAttributes>();
}

}  // namespace sardonyx
