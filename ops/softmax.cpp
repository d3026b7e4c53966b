// Softmax and LogSoftmax.
#include "ops/softmax.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_softmax(OperatorRegistry& registry) {
  registry.op("Softmax").attributes<SoftmaxAttributes>().narrows(Narrow::Between);
  registry.op("LogSoftmax").attributes<SoftmaxAttributes>();
}

}  // namespace sardonyx
