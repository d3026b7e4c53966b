// RNN, GRU and LSTM.
#include "ops/recurrent.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_recurrent(OperatorRegistry& registry) {
  registry.op("RNN").attributes<RnnAttributes>();
  registry.op("GRU").attributes<GruAttributes>();
  registry.op("LSTM").attributes<LstmAttributes>();
  // The state goes from step to step in f32; only what it is multiplied by is bf16.
  for (const char* name : {"RNN", "GRU", "LSTM"})
    registry.op(name).narrows(Narrow::Always, {1, 2}).outputs_stay();
}

}  // namespace sardonyx
