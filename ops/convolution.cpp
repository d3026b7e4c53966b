#include "ops/convolution.h"

#include "ops/registry/flops.h"
#include "ops/registry/operator.h"

namespace sardonyx {

std::optional<double> conv_flops(const FlopPorts& ports, size_t weights) {
  const Dims *y = ports.out(0), *w = ports.in(weights);
  if (!y || !w) return std::nullopt;
  return 2 * elements_from(*y) * elements_from(*w, 1);
}

namespace {

std::optional<double> conv_transpose_flops(const FlopPorts& ports) {
  const Dims *x = ports.in(0), *w = ports.in(1);
  if (!x || !w) return std::nullopt;
  return 2 * elements_from(*x) * elements_from(*w, 1);
}

}  // namespace

void register_convolution(OperatorRegistry& registry) {
  const auto flops = [](const FlopPorts& ports) { return conv_flops(ports, 1); };
  registry.op("Conv").attributes<ConvAttributes>().narrows(Narrow::Always, {0, 1}).flops(flops);
  registry.op("ConvTranspose")
      .attributes<ConvTransposeAttributes>()
      .narrows(Narrow::Always, {0, 1})
      .flops(conv_transpose_flops);
  registry.op("DeformConv").attributes<DeformConvAttributes>().flops(flops);
  registry.op("CausalConvWithState").attributes<CausalConvWithStateAttributes>().flops(flops);
  registry.op("Col2Im").attributes<Col2ImAttributes>().shape_operands({1, 2});
}

}  // namespace sardonyx
