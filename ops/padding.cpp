#include "ops/padding.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_padding(OperatorRegistry& registry) {
  registry.op("Pad").attributes<PadAttributes>().shape_operands({1, 3}).narrows(Narrow::Between);
}

}  // namespace sardonyx
