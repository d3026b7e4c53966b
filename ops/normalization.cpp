#include "ops/normalization.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_normalization(OperatorRegistry& registry) {
  registry.op("BatchNormalization").attributes<BatchNormalizationAttributes>().narrows(Narrow::Between, {0});
  registry.op("InstanceNormalization").attributes<InstanceNormalizationAttributes>().narrows(Narrow::Between);
  registry.op("LayerNormalization").attributes<LayerNormalizationAttributes>().narrows(Narrow::Between, {0});
  registry.op("RMSNormalization").attributes<LayerNormalizationAttributes>().narrows(Narrow::Between, {0});
  registry.op("GroupNormalization").attributes<GroupNormalizationAttributes>().narrows(Narrow::Between);
  registry.op("LpNormalization").attributes<LpNormalizationAttributes>();
  registry.op("LRN").attributes<LrnAttributes>();
  registry.op("MeanVarianceNormalization").attributes<MeanVarianceNormalizationAttributes>();
}

}  // namespace sardonyx
