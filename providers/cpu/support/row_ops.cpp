#include "providers/cpu/support/row_ops.h"

#include <functional>
#include <limits>
#include <map>

#include "ops/activation.h"
#include "ops/registry/operator.h"

namespace sardonyx::cpu {

namespace {

using simd::Binary, simd::Unary;
using Read = std::function<std::optional<RowOp>(const Graph&, const Node&)>;

Read plain(Unary op) {
  return [op](const Graph&, const Node&) { return RowOp{op, 0, 0, {}}; };
}
Read binary(Binary op) {
  return [op](const Graph&, const Node& node) {
    return node.inputs.size() == 2 ? std::optional(RowOp{{}, 0, 0, op}) : std::nullopt;
  };
}
// `values` gives the parameters that an attribute struct holds.
template <typename Struct, typename F>
Read with(Unary op, F values) {
  return [op, values](const Graph&, const Node& node) {
    const auto [a, b] = values(parse_attributes<Struct>(node.attributes));
    return RowOp{op, a, b, {}};
  };
}
Read with_alpha(Unary op) {
  return with<AlphaAttributes>(op, [](const AlphaAttributes& a) { return std::pair(a.alpha, 0.0f); });
}

std::optional<float> scalar(const Graph& graph, ValueId id, float omitted) {
  if (id == kNone) return omitted;
  const ValueInfo& info = graph.value(id);
  if (info.kind != ValueKind::Constant || !info.constant.is_tensor()) return std::nullopt;
  const Tensor& tensor = info.constant.tensor();
  if (tensor.size() != 1) return std::nullopt;
  if (tensor.dtype() == DType::BFloat16) return static_cast<float>(*tensor.data<BFloat16>());
  return tensor.dtype() == DType::Float32 ? std::optional(*tensor.data<float>()) : std::nullopt;
}

std::optional<RowOp> clip(const Graph& graph, const Node& node) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto low = scalar(graph, node.input(1), -kInfinity), high = scalar(graph, node.input(2), kInfinity);
  if (!low || !high) return std::nullopt;
  return RowOp{Unary::Clip, *low, *high, {}};
}

// The only lists of operators and their loops: ONNX's, and this project's own.
const std::map<std::string, Read>& table() {
  static const std::map<std::string, Read> ops = {
      {"Abs", plain(Unary::Abs)},
      {"Neg", plain(Unary::Neg)},
      {"Reciprocal", plain(Unary::Reciprocal)},
      {"Sqrt", plain(Unary::Sqrt)},
      {"Floor", plain(Unary::Floor)},
      {"Ceil", plain(Unary::Ceil)},
      {"Round", plain(Unary::Round)},
      {"Exp", plain(Unary::Exp)},
      {"Log", plain(Unary::Log)},
      {"Sin", plain(Unary::Sin)},
      {"Cos", plain(Unary::Cos)},
      {"Erf", plain(Unary::Erf)},
      {"Tanh", plain(Unary::Tanh)},
      {"Relu", plain(Unary::Relu)},
      {"Sigmoid", plain(Unary::Sigmoid)},
      {"Softplus", plain(Unary::Softplus)},
      {"Softsign", plain(Unary::Softsign)},
      {"Mish", plain(Unary::Mish)},
      {"HardSwish",
       [](const Graph&, const Node&) {
         return RowOp{Unary::HardSwish, 1.0f / 6.0f, 0.5f, {}};
       }},
      {"LeakyRelu",
       with<LeakyReluAttributes>(Unary::LeakyRelu, [](const auto& a) { return std::pair(a.alpha, 0.0f); })},
      {"Elu", with_alpha(Unary::Elu)},
      {"Celu",
       [](const Graph&, const Node& node) -> std::optional<RowOp> {
         const float alpha = parse_attributes<AlphaAttributes>(node.attributes).alpha;
         if (!(alpha > 0)) return std::nullopt;  // the loop divides by it
         return RowOp{Unary::Celu, alpha, 0, {}};
       }},
      {"ThresholdedRelu", with_alpha(Unary::ThresholdedRelu)},
      {"Swish", with_alpha(Unary::Swish)},
      {"Selu", with<SeluAttributes>(Unary::Selu, [](const auto& a) { return std::pair(a.alpha, a.gamma); })},
      {"HardSigmoid", with<HardSigmoidAttributes>(Unary::HardSigmoid,
                                                  [](const auto& a) { return std::pair(a.alpha, a.beta); })},
      {"Gelu",
       [](const Graph&, const Node& node) -> std::optional<RowOp> {
         const std::string approximate = parse_attributes<GeluAttributes>(node.attributes).approximate;
         if (approximate != "none" && approximate != "tanh") return std::nullopt;
         return RowOp{approximate == "tanh" ? Unary::GeluTanh : Unary::GeluErf, 0, 0, {}};
       }},
      {"Clip", clip},
      {"Add", binary(Binary::Add)},
      {"Sub", binary(Binary::Sub)},
      {"Mul", binary(Binary::Mul)},
      {"Div", binary(Binary::Div)},
      {"Max", binary(Binary::Max)},
      {"Min", binary(Binary::Min)},
  };
  return ops;
}
const std::map<std::string, Read>& own_table() {
  static const std::map<std::string, Read> ops = {
      {"ReluBackward", binary(Binary::ReluBackward)},
      {"SigmoidBackward", binary(Binary::SigmoidBackward)},
      {"TanhBackward", binary(Binary::TanhBackward)},
      {"HardSwishBackward", binary(Binary::HardSwishBackward)},
  };
  return ops;
}

}  // namespace

std::optional<RowOp> row_op(const Graph& graph, const Node& node) {
  if (!node.domain.empty() && node.domain != kOwnDomain) return std::nullopt;
  const auto& ops = node.domain.empty() ? table() : own_table();
  const auto it = ops.find(node.op);
  return it == ops.end() ? std::nullopt : it->second(graph, node);
}

const std::vector<std::pair<std::string, std::string>>& row_op_names() {
  static const auto names = [] {
    std::vector<std::pair<std::string, std::string>> list;
    for (const auto& [name, read] : table()) list.emplace_back("", name);
    for (const auto& [name, read] : own_table()) list.emplace_back(kOwnDomain, name);
    return list;
  }();
  return names;
}

}  // namespace sardonyx::cpu
