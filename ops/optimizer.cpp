// Adagrad, Adam, Momentum.
#include "ops/optimizer.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_optimizer(OperatorRegistry& registry) {
  registry.op("Adagrad", "ai.onnx.preview.training").attributes<AdagradAttributes>();
  registry.op("Adam", "ai.onnx.preview.training").attributes<AdamAttributes>();
  registry.op("Momentum", "ai.onnx.preview.training").attributes<MomentumAttributes>();
}

}  // namespace sardonyx
