// Constants per channel behind a Conv, ConvTranspose or Gemm, and numbers before a Conv, go into its weights
// and bias.
#include <algorithm>
#include <cmath>

#include "ops/registry/match.h"

namespace sardonyx {

namespace {

// y = scale * x + shift, by channel.
struct PerChannel {
  ValueId x = kNone;
  std::vector<double> scale, shift;
};

// Where the output channels of a node lie.
struct Channels {
  const Node* node = nullptr;
  int rank = 0;  // of the output
  int64_t count = 0;
};

bool is_foldable_float(const Tensor* t) { return t && is_float(t->dtype()) && element_size(t->dtype()) >= 2; }

std::optional<Channels> producer_of(Match& m, ValueId x) {
  for (const char* op : {"Conv", "ConvTranspose", "Gemm"}) {
    const Node* node = m.find(x, op);
    if (!node) continue;
    const Tensor* w = m.constant(node->inputs[1]);
    if (!is_foldable_float(w) || w->rank() < 2 ||
        (node->input(2) != kNone && !is_foldable_float(m.constant(node->inputs[2]))))
      return std::nullopt;
    m.take(x, op);
    if (node->is("Gemm"))
      return Channels{node, 2, w->dim(node->attributes.get<int64_t>("transB", 0) != 0 ? 0 : 1)};
    if (node->is("Conv")) return Channels{node, w->rank(), w->dim(0)};
    const int64_t group = node->attributes.get<int64_t>("group", 1);
    if (group < 1 || w->dim(0) % group != 0) return std::nullopt;
    return Channels{node, w->rank(), checked_mul(w->dim(1), group, "output channels")};
  }
  return std::nullopt;
}

// A constant as one number for each channel, when it broadcasts that way.
std::optional<std::vector<double>> by_channel(Match& m, ValueId id, const Channels& c) {
  const Tensor* t = m.constant(id);
  if (!is_foldable_float(t) || t->rank() > c.rank || (t->size() != 1 && t->size() != c.count))
    return std::nullopt;
  for (int i = 0; i < t->rank(); ++i)
    if (t->dim(i) != 1 && i + c.rank - t->rank() != 1) return std::nullopt;
  std::vector<double> values = t->to_doubles();
  if (values.size() == 1) values.assign(static_cast<size_t>(c.count), values[0]);
  return values;
}

// What a node does to the value at its input `x`, by channel.
struct Step {
  const Node* node = nullptr;
  size_t x = 0;
};

// Applies a step to what those before it do; false when it is not one number for each channel.
bool apply(Match& m, const Step& step, const Channels& c, PerChannel& f) {
  const Node& node = *step.node;
  if (node.is("BatchNormalization")) {
    std::vector<std::vector<double>> p;
    for (size_t i = 1; i < 5; ++i) {
      const Tensor* t = m.constant(node.inputs[i]);
      if (!is_foldable_float(t) || t->dims() != Dims{c.count}) return false;
      p.push_back(t->to_doubles());
    }
    const double epsilon = node.attributes.get<float>("epsilon", 1e-5f);
    for (size_t i = 0; i < f.scale.size(); ++i) {
      const double factor = p[0][i] / std::sqrt(p[3][i] + epsilon);
      f.scale[i] *= factor;
      f.shift[i] = (f.shift[i] - p[2][i]) * factor + p[1][i];
    }
    return true;
  }
  const auto values = by_channel(m, node.inputs[1 - step.x], c);
  if (!values) return false;
  for (size_t i = 0; i < f.scale.size(); ++i) {
    const double v = (*values)[i];
    if (node.is("Add")) f.shift[i] += v;
    if (node.is("Sub")) f.shift[i] -= v;
    if (node.is("Mul")) f.scale[i] *= v, f.shift[i] *= v;
    if (node.is("Div")) f.scale[i] /= v, f.shift[i] /= v;
  }
  return true;
}

std::optional<Step> step_of(Match& m, ValueId id) {
  const bool inside = id != m.result();
  if (inside && m.graph().use_count(id) != 1) return std::nullopt;
  for (const char* op : {"BatchNormalization", "Mul", "Div", "Add", "Sub"}) {
    const Node* node = m.take(id, op);
    if (!node) continue;
    if (node->is("BatchNormalization"))
      return node->attributes.get<int64_t>("training_mode", 0) == 0 ? std::optional(Step{node, 0})
                                                                    : std::nullopt;
    if (m.constant(node->inputs[1])) return Step{node, 0};
    const bool commutes = node->is("Mul") || node->is("Add");
    return commutes && m.constant(node->inputs[0]) ? std::optional(Step{node, 1}) : std::nullopt;
  }
  return std::nullopt;
}

// The foldable node that the root's chain of steps begins with, and what they do together.
std::optional<std::pair<Channels, PerChannel>> find(Match& m) {
  constexpr size_t kMaxSteps = 8;
  std::vector<Step> steps;
  ValueId at = m.result();
  std::optional<Channels> c;
  while (!c && steps.size() < kMaxSteps) {
    const auto step = step_of(m, at);
    if (!step) return std::nullopt;
    steps.push_back(*step);
    at = step->node->inputs[step->x];
    c = producer_of(m, at);
  }
  if (!c) return std::nullopt;
  const auto n = static_cast<size_t>(c->count);
  PerChannel f{at, std::vector<double>(n, 1), std::vector<double>(n, 0)};
  for (; !steps.empty(); steps.pop_back())
    if (!apply(m, steps.back(), *c, f)) return std::nullopt;
  return std::pair(*c, f);
}

bool all_finite(const std::vector<double>& values, DType dtype) {
  const std::vector<double> rounded =
      tensor_of(dtype, {static_cast<int64_t>(values.size())}, values).to_doubles();
  return std::all_of(rounded.begin(), rounded.end(), [](double v) { return std::isfinite(v); });
}

// Weights of which runs of `run` elements are multiplied by factor(run's index), rounded once; nothing when
// one would not be finite.
template <typename Factor>
std::optional<Tensor> scaled(const Tensor& w, int64_t run, Factor factor) {
  const int64_t runs = run == 0 ? 0 : w.size() / run;
  if (w.dtype() == DType::Float32) {
    Tensor result(w.dtype(), w.dims());
    const float* from = w.data<float>();
    float* to = result.mutable_data<float>();
    bool finite = true;
    for (int64_t i = 0; i < runs; ++i) {
      const double f = factor(i);
      for (int64_t k = 0; k < run; ++k, ++from, ++to) {
        *to = static_cast<float>(*from * f);
        finite = finite && std::isfinite(*to);
      }
    }
    return finite ? std::optional(result) : std::nullopt;
  }
  std::vector<double> values = w.to_doubles();
  for (int64_t i = 0; i < runs; ++i)
    for (int64_t k = 0; k < run; ++k) values[static_cast<size_t>(i * run + k)] *= factor(i);
  return all_finite(values, w.dtype()) ? std::optional(tensor_of(w.dtype(), w.dims(), values)) : std::nullopt;
}

// Of the weights of each output channel of a Conv.
std::vector<double> row_sums(const Tensor& w) {
  std::vector<double> sums(static_cast<size_t>(w.dim(0)), 0);
  const int64_t each = w.size() / w.dim(0);
  const float* narrow = w.dtype() == DType::Float32 ? w.data<float>() : nullptr;
  const std::vector<double> values = narrow ? std::vector<double>() : w.to_doubles();
  for (int64_t i = 0; i < w.size(); ++i)
    sums[static_cast<size_t>(i / each)] += narrow ? narrow[i] : values[static_cast<size_t>(i)];
  return sums;
}

bool all_ones(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double v) { return v == 1; });
}

ValueId fold(Match& m) {
  const auto found = find(m);
  if (!found || !m.closed() || m.dtype(m.result()) != m.dtype(found->second.x)) return kNone;
  const Channels& channels = found->first;
  const PerChannel& f = found->second;
  const Node& node = *channels.node;
  const Tensor& w = *m.constant(node.inputs[1]);
  const bool gemm = node.is("Gemm"), by_row = !gemm || node.attributes.get<int64_t>("transB", 0) != 0;
  Attributes attributes = node.attributes;

  std::vector<double> bias(f.shift.size(), 0);
  if (node.input(2) != kNone) {
    const auto old = gemm ? by_channel(m, node.inputs[2], channels)
                          : std::optional(m.constant(node.inputs[2])->to_doubles());
    if (!old || old->size() != bias.size()) return kNone;
    const double beta = gemm ? node.attributes.get<float>("beta", 1) : 1;
    for (size_t i = 0; i < bias.size(); ++i) bias[i] = beta * (*old)[i];
  }
  if (gemm) attributes.set("beta", 1.0f);
  for (size_t i = 0; i < bias.size(); ++i) bias[i] = bias[i] * f.scale[i] + f.shift[i];
  if (!all_finite(bias, w.dtype())) return kNone;

  ValueId weights = node.inputs[1];
  const std::string& name = m.graph().value(weights).name;
  if (!all_ones(f.scale)) {
    // Each weight belongs to one output channel.
    const int64_t outer = w.dim(0), inner = w.dim(1), group = node.attributes.get<int64_t>("group", 1);
    const int64_t run = w.size() == 0 ? 0 : w.size() / outer / inner;
    const bool transposed = node.is("ConvTranspose");
    const auto made = scaled(w, run, [&](int64_t i) {
      const int64_t row = i / inner, column = i % inner;
      const int64_t channel = transposed ? row / (outer / group) * inner + column : by_row ? row : column;
      return f.scale[static_cast<size_t>(channel)];
    });
    if (!made) return kNone;
    weights = m.constant(*made, name);
  }
  const Tensor shift = tensor_of(w.dtype(), {channels.count}, bias);
  return m.op(node.op, {node.inputs[0], weights, m.constant(shift, name + "_bias")}, std::move(attributes));
}

// conv(a * x + b) for numbers a and b, where no padding mixes zeros into the sum.
ValueId fold_input(Match& m) {
  const Node& node = m.root();
  const Tensor* w = m.constant(node.inputs[1]);
  const auto pads = node.attributes.get<std::vector<int64_t>>("pads", {});
  const std::string auto_pad = node.attributes.get<std::string>("auto_pad", "NOTSET");
  if (!is_foldable_float(w) || w->rank() < 2 || w->dim(0) == 0 ||
      (auto_pad != "NOTSET" && auto_pad != "VALID") ||
      std::any_of(pads.begin(), pads.end(), [](int64_t pad) { return pad != 0; }))
    return kNone;
  const Affine line = m.affine(node.inputs[0]);
  const Tensor* old = m.constant(node.input(2));
  if (line.value == node.inputs[0] || !m.closed(line.value) ||
      (node.input(2) != kNone && !is_foldable_float(old)))
    return kNone;
  std::vector<double> bias = old ? old->to_doubles() : std::vector<double>(static_cast<size_t>(w->dim(0)), 0);
  if (static_cast<int64_t>(bias.size()) != w->dim(0)) return kNone;
  if (line.b != 0) {
    const std::vector<double> sums = row_sums(*w);
    for (size_t i = 0; i < bias.size(); ++i) bias[i] += line.b * sums[i];
  }
  if (!all_finite(bias, w->dtype())) return kNone;
  ValueId weights = node.inputs[1];
  const std::string& name = m.graph().value(weights).name;
  if (line.a != 1) {
    const auto made = scaled(*w, w->size() / w->dim(0), [&](int64_t) { return line.a; });
    if (!made) return kNone;
    weights = m.constant(*made, name);
  }
  const Tensor shift = tensor_of(w->dtype(), {w->dim(0)}, bias);
  return m.op("Conv", {line.value, weights, m.constant(shift, name + "_bias")}, node.attributes);
}

}  // namespace

void register_convolution(FusionRegistry& r) {
  r.add(pattern_fusion("fold_batch_norm", 20, {"BatchNormalization", "Mul", "Div", "Add", "Sub"}, fold));
  r.add(pattern_fusion("fold_conv_input", 48, {"Conv"}, fold_input));
}

}  // namespace sardonyx
