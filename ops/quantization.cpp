#include "ops/quantization.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_quantization(OperatorRegistry& r) {
  r.op("QuantizeLinear").attributes<QuantizeLinearAttributes>();
  r.op("DequantizeLinear").attributes<DequantizeLinearAttributes>();
  r.op("ConvInteger").attributes<QuantizedConvAttributes>();
  r.op("QLinearConv").attributes<QuantizedConvAttributes>();
}

}  // namespace sardonyx
