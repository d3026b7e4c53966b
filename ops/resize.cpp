#include "ops/resize.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_resize(OperatorRegistry& registry) {
  registry.op("Resize").attributes<ResizeAttributes>().shape_operands({1, 2, 3}).narrows(Narrow::Between,
                                                                                         {0});
  registry.op("Upsample").attributes<UpsampleAttributes>().shape_operands({1});
  registry.op("GridSample").attributes<GridSampleAttributes>();
  registry.op("AffineGrid").attributes<AffineGridAttributes>().shape_operands({1});
}

}  // namespace sardonyx
