#include "ops/quantization.h"

#include "ops/convolution.h"
#include "ops/registry/operator.h"

namespace sardonyx {

void register_quantization(OperatorRegistry& r) {
  r.op("QuantizeLinear").attributes<QuantizeLinearAttributes>();
  r.op("DequantizeLinear").attributes<DequantizeLinearAttributes>();
  r.op("ConvInteger").attributes<ConvAttributes>();
  r.op("QLinearConv").attributes<ConvAttributes>();
}

}  // namespace sardonyx
