#include "ops/matmul.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_matmul(OperatorRegistry& registry) {
  registry.op("MatMul").narrows(Narrow::Always);
  registry.op("Gemm").attributes<GemmAttributes>().narrows(Narrow::Always, {0, 1});
  registry.op("Einsum").attributes<EinsumAttributes>();
}

}  // namespace sardonyx
