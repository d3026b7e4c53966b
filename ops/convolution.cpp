#include "ops/convolution.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_convolution(OperatorRegistry& registry) {
  registry.op("Conv").attributes<ConvAttributes>();
  registry.op("ConvTranspose").attributes<ConvTransposeAttributes>();
  registry.op("DeformConv").attributes<DeformConvAttributes>();
  registry.op("CausalConvWithState").attributes<CausalConvWithStateAttributes>();
  registry.op("Col2Im").attributes<Col2ImAttributes>().shape_operands({1, 2});
}

}  // namespace sardonyx
