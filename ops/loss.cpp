#include "ops/loss.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_loss(OperatorRegistry& r) {
  r.op("SoftmaxCrossEntropyLoss").attributes<LossAttributes>();
  r.op("NegativeLogLikelihoodLoss").attributes<LossAttributes>();
}

}  // namespace sardonyx
