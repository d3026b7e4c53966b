#include "ops/normalization.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_normalization(OperatorRegistry& registry) {
  registry.op("BatchNormalization").attributes<BatchNormalizationAttributes>();
  registry.op("InstanceNormalization").attributes<InstanceNormalizationAttributes>();
  registry.op("LayerNormalization").attributes<LayerNormalizationAttributes>();
  registry.op("RMSNormalization").attributes<LayerNormalizationAttributes>();
  registry.op("GroupNormalization").attributes<GroupNormalizationAttributes>();
  registry.op("LpNormalization").attributes<LpNormalizationAttributes>();
  registry.op("LRN").attributes<LrnAttributes>();
  registry.op("MeanVarianceNormalization").attributes<MeanVarianceNormalizationAttributes>();
}

}  // namespace sardonyx
