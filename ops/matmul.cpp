#include "ops/matmul.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_matmul(OperatorRegistry& registry) {
  registry.op("Gemm").attributes<GemmAttributes>();
  registry.op("Einsum").attributes<EinsumAttributes>();
}

}  // namespace sardonyx
