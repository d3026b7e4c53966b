#include "ops/registry/flops.h"

namespace sardonyx {

namespace {

PortDims known_dims(const Graph& graph, const std::vector<ValueId>& ids) {
  PortDims ports;
  for (const ValueId id : ids) {
    ports.emplace_back();
    if (id == kNone) continue;
    const Type& type = graph.value(id).type;
    if (type.is_tensor() && type.shape) ports.back() = concrete(*type.shape);
  }
  return ports;
}

}  // namespace

double elements_from(const Dims& dims, size_t from) {
  double count = 1;
  for (size_t i = from; i < dims.size(); ++i) count *= static_cast<double>(dims[i]);
  return count;
}

std::optional<double> node_flops(const Node& node, const PortDims& inputs, const PortDims& outputs) {
  const Operator* op = OperatorRegistry::instance().find(node.domain, node.op);
  return op && op->count_flops ? op->count_flops({node, inputs, outputs}) : std::nullopt;
}

std::optional<double> node_flops(const Graph& graph, const Node& node) {
  const PortDims outputs = known_dims(graph, node.outputs);
  const Operator* op = OperatorRegistry::instance().find(node.domain, node.op);
  if (op && op->count_flops) return op->count_flops({node, known_dims(graph, node.inputs), outputs});
  for (const auto& dims : outputs)
    if (dims) return elements_from(*dims);
  return std::nullopt;
}

}  // namespace sardonyx
