// Gelu, Swish, Mish, HardSwish and HardSigmoid, written with smaller operators.
#include <cmath>
#include <numbers>

#include "ops/registry/match.h"

namespace sardonyx {

namespace {

// The pairs of a product of two values, in both orders; empty for any other number of values.
std::vector<std::pair<ValueId, ValueId>> pairs(const std::vector<ValueId>& values) {
  if (values.size() != 2) return {};
  return {{values[0], values[1]}, {values[1], values[0]}};
}

bool all_are(const std::vector<ValueId>& values, ValueId x, size_t count) {
  return values == std::vector<ValueId>(count, x);
}

// Whether `argument` is x / sqrt(2).
bool erf_argument(Match& m, ValueId argument, ValueId x) {
  const Product p = m.product(argument);
  return all_are(p.values, x, 1) && m.near(p.factor, std::numbers::sqrt2 / 2);
}

// Whether `argument` is sqrt(2 / pi) * (x + 0.044715 x^3), or the same with x taken out.
bool tanh_argument(Match& m, ValueId argument, ValueId x) {
  const Product p = m.product(argument);
  if (!m.near(p.factor, std::sqrt(2 / std::numbers::pi))) return false;
  const auto cubic = [&](ValueId id, size_t power) {
    const Product c = m.product(id);
    return all_are(c.values, x, power) && m.near(c.factor, 0.044715);
  };
  if (p.values.size() == 1) {
    const Sum s = m.sum(p.values[0]);
    for (const auto& [a, b] : pairs(s.values))
      if (s.constant == 0 && a == x && cubic(b, 3)) return true;
  }
  for (const auto& [a, b] : pairs(p.values)) {
    const Sum s = m.sum(b);
    if (a == x && s.constant == 1 && s.values.size() == 1 && cubic(s.values[0], 2)) return true;
  }
  return false;
}

// x * (0.5 + 0.5 * erf(x / sqrt(2))), and the same with tanh; the halves may stand anywhere.
ValueId gelu(Match& m) {
  const Product outer = m.product(m.result());
  const size_t mark = m.size();
  for (const auto& [x, other] : pairs(outer.values)) {
    m.rewind(mark);
    const Sum s = m.sum(other);
    if (s.values.size() != 1 || !m.near(outer.factor * s.constant, 0.5)) continue;
    const Product inner = m.product(s.values[0]);
    if (inner.values.size() != 1 || !m.near(outer.factor * inner.factor, 0.5)) continue;
    const Node* erf = m.take(inner.values[0], "Erf");
    const Node* tanh = m.take(inner.values[0], "Tanh");
    if (!(erf && erf_argument(m, erf->inputs[0], x)) && !(tanh && tanh_argument(m, tanh->inputs[0], x)))
      continue;
    if (!m.closed(x)) continue;
    return m.op("Gelu", {x}, attributes({{"approximate", std::string(erf ? "none" : "tanh")}}));
  }
  return kNone;
}

// x * sigmoid(alpha * x).
ValueId swish(Match& m) {
  const Product p = m.product(m.result());
  const size_t mark = m.size();
  for (const auto& [x, other] : pairs(p.values)) {
    m.rewind(mark);
    const Node* sigmoid = m.find(other, "Sigmoid");
    if (p.factor != 1 || !sigmoid) continue;
    m.take(other, "Sigmoid");
    const ValueId inside = sigmoid->inputs[0];
    const Product argument = inside == x ? Product{1, {x}} : m.product(inside);
    if (!all_are(argument.values, x, 1) || !m.closed(x)) continue;
    return m.op("Swish", {x}, attributes({{"alpha", static_cast<float>(argument.factor)}}));
  }
  return kNone;
}

// Whether `id` is log(1 + exp(x)).
bool is_softplus(Match& m, ValueId id, ValueId x) {
  if (const Node* softplus = m.take(id, "Softplus")) return softplus->inputs[0] == x;
  const Node* log = m.take(id, "Log");
  if (!log) return false;
  const Sum s = m.sum(log->inputs[0]);
  const Node* exp = s.values.size() == 1 && s.constant == 1 ? m.take(s.values[0], "Exp") : nullptr;
  return exp && exp->inputs[0] == x;
}

ValueId mish(Match& m) {
  const Product p = m.product(m.result());
  const size_t mark = m.size();
  for (const auto& [x, other] : pairs(p.values)) {
    m.rewind(mark);
    const Node* tanh = m.take(other, "Tanh");
    if (p.factor == 1 && tanh && is_softplus(m, tanh->inputs[0], x) && m.closed(x)) return m.op("Mish", {x});
  }
  return kNone;
}

// clamp(a * value + b, 0, top).
struct Ramp {
  Affine line;
  double top = 0;
};

std::optional<Ramp> ramp(Match& m, ValueId id) {
  if (const Node* hard = m.take(id, "HardSigmoid")) {
    const double alpha = hard->attributes.get<float>("alpha", 0.2f),
                 beta = hard->attributes.get<float>("beta", 0.5f);
    return Ramp{{hard->inputs[0], alpha, beta}, 1};
  }
  if (const Node* clip = m.take(id, "Clip")) {
    const auto low = m.scalar(clip->input(1)), high = m.scalar(clip->input(2));
    if (!low || *low != 0 || !high || *high <= 0) return std::nullopt;
    return Ramp{m.affine(clip->inputs[0]), *high};
  }
  // min(max(v, 0), top), max(min(v, top), 0), min(relu(v), top).
  const auto bound = [&](const char* op, ValueId at) -> std::optional<std::pair<ValueId, double>> {
    for (const auto& [v, limit] : m.both_orders(at, op))
      if (const auto number = m.scalar(limit)) return std::pair(v, *number);
    return std::nullopt;
  };
  if (const auto upper = bound("Min", id); upper && upper->second > 0) {
    if (const Node* relu = m.take(upper->first, "Relu"))
      return Ramp{m.affine(relu->inputs[0]), upper->second};
    if (const auto lower = bound("Max", upper->first); lower && lower->second == 0)
      return Ramp{m.affine(lower->first), upper->second};
  }
  if (const auto lower = bound("Max", id); lower && lower->second == 0)
    if (const auto upper = bound("Min", lower->first); upper && upper->second > 0)
      return Ramp{m.affine(upper->first), upper->second};
  return std::nullopt;
}

// x * clamp(x + 3, 0, 6) / 6.
ValueId hard_swish(Match& m) {
  const Product p = m.product(m.result());
  const size_t mark = m.size();
  for (const auto& [x, other] : pairs(p.values)) {
    m.rewind(mark);
    const auto r = ramp(m, other);
    if (r && r->line.value == x && m.near(p.factor * r->line.a, 1.0 / 6) &&
        m.near(p.factor * r->line.b, 0.5) && m.near(p.factor * r->top, 1) && m.closed(x))
      return m.op("HardSwish", {x});
  }
  return kNone;
}

// clamp(a * x + b, 0, top) / top.
ValueId hard_sigmoid(Match& m) {
  const Product p = m.product(m.result());
  if (p.values.size() != 1 || m.find(p.values[0], "HardSigmoid")) return kNone;
  const auto r = ramp(m, p.values[0]);
  // A clip alone is as quick as it can be.
  if (!r || m.size() < 2 || (r->line.a == 1 && r->line.b == 0) || !m.near(p.factor * r->top, 1) ||
      !m.closed(r->line.value))
    return kNone;
  return m.op("HardSigmoid", {r->line.value},
              attributes({{"alpha", static_cast<float>(p.factor * r->line.a)},
                          {"beta", static_cast<float>(p.factor * r->line.b)}}));
}

}  // namespace

void register_activation(FusionRegistry& r) {
  r.add(pattern_fusion("gelu", 40, {"Mul", "Div"}, gelu));
  r.add(pattern_fusion("hard_swish", 41, {"Mul", "Div"}, hard_swish));
  r.add(pattern_fusion("hard_sigmoid", 42, {"Mul", "Div", "Clip", "Min", "Max"}, hard_sigmoid));
  r.add(pattern_fusion("swish", 43, {"Mul"}, swish));
  r.add(pattern_fusion("mish", 44, {"Mul"}, mish));
}

}  // namespace sardonyx
