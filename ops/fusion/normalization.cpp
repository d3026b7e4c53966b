// LayerNormalization and RMSNormalization, written with means and roots.
#include <numeric>

#include "ops/registry/match.h"

namespace sardonyx {

namespace {

// The largest scale that is made where the file has none.
constexpr int64_t kMaxOnes = int64_t{1} << 24;

// The value that is averaged over the axes [axis, rank), with the axes kept.
struct Mean {
  ValueId of = kNone;
  int axis = 0;
};

std::optional<Mean> mean(Match& m, ValueId id) {
  const Node* node = m.take(id, "ReduceMean");
  const int rank = node ? m.rank(node->inputs[0]) : -1;
  if (rank < 1 || node->attributes.get<int64_t>("keepdims", 1) == 0) return std::nullopt;
  std::vector<int64_t> axes;
  if (node->input(1) != kNone) {
    const auto given = m.ints(node->inputs[1]);
    if (!given) return std::nullopt;
    axes = *given;
  }
  if (axes.empty() && node->attributes.get<int64_t>("noop_with_empty_axes", 0) != 0) return std::nullopt;
  std::vector<char> reduced(static_cast<size_t>(rank), axes.empty());
  for (const int64_t axis : axes) {
    if (axis < -rank || axis >= rank) return std::nullopt;
    reduced[static_cast<size_t>(axis < 0 ? axis + rank : axis)] = 1;
  }
  int axis = rank;
  while (axis > 0 && reduced[static_cast<size_t>(axis - 1)]) --axis;
  if (axis == rank || std::accumulate(reduced.begin(), reduced.end(), 0) != rank - axis) return std::nullopt;
  return Mean{node->inputs[0], axis};
}

// x / sqrt(v + epsilon), whatever x and v are.
struct Quotient {
  ValueId x = kNone, v = kNone;
  double epsilon = 0;
};

// The value under the root, when `id` is its root.
std::optional<ValueId> root_of(Match& m, ValueId id, double power) {
  if (power == 0.5)
    if (const Node* sqrt = m.take(id, "Sqrt")) return sqrt->inputs[0];
  if (const Node* pow = m.find(id, "Pow"); pow && m.scalar(pow->inputs[1]) == power)
    return m.take(id, "Pow")->inputs[0];
  if (power == 0.5) return std::nullopt;
  if (const Node* reciprocal = m.take(id, "Reciprocal")) return root_of(m, reciprocal->inputs[0], 0.5);
  if (const Node* div = m.find(id, "Div"); div && m.scalar(div->inputs[0]) == 1.0)
    return root_of(m, m.take(id, "Div")->inputs[1], 0.5);
  return std::nullopt;
}

std::vector<Quotient> quotients(Match& m, ValueId id) {
  std::vector<Quotient> found;
  const auto keep = [&](ValueId x, std::optional<ValueId> under) {
    if (!under) return;
    const Sum s = m.sum(*under);
    if (s.values.size() == 1 && s.constant >= 0) found.push_back({x, s.values[0], s.constant});
  };
  if (const Node* div = m.take(id, "Div")) {
    keep(div->inputs[0], root_of(m, div->inputs[1], 0.5));
    return found;
  }
  for (const auto& [x, inverse] : m.both_orders(id, "Mul")) {
    const size_t mark = m.size();
    keep(x, root_of(m, inverse, -0.5));
    if (found.empty()) m.rewind(mark);
  }
  return found;
}

// What a normalization without its parameters works on.
struct Core {
  ValueId x = kNone;
  int axis = 0;
  double epsilon = 0;
};

bool is_square(Match& m, ValueId id, ValueId of) {
  const Product p = m.product(id);
  return p.factor == 1 && p.values == std::vector<ValueId>{of, of};
}

// Whether `id` is x minus its mean, which is over the same axes.
bool is_centred(Match& m, ValueId id, ValueId x, int axis) {
  const Node* sub = m.take(id, "Sub");
  if (!sub || sub->inputs[0] != x) return false;
  const auto average = mean(m, sub->inputs[1]);
  return average && average->of == x && average->axis == axis;
}

// E[x^2] - E[x]^2, perhaps not below 0, as flax writes the variance. (Statistics about the mean are at least
// as close to it.)
std::optional<Mean> moment_variance(Match& m, ValueId id) {
  const size_t mark = m.size();
  for (const auto& [value, bound] : m.both_orders(id, "Max"))
    if (m.scalar(bound) == 0.0) id = value;
  if (const Node* relu = m.take(id, "Relu")) id = relu->inputs[0];
  const Node* sub = m.take(id, "Sub");
  const auto squares = sub ? mean(m, sub->inputs[0]) : std::nullopt;
  if (squares) {
    const Product square = m.product(squares->of), other = m.product(sub->inputs[1]);
    const bool pairs = square.factor == 1 && other.factor == 1 && square.values.size() == 2 &&
                       other.values.size() == 2 && square.values[0] == square.values[1] &&
                       other.values[0] == other.values[1];
    const auto average = pairs ? mean(m, other.values[0]) : std::nullopt;
    if (average && average->of == square.values[0] && average->axis == squares->axis) return average;
  }
  m.rewind(mark);
  return std::nullopt;
}

std::optional<Core> layer_core(Match& m, ValueId id) {
  for (const Quotient& q : quotients(m, id)) {
    if (const auto v = moment_variance(m, q.v); v && is_centred(m, q.x, v->of, v->axis))
      return Core{v->of, v->axis, q.epsilon};
    const Node* sub = m.find(q.x, "Sub");
    const auto variance = mean(m, q.v);
    if (!sub || !variance || !is_centred(m, q.x, sub->inputs[0], variance->axis)) continue;
    if (is_square(m, variance->of, q.x)) return Core{sub->inputs[0], variance->axis, q.epsilon};
    // The square of a second difference of the same.
    const Product p = m.product(variance->of);
    if (p.factor == 1 && p.values.size() == 2 && p.values[0] == p.values[1] &&
        is_centred(m, p.values[0], sub->inputs[0], variance->axis))
      return Core{sub->inputs[0], variance->axis, q.epsilon};
  }
  return std::nullopt;
}

std::optional<Core> rms_core(Match& m, ValueId id) {
  for (const Quotient& q : quotients(m, id)) {
    const auto square = mean(m, q.v);
    if (square && is_square(m, square->of, q.x)) return Core{q.x, square->axis, q.epsilon};
  }
  return std::nullopt;
}

// (x - mean) * (scale / sqrt(variance + epsilon)), as flax writes it.
struct Scaled {
  Core core;
  ValueId scale = kNone;
};
std::optional<Scaled> flax_core(Match& m, ValueId id) {
  const size_t mark = m.size();
  for (const auto& [centred, r] : m.both_orders(id, "Mul")) {
    for (const auto& [inverse, scale] : m.both_orders(r, "Mul")) {
      const size_t before = m.size();
      const auto under = root_of(m, inverse, -0.5);
      const Sum s = under ? m.sum(*under) : Sum();
      const auto v = s.values.size() == 1 && s.constant >= 0 ? moment_variance(m, s.values[0]) : std::nullopt;
      if (v && is_centred(m, centred, v->of, v->axis)) return Scaled{{v->of, v->axis, s.constant}, scale};
      m.rewind(before);
    }
    m.rewind(mark);
    m.take(id, "Mul");
  }
  m.rewind(mark);
  return std::nullopt;
}

// The dims of the axes that are normalized, when they are known.
std::optional<Dims> normalized_dims(Match& m, const Core& core) {
  const Type& t = m.type(core.x);
  if (!t.shape || core.axis >= t.rank()) return std::nullopt;
  return concrete(Shape(t.shape->begin() + core.axis, t.shape->end()));
}

// x * r + (bias - mean * r) with r = scale / sqrt(variance + epsilon), as TensorFlow writes it.
struct Moments {
  Core core;
  ValueId scale = kNone, bias = kNone;
};

std::optional<Moments> moments(Match& m) {
  for (const auto& [left, right] : m.both_orders(m.result(), "Add")) {
    m.rewind(1);
    const Node* rest = m.take(right, "Sub");
    if (!rest) continue;
    const size_t mark = m.size();
    for (const auto& [x, r] : m.both_orders(left, "Mul")) {
      for (const auto& [average, r2] : m.both_orders(rest->inputs[1], "Mul")) {
        m.rewind(mark);
        const auto mean_of_x = r == r2 ? mean(m, average) : std::nullopt;
        if (!mean_of_x || mean_of_x->of != x) continue;
        m.take(left, "Mul");
        m.take(rest->inputs[1], "Mul");
        for (const auto& [inverse, scale] : m.both_orders(r, "Mul")) {
          const auto under = root_of(m, inverse, -0.5);
          const Sum s = under ? m.sum(*under) : Sum();
          const auto variance = s.values.size() == 1 && s.constant >= 0 ? mean(m, s.values[0]) : std::nullopt;
          if (!variance || variance->axis != mean_of_x->axis) continue;
          const Product square = m.product(variance->of);
          if (square.factor == 1 && square.values.size() == 2 && square.values[0] == square.values[1] &&
              is_centred(m, square.values[0], x, variance->axis))
            return Moments{{x, variance->axis, s.constant}, scale, rest->inputs[0]};
        }
      }
    }
  }
  return std::nullopt;
}

// Whether a value may stand as scale or bias: the dims of the normalized axes (perhaps below axes of one
// element, when it is constant), in the type of x.
bool is_parameter(Match& m, ValueId id, const Core& core) {
  const auto want = normalized_dims(m, core);
  auto dims = m.dims(id);
  if (!want || !dims || m.dtype(id) != m.dtype(core.x)) return false;
  while (m.constant(id) && dims->size() > want->size() && dims->front() == 1) dims->erase(dims->begin());
  return *dims == *want && m.rank(id) <= m.rank(core.x);
}

ValueId as_parameter(Match& m, ValueId id, const Dims& dims) {
  return m.rank(id) == static_cast<int>(dims.size())
             ? id
             : m.constant(m.constant(id)->reshaped(dims), m.graph().value(id).name);
}

Attributes core_attributes(Match& m, const Core& core) {
  // Statistics of f64 stay f64.
  const int64_t stash = m.dtype(core.x) == DType::Float64 ? 11 : 1;
  return attributes({{"axis", static_cast<int64_t>(core.axis)},
                     {"epsilon", static_cast<float>(core.epsilon)},
                     {"stash_type", stash}});
}

ValueId replacement(Match& m, const char* op, const Core& core, ValueId scale, ValueId bias) {
  const auto dims = normalized_dims(m, core);
  if (!dims || (scale != kNone && !is_parameter(m, scale, core)) ||
      (bias != kNone && !is_parameter(m, bias, core)) || !m.closed(core.x))
    return kNone;
  const int64_t n = element_count(*dims);
  if (scale == kNone && n > kMaxOnes) return kNone;
  scale = scale != kNone
              ? as_parameter(m, scale, *dims)
              : m.constant(tensor_of(m.dtype(core.x), *dims, std::vector<double>(static_cast<size_t>(n), 1)),
                           "ones");
  std::vector<ValueId> inputs{core.x, scale};
  if (bias != kNone) inputs.push_back(as_parameter(m, bias, *dims));
  return m.op(op, inputs, core_attributes(m, core));
}

using FindCore = std::optional<Core> (*)(Match&, ValueId);

// core, core * scale, or core * scale + bias (bias only where the operator has one).
ValueId normalization(Match& m, FindCore find_core, const char* op, bool with_bias) {
  const auto finish = [&](ValueId id, ValueId scale, ValueId bias) {
    const auto core = find_core(m, id);
    return core ? replacement(m, op, *core, scale, bias) : kNone;
  };
  const auto scaled = [&](ValueId id, ValueId bias) {
    for (const auto& [value, scale] : m.both_orders(id, "Mul")) {
      m.rewind(1);
      m.take(id, "Mul");
      if (const ValueId made = finish(value, scale, bias); made != kNone) return made;
    }
    return kNone;
  };
  if (m.root().is("Add")) {
    for (const auto& [value, bias] : m.both_orders(m.result(), "Add"))
      if (const ValueId made = with_bias ? scaled(value, bias) : kNone; made != kNone) return made;
    return kNone;
  }
  if (const ValueId made = scaled(m.result(), kNone); made != kNone) return made;
  m.rewind(1);
  return finish(m.result(), kNone, kNone);
}

}  // namespace

void register_normalization(FusionRegistry& r) {
  r.add(pattern_fusion("layer_norm", 30, {"Add", "Mul", "Div"}, [](Match& m) {
    if (const auto found = moments(m)) {
      const ValueId made = replacement(m, "LayerNormalization", found->core, found->scale, found->bias);
      if (made != kNone) return made;
    }
    m.rewind(1);
    const auto flax = [&](ValueId id, ValueId bias) {
      const auto f = flax_core(m, id);
      return f ? replacement(m, "LayerNormalization", f->core, f->scale, bias) : kNone;
    };
    for (const auto& [value, bias] : m.both_orders(m.result(), "Add"))
      if (const ValueId made = flax(value, bias); made != kNone) return made;
    m.rewind(1);
    if (const ValueId made = flax(m.result(), kNone); made != kNone) return made;
    m.rewind(1);
    return normalization(m, layer_core, "LayerNormalization", true);
  }));
  r.add(pattern_fusion("rms_norm", 31, {"Mul", "Div"},
                       [](Match& m) { return normalization(m, rms_core, "RMSNormalization", false); }));
}

}  // namespace sardonyx
