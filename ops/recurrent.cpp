// RNN, GRU and LSTM.
#include "ops/recurrent.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_recurrent(OperatorRegistry& registry) {
  registry.op("RNN").attributes<RnnAttributes>();
  registry.op("GRU").attributes<GruAttributes>();
  registry.op("LSTM").attributes<LstmAttributes>();
}

}  // namespace sardonyx
