#include "ops/indexing.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_indexing(OperatorRegistry& registry) {
  registry.op("Gather").attributes<GatherAttributes>().narrows(Narrow::Between);
  registry.op("GatherElements").attributes<GatherAttributes>();
  registry.op("GatherND").attributes<GatherNdAttributes>();
  registry.op("Scatter").attributes<GatherAttributes>();
  registry.op("ScatterElements").attributes<ScatterElementsAttributes>();
  registry.op("ScatterND").attributes<ScatterNdAttributes>();
  registry.op("TensorScatter").attributes<TensorScatterAttributes>();
  registry.op("TopK").attributes<TopKAttributes>().shape_operands({1});
  registry.op("Unique").attributes<UniqueAttributes>();
  registry.op("OneHot").attributes<OneHotAttributes>().shape_operands({1});
  registry.op("ArgMax").attributes<ArgExtremeAttributes>();
  registry.op("ArgMin").attributes<ArgExtremeAttributes>();
  registry.op("Hardmax").attributes<HardmaxAttributes>();
  registry.op("NonMaxSuppression").attributes<NonMaxSuppressionAttributes>();
}

}  // namespace sardonyx
