// RNN, GRU and LSTM.
#include "ops/recurrent.h"

#include "ops/registry/flops.h"
#include "ops/registry/operator.h"

namespace sardonyx {

namespace {

// Every weight of W and R, of all directions and gates, once for each step of each sequence.
std::optional<double> recurrent_flops(const FlopPorts& ports) {
  const Dims *x = ports.in(0, 3), *w = ports.in(1, 3), *r = ports.in(2, 3);
  if (!x || !w || !r) return std::nullopt;
  return 2 * static_cast<double>((*x)[0]) * static_cast<double>((*x)[1]) *
         (elements_from(*w) + elements_from(*r));
}

}  // namespace

void register_recurrent(OperatorRegistry& registry) {
  registry.op("RNN").attributes<RnnAttributes>().flops(recurrent_flops);
  registry.op("GRU").attributes<GruAttributes>().flops(recurrent_flops);
  registry.op("LSTM").attributes<LstmAttributes>().flops(recurrent_flops);
  // The state goes from step to step in f32; only what it is multiplied by is bf16.
  for (const char* name : {"RNN", "GRU", "LSTM"})
    registry.op(name).narrows(Narrow::Always, {1, 2}).outputs_stay();
}

}  // namespace sardonyx
