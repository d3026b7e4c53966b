#include "ops/registry/flops.h"

namespace sardonyx {

namespace {

std::optional<std::vector<double>> dims_of(const Graph& graph, ValueId id) {
  if (id == kNone) return std::nullopt;
  const Type& type = graph.value(id).type;
  if (!type.is_tensor() || !type.shape) return std::nullopt;
  std::vector<double> dims;
  for (const Dim& dim : *type.shape) {
    if (!dim.known()) return std::nullopt;
    dims.push_back(static_cast<double>(dim.value));
  }
  return dims;
}

double product(const std::vector<double>& dims, size_t from = 0) {
  double p = 1;
  for (size_t i = from; i < dims.size(); ++i) p *= dims[i];
  return p;
}

}  // namespace

std::optional<double> node_flops(const Graph& graph, const Node& node) {
  const auto out = dims_of(graph, node.output(0) == kNone ? node.output(1) : node.output(0));
  if (node.op == "Conv" || node.op == "ConvInteger" || node.op == "QLinearConv") {
    const auto w = dims_of(graph, node.input(node.op == "QLinearConv" ? 3 : 1));
    if (!out || !w || w->empty()) return std::nullopt;
    return 2 * product(*out) * product(*w, 1);
  }
  if (node.op == "ConvTranspose") {
    const auto x = dims_of(graph, node.input(0)), w = dims_of(graph, node.input(1));
    if (!x || !w || w->empty()) return std::nullopt;
    return 2 * product(*x) * product(*w, 1);
  }
  if (node.op == "MatMul" || node.op == "Gemm" || node.op == "MatMulInteger" || node.op == "QLinearMatMul") {
    const auto a = dims_of(graph, node.input(0));
    if (!out || !a || a->empty()) return std::nullopt;
    const bool transposed = node.op == "Gemm" && node.attributes.get<int64_t>("transA", 0) != 0;
    return 2 * product(*out) * (transposed ? a->front() : a->back());
  }
  if (node.op == "LSTM" || node.op == "GRU" || node.op == "RNN") {
    const auto x = dims_of(graph, node.input(0)), w = dims_of(graph, node.input(1)),
               r = dims_of(graph, node.input(2));
    if (!x || !w || !r || x->size() != 3) return std::nullopt;
    return 2 * (*x)[0] * (*x)[1] * (product(*w) + product(*r));
  }
  if (!out) return std::nullopt;
  return product(*out);
}

}  // namespace sardonyx
