// Convolutions and matrix products between DequantizeLinear and QuantizeLinear become operators on integers.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/fusion/quantized.h"

namespace sardonyx {

namespace {

constexpr double kTolerance = 1.0 / 64;  // of a step of the output, by which a bias may be rounded

// Constant weights as s8 without zero points, and a scale for all or for each channel.
struct Weights {
  ValueId values = kNone;
  Tensor tensor;
  std::vector<float> scale;
  int64_t channels = 0;
};

// `axis` is the one with a scale for each index, when there is one.
std::optional<Weights> weights_of(Match& m, ValueId id, int64_t axis) {
  const auto q = dequantized(m, id);
  const Tensor* t = q ? m.constant(q->x) : nullptr;
  if (!t || t->rank() <= axis || t->size() == 0 || (!q->single() && q->axis != axis)) return std::nullopt;
  Weights w{q->x, *t, q->scale, t->dim(static_cast<int>(axis))};
  const bool none = std::all_of(q->zero.begin(), q->zero.end(), [](int32_t z) { return z == 0; });
  if (none && t->dtype() == DType::Int8) return w;
  int64_t inner = 1;
  for (int i = static_cast<int>(axis) + 1; i < t->rank(); ++i) inner *= t->dim(i);
  w.tensor = Tensor(DType::Int8, t->dims());
  for (int64_t i = 0; i < t->size(); ++i) {
    const int32_t value = t->dtype() == DType::Int8 ? t->data<int8_t>()[i] : t->data<uint8_t>()[i];
    const int32_t centred = value - q->zero[q->single() ? 0 : static_cast<size_t>(i / inner % w.channels)];
    if (centred < -128 || centred > 127) return std::nullopt;
    w.tensor.mutable_data<int8_t>()[i] = static_cast<int8_t>(centred);
  }
  w.values = kNone;
  return w;
}

ValueId as_constant(Match& m, const Weights& w) {
  return w.values != kNone ? w.values : m.constant(w.tensor);
}

// The numbers of a constant f32 or quantized bias, with the integers themselves where they have a scale for
// each channel, or one for all.
struct Bias {
  std::vector<double> values;
  std::vector<int32_t> integers;
  std::vector<double> scale;
};

std::optional<Bias> bias_of(Match& m, ValueId id, int64_t channels) {
  Bias b;
  const size_t n = static_cast<size_t>(channels);
  if (const Tensor* t = m.constant(id)) {
    if (t->dtype() != DType::Float32) return std::nullopt;
    b.values = t->to_doubles();
  } else {
    const auto q = dequantized(m, id, DType::Int32);
    const Tensor* integers = q ? m.constant(q->x) : nullptr;
    if (!integers || q->zero != std::vector<int32_t>(q->zero.size(), 0)) return std::nullopt;
    if (!q->single() && integers->rank() != 1) return std::nullopt;
    for (const int64_t v : integers->to_int64s()) b.integers.push_back(static_cast<int32_t>(v));
    for (size_t i = 0; i < b.integers.size(); ++i) {
      b.scale.push_back(q->scale[q->single() ? 0 : i]);
      b.values.push_back(b.integers[i] * b.scale[i]);
    }
  }
  if (b.values.size() == 1 && n != 1) {
    b.values.resize(n, b.values[0]);
    if (!b.integers.empty()) b.integers.resize(n, b.integers[0]), b.scale.resize(n, b.scale[0]);
  }
  const bool finite =
      std::all_of(b.values.begin(), b.values.end(), [](double v) { return std::isfinite(v); });
  return b.values.size() == n && finite ? std::optional(b) : std::nullopt;
}

// The bias in units of the sums, whose scales are `scale`; nothing when rounding would show in steps of
// `step`.
std::optional<Tensor> integer_bias(const Bias& b, const std::vector<double>& scale, double step) {
  std::vector<int32_t> rounded;
  for (size_t i = 0; i < b.values.size(); ++i) {
    if (!b.integers.empty() && std::abs(b.scale[i] - scale[i]) <= 1e-6 * scale[i]) {
      rounded.push_back(b.integers[i]);
      continue;
    }
    const double exact = b.values[i] / scale[i], nearest = std::nearbyint(exact);
    if (!(std::abs(exact - nearest) * scale[i] <= kTolerance * step) || !(std::abs(nearest) < 0x1p30))
      return std::nullopt;
    rounded.push_back(static_cast<int32_t>(nearest));
  }
  return Tensor::of(rounded);
}

// What the QuantizeLinear at hand quantizes: a Relu or a Clip whose bounds it has anyway is passed over.
ValueId before_bounds(Match& m, ValueId id, const Quantization& q) {
  const auto code = [&](double x) {
    return std::clamp(std::nearbyint(x / static_cast<double>(q.scale[0])) + q.zero[0], q.low(), q.high());
  };
  if (const Node* relu = m.find(id, "Relu"); relu && code(0) == q.low()) return m.take(id, "Relu")->inputs[0];
  if (const Node* clip = m.find(id, "Clip")) {
    const auto low = clip->input(1) == kNone ? -INFINITY : m.scalar(clip->input(1)),
               high = clip->input(2) == kNone ? INFINITY : m.scalar(clip->input(2));
    if (low && high && *low <= *high && code(*low) == q.low() && code(*high) == q.high())
      return m.take(id, "Clip")->inputs[0];
  }
  return id;
}

std::vector<double> products(float x, const std::vector<float>& w, int64_t channels) {
  std::vector<double> result;
  for (size_t i = 0; i < static_cast<size_t>(channels); ++i)
    result.push_back(static_cast<double>(x) * w[w.size() == 1 ? 0 : i]);
  return result;
}

Type with_dtype(Match& m, ValueId id, DType dtype) {
  Type type = m.type(id);
  type.dtype = dtype;
  return type;
}

// f32 numbers of sums: scale * sums + bias. `scale` and `bias` broadcast to the result.
ValueId dequantized_sums(Match& m, ValueId sums, Tensor scale, std::optional<Tensor> bias) {
  ValueId y = m.op("Cast", {sums}, attributes({{"to", static_cast<int64_t>(DType::Float32)}}));
  y = m.op("Mul", {y, m.constant(std::move(scale))});
  return bias ? m.op("Add", {y, m.constant(std::move(*bias))}) : y;
}

Tensor float_tensor(const std::vector<double>& values, int64_t ones_behind) {
  Dims dims = {static_cast<int64_t>(values.size())};
  dims.insert(dims.end(), static_cast<size_t>(ones_behind), 1);
  return tensor_of(DType::Float32, dims, values);
}

ValueId quantized_conv(Match& m) {
  std::optional<Quantization> y;
  ValueId at = m.result();
  if (m.root().is("QuantizeLinear")) {
    y = quantization(m, m.root());
    if (!y || !y->single()) return kNone;
    at = before_bounds(m, y->x, *y);
  }
  const Node* conv = m.take(at, "Conv");
  const auto x = conv ? dequantized(m, conv->inputs[0]) : std::nullopt;
  if (!x || !x->single() || !m.closed()) return kNone;
  const auto w = weights_of(m, conv->inputs[1], 0);
  const int spatial = w ? w->tensor.rank() - 2 : 0;
  if (spatial < 1) return kNone;
  const std::vector<double> scale = products(x->scale[0], w->scale, w->channels);
  std::optional<Bias> bias;
  if (conv->input(2) != kNone) {
    bias = bias_of(m, conv->inputs[2], w->channels);
    if (!bias) return kNone;
  }
  if (!y) {
    const ValueId sums = m.op("ConvInteger", {x->x, as_constant(m, *w), x->zero_constant(m)},
                              conv->attributes, with_dtype(m, m.result(), DType::Int32));
    return dequantized_sums(m, sums, float_tensor(scale, spatial),
                            bias ? std::optional(float_tensor(bias->values, spatial)) : std::nullopt);
  }
  std::optional<Tensor> integers;
  if (bias) {
    integers = integer_bias(*bias, scale, y->scale[0]);
    if (!integers) return kNone;
  }
  const ValueId w_scale =
      m.constant(w->scale.size() == 1 ? Tensor::scalar(w->scale[0]) : Tensor::of(w->scale));
  const ValueId w_zero = m.constant(w->scale.size() == 1 ? Tensor::scalar(int8_t{0})
                                                         : Tensor::zeros(DType::Int8, {w->channels}));
  std::vector<ValueId> inputs{x->x,   x->scale_constant(m), x->zero_constant(m), as_constant(m, *w), w_scale,
                              w_zero, y->scale_constant(m), y->zero_constant(m)};
  if (integers) inputs.push_back(m.constant(*integers));
  return m.op("QLinearConv", inputs, conv->attributes);
}

// MatMul and Gemm: the second operand is constant, or has one scale and one zero point.
struct Factor {
  ValueId values = kNone, zero = kNone;
  std::vector<float> scale;
};

std::optional<Factor> second_factor(Match& m, ValueId id) {
  const auto q = dequantized(m, id);
  if (!q) return std::nullopt;
  const int rank = m.rank(q->x);
  if (m.constant(q->x) && (q->single() || rank == 2))
    if (const auto w = weights_of(m, id, rank - 1))
      return Factor{as_constant(m, *w), m.constant(Tensor::scalar(int8_t{0})), w->scale};
  if (rank < 2 || !q->single()) return std::nullopt;
  return Factor{q->x, q->zero_constant(m), q->scale};
}

ValueId product(Match& m, const std::optional<Quantization>& y, ValueId at) {
  const Node* matmul = m.take(at, "MatMul");
  const auto a = matmul ? dequantized(m, matmul->inputs[0]) : std::nullopt;
  if (!a || !a->single() || m.rank(a->x) < 1 || m.rank(matmul->inputs[1]) < 2 || !m.closed()) return kNone;
  const auto b = second_factor(m, matmul->inputs[1]);
  if (!b) return kNone;
  if (!y) {
    const ValueId sums = m.op("MatMulInteger", {a->x, b->values, a->zero_constant(m), b->zero}, {},
                              with_dtype(m, m.result(), DType::Int32));
    const int64_t n = static_cast<int64_t>(b->scale.size());
    const std::vector<double> scale = products(a->scale[0], b->scale, n);
    return dequantized_sums(m, sums, n == 1 ? tensor_of(DType::Float32, {}, scale) : float_tensor(scale, 0),
                            std::nullopt);
  }
  const bool one = b->scale.size() == 1;
  const ValueId scale = m.constant(one ? Tensor::scalar(b->scale[0]) : Tensor::of(b->scale));
  ValueId zero = b->zero;
  if (!one) zero = m.constant(Tensor::zeros(DType::Int8, {static_cast<int64_t>(b->scale.size())}));
  return m.op("QLinearMatMul", {a->x, a->scale_constant(m), a->zero_constant(m), b->values, scale, zero,
                                y->scale_constant(m), y->zero_constant(m)});
}

Tensor transposed(const Tensor& t) {
  Tensor result(DType::Int8, {t.dim(1), t.dim(0)});
  for (int64_t i = 0; i < t.dim(0); ++i)
    for (int64_t j = 0; j < t.dim(1); ++j)
      result.mutable_data<int8_t>()[j * t.dim(0) + i] = t.data<int8_t>()[i * t.dim(1) + j];
  return result;
}

ValueId gemm(Match& m) {
  const Node& node = m.root();
  const auto a = dequantized(m, node.inputs[0]);
  const bool rows = node.attributes.get<int64_t>("transB", 0) != 0, biased = node.input(2) != kNone;
  if (!a || !a->single() || node.attributes.get<int64_t>("transA", 0) != 0 ||
      node.attributes.get<float>("alpha", 1) != 1 || (biased && node.attributes.get<float>("beta", 1) != 1))
    return kNone;
  auto w = weights_of(m, node.inputs[1], rows ? 0 : 1);
  if (!w || w->tensor.rank() != 2) return kNone;
  std::optional<Bias> bias;
  if (biased) {
    // A column of biases would be one for each row.
    const auto dims = m.dims(node.inputs[2]);
    const bool row = dims && (element_count(*dims) == 1 || (!dims->empty() && dims->back() == w->channels));
    bias = row ? bias_of(m, node.inputs[2], w->channels) : std::nullopt;
    if (!bias) return kNone;
  }
  if (rows) w->tensor = transposed(w->tensor), w->values = kNone;
  const ValueId sums = m.op("MatMulInteger", {a->x, as_constant(m, *w), a->zero_constant(m)}, {},
                            with_dtype(m, m.result(), DType::Int32));
  return dequantized_sums(m, sums, float_tensor(products(a->scale[0], w->scale, w->channels), 0),
                          bias ? std::optional(float_tensor(bias->values, 0)) : std::nullopt);
}

ValueId quantized_matmul(Match& m) {
  if (m.root().is("Gemm")) return gemm(m);
  if (m.root().is("MatMul")) return product(m, std::nullopt, m.result());
  const auto y = quantization(m, m.root());
  return y && y->single() ? product(m, y, before_bounds(m, y->x, *y)) : kNone;
}

}  // namespace

void register_quantization(FusionRegistry& r) {
  r.add(pattern_fusion("quantized_conv", 7, {"QuantizeLinear", "Conv"}, quantized_conv));
  r.add(pattern_fusion("quantized_matmul", 8, {"QuantizeLinear", "MatMul", "Gemm"}, quantized_matmul));
}

}  // namespace sardonyx
