#include "ops/quantization.h"

#include "ops/convolution.h"
#include "ops/matmul.h"
#include "ops/registry/operator.h"

namespace sardonyx {

void register_quantization(OperatorRegistry& r) {
  r.op("QuantizeLinear").attributes<QuantizeLinearAttributes>();
  r.op("DequantizeLinear").attributes<DequantizeLinearAttributes>();
  r.op("ConvInteger").attributes<ConvAttributes>().flops([](const FlopPorts& p) { return conv_flops(p, 1); });
  r.op("QLinearConv").attributes<ConvAttributes>().flops([](const FlopPorts& p) { return conv_flops(p, 3); });
  r.op("MatMulInteger").flops(matmul_flops);
  r.op("QLinearMatMul").flops(matmul_flops);
}

}  // namespace sardonyx
