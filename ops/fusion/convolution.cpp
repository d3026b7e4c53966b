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

// What the root does to a value that a foldable node makes.
std::optional<std::pair<Channels, PerChannel>> find(Match& m) {
  const Node& root = m.root();
  if (root.is("BatchNormalization")) {
    if (root.inputs.size() != 5 || root.attributes.get<int64_t>("training_mode", 0) != 0) return std::nullopt;
    const auto c = producer_of(m, root.inputs[0]);
    if (!c) return std::nullopt;
    std::vector<std::vector<double>> p;
    for (size_t i = 1; i < 5; ++i) {
      const Tensor* t = m.constant(root.inputs[i]);
      if (!is_foldable_float(t) || t->dims() != Dims{c->count}) return std::nullopt;
      p.push_back(t->to_doubles());
    }
    const double epsilon = root.attributes.get<float>("epsilon", 1e-5f);
    PerChannel f{root.inputs[0], p[0], p[1]};
    for (size_t i = 0; i < f.scale.size(); ++i) {
      f.scale[i] = p[0][i] / std::sqrt(p[3][i] + epsilon);
      f.shift[i] = p[1][i] - p[2][i] * f.scale[i];
    }
    return std::pair(*c, f);
  }
  const bool commutes = root.is("Mul") || root.is("Add");
  for (const size_t i : {size_t{0}, size_t{1}}) {
    if (root.inputs.size() != 2 || (i == 1 && !commutes)) continue;
    m.rewind(1);
    const auto c = producer_of(m, root.inputs[i]);
    const auto values = c ? by_channel(m, root.inputs[1 - i], *c) : std::nullopt;
    if (!values) continue;
    PerChannel f{root.inputs[i], std::vector<double>(values->size(), 1),
                 std::vector<double>(values->size(), 0)};
    for (size_t k = 0; k < values->size(); ++k) {
      const double v = (*values)[k];
      if (root.is("Mul")) f.scale[k] = v;
      if (root.is("Div")) f.scale[k] = 1 / v;
      if (root.is("Add")) f.shift[k] = v;
      if (root.is("Sub")) f.shift[k] = -v;
    }
    return std::pair(*c, f);
  }
  return std::nullopt;
}

bool all_finite(DType dtype, const std::vector<double>& values) {
  const std::vector<double> rounded =
      tensor_of(dtype, {static_cast<int64_t>(values.size())}, values).to_doubles();
  return std::all_of(rounded.begin(), rounded.end(), [](double v) { return std::isfinite(v); });
}

ValueId fold(Match& m) {
  const auto found = find(m);
  if (!found || !m.closed() || m.dtype(m.result()) != m.dtype(found->second.x)) return kNone;
  const auto& [channels, f] = *found;
  const Node& node = *channels.node;
  const Tensor& w = *m.constant(node.inputs[1]);
  const DType dtype = w.dtype();
  const bool gemm = node.is("Gemm");
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

  // Each weight belongs to one output channel.
  std::vector<double> weights = w.to_doubles();
  const int64_t outer = w.dim(0), inner = w.dim(1), rest = w.size() == 0 ? 0 : w.size() / outer / inner;
  const int64_t group = node.attributes.get<int64_t>("group", 1);
  for (int64_t i = 0; i < outer; ++i)
    for (int64_t j = 0; j < inner && rest > 0; ++j) {
      int64_t channel = i;
      if (node.is("ConvTranspose")) channel = i / (outer / group) * inner + j;
      if (gemm && node.attributes.get<int64_t>("transB", 0) == 0) channel = j;
      for (int64_t k = 0; k < rest; ++k)
        weights[static_cast<size_t>((i * inner + j) * rest + k)] *= f.scale[static_cast<size_t>(channel)];
    }
  if (!all_finite(dtype, weights) || !all_finite(dtype, bias)) return kNone;
  const std::string& name = m.graph().value(node.inputs[1]).name;
  return m.op(node.op,
              {node.inputs[0], m.constant(tensor_of(dtype, w.dims(), weights), name),
               m.constant(tensor_of(dtype, {channels.count}, bias), name + "_bias")},
              std::move(attributes));
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
  std::vector<double> weights = w->to_doubles();
  std::vector<double> bias = old ? old->to_doubles() : std::vector<double>(static_cast<size_t>(w->dim(0)), 0);
  if (static_cast<int64_t>(bias.size()) != w->dim(0)) return kNone;
  const size_t each = weights.size() / bias.size();
  for (size_t i = 0; i < weights.size(); ++i) {
    bias[i / each] += line.b * weights[i];
    weights[i] *= line.a;
  }
  if (!all_finite(w->dtype(), weights) || !all_finite(w->dtype(), bias)) return kNone;
  const std::string& name = m.graph().value(node.inputs[1]).name;
  return m.op("Conv",
              {line.value, m.constant(tensor_of(w->dtype(), w->dims(), weights), name),
               m.constant(tensor_of(w->dtype(), {w->dim(0)}, bias), name + "_bias")},
              node.attributes);
}

}  // namespace

void register_convolution(FusionRegistry& r) {
  r.add(pattern_fusion("fold_batch_norm", 20, {"BatchNormalization", "Mul", "Div", "Add", "Sub"}, fold));
  r.add(pattern_fusion("fold_conv_input", 48, {"Conv"}, fold_input));
}

}  // namespace sardonyx
