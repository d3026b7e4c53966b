#include "ops/normalization.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_normalization(OperatorRegistry& registry) {
  registry.op("BatchNormalization")
      .attributes<BatchNormalizationAttributes>()
      .narrows(Narrow::Between, {0}, {0});
  registry.op("InstanceNormalization").attributes<InstanceNormalizationAttributes>().narrows(Narrow::Between);
  // What these two normalize is mostly the sum of all layers before: in f32 it keeps its small terms.
  registry.op("LayerNormalization").attributes<LayerNormalizationAttributes>();
  registry.op("RMSNormalization").attributes<LayerNormalizationAttributes>();
  registry.op("GroupNormalization").attributes<GroupNormalizationAttributes>().narrows(Narrow::Between);
  registry.op("LpNormalization").attributes<LpNormalizationAttributes>();
  registry.op("LRN").attributes<LrnAttributes>();
  registry.op("MeanVarianceNormalization").attributes<MeanVarianceNormalizationAttributes>();
}

}  // namespace sardonyx
