#include "ops/pooling.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_pooling(OperatorRegistry& registry) {
  registry.op("MaxPool").attributes<MaxPoolAttributes>();
  registry.op("AveragePool").attributes<AveragePoolAttributes>();
  registry.op("LpPool").attributes<LpPoolAttributes>();
  registry.op("GlobalLpPool").attributes<GlobalLpPoolAttributes>();
  registry.op("MaxUnpool").attributes<MaxUnpoolAttributes>().shape_operands({2});
  registry.op("MaxRoiPool").attributes<MaxRoiPoolAttributes>();
  registry.op("RoiAlign").attributes<RoiAlignAttributes>();
  for (const char* name : {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
    registry.op(name).narrows(Narrow::Between);
}

}  // namespace sardonyx
