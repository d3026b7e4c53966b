// Fourier transforms, windows, mel filters. Lengths and axes are operands whose values decide output shapes.
#include "ops/signal.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_signal(OperatorRegistry& registry) {
  registry.op("DFT").attributes<DftAttributes>().shape_operands({1, 2});
  registry.op("STFT").attributes<StftAttributes>().shape_operands({1, 3});
  registry.op("MelWeightMatrix").attributes<MelWeightMatrixAttributes>().shape_operands({0, 1});
  for (const char* name : {"BlackmanWindow", "HammingWindow", "HannWindow"})
    registry.op(name).attributes<WindowAttributes>().shape_operands({0});
}

}  // namespace sardonyx
