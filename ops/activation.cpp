#include "ops/activation.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_activation(OperatorRegistry& r) {
  r.op("LeakyRelu").attributes<LeakyReluAttributes>();
  for (const char* name : {"Elu", "Celu", "ThresholdedRelu", "Swish", "SwiGLU"})
    r.op(name).attributes<AlphaAttributes>();
  r.op("Selu").attributes<SeluAttributes>();
  r.op("HardSigmoid").attributes<HardSigmoidAttributes>();
  r.op("Shrink").attributes<ShrinkAttributes>();
  r.op("Gelu").attributes<GeluAttributes>();
  r.op("Dropout").attributes<DropoutAttributes>().random();
  for (const char* name :
       {"Relu", "LeakyRelu", "PRelu", "Elu", "Celu", "ThresholdedRelu", "Swish", "Selu", "HardSigmoid",
        "HardSwish", "Sigmoid", "Softplus", "Softsign", "Mish", "Gelu", "Shrink"})
    r.op(name).elementwise();
  for (const char* name : {"Relu", "LeakyRelu", "PRelu", "Elu", "Celu", "Swish", "Selu", "HardSigmoid",
                           "HardSwish", "Sigmoid", "Softplus", "Softsign", "Mish", "Gelu"})
    r.op(name).narrows(Narrow::Between);
}

}  // namespace sardonyx
