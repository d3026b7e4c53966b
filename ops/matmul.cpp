#include "ops/matmul.h"

#include <map>

#include "ops/registry/flops.h"
#include "ops/registry/operator.h"

namespace sardonyx {

std::optional<double> matmul_flops(const FlopPorts& ports) {
  const Dims *a = ports.in(0), *b = ports.in(ports.node.op == "QLinearMatMul" ? 3 : 1);
  if (!a || !b) return std::nullopt;
  // Of two vectors the result is a scalar, whose dims are known but empty.
  if (a->size() == 1 && b->size() == 1) return 2.0 * static_cast<double>(a->back());
  const Dims* y = ports.out(0);
  if (!y) return std::nullopt;
  return 2 * elements_from(*y) * static_cast<double>(a->back());
}

namespace {

std::optional<double> gemm_flops(const FlopPorts& ports) {
  const Dims *a = ports.in(0, 2), *y = ports.out(0, 2);
  if (!a || !y) return std::nullopt;
  const bool transposed = parse_attributes<GemmAttributes>(ports.node.attributes).transA != 0;
  return 2 * elements_from(*y) * static_cast<double>((*a)[transposed ? 0 : 1]);
}

// One operation for each operand and combination of all indices; nothing for an equation with "...".
std::optional<double> einsum_flops(const FlopPorts& ports) {
  const auto equation = parse_attributes<EinsumAttributes>(ports.node.attributes).equation;
  std::map<char, int64_t> sizes;
  size_t operand = 0, axis = 0;
  for (const char c : equation.value_or("...")) {
    if (c == '-') break;
    if (c == '.') return std::nullopt;
    if (c == ' ') continue;
    if (c == ',') {
      ++operand, axis = 0;
      continue;
    }
    const Dims* dims = ports.in(operand);
    if (!dims || axis >= dims->size()) return std::nullopt;
    int64_t& size = sizes[c];
    size = std::max(size, (*dims)[axis++]);
  }
  double combinations = 1;
  for (const auto& [label, size] : sizes) combinations *= static_cast<double>(size);
  return static_cast<double>(operand + 1) * combinations;
}

}  // namespace

void register_matmul(OperatorRegistry& registry) {
  registry.op("MatMul").narrows(Narrow::Always).flops(matmul_flops);
  registry.op("Gemm").attributes<GemmAttributes>().narrows(Narrow::Always, {0, 1}).flops(gemm_flops);
  registry.op("Einsum").attributes<EinsumAttributes>().flops(einsum_flops);
}

}  // namespace sardonyx
