#include "ops/convolution.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_convolution(OperatorRegistry& registry) {
  registry.op("Conv").attributes<ConvAttributes>().narrows(Narrow::Always, {0, 1});
  registry.op("ConvTranspose").attributes<ConvTransposeAttributes>().narrows(Narrow::Always, {0, 1});
  registry.op("DeformConv").attributes<DeformConvAttributes>();
  registry.op("CausalConvWithState").attributes<CausalConvWithStateAttributes>();
  registry.op("Col2Im").attributes<Col2ImAttributes>().shape_operands({1, 2});
}

}  // namespace sardonyx
