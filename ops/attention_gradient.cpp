// Attention and FlexAttention written out, for their gradients, and the gradient of RotaryEmbedding.
#include <cmath>
#include <limits>

#include "ops/attention.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

// The dims [start, end) of x, as a vector.
ValueId dims_of(Compose& c, ValueId x, int64_t start, int64_t end) {
  return c.op("Shape", {x}, attributes({{"start", start}, {"end", end}}));
}
ValueId joined(Compose& c, std::vector<ValueId> parts, int64_t axis = 0) {
  return c.op("Concat", std::move(parts), attributes({{"axis", axis}}));
}
ValueId reshaped(Compose& c, ValueId x, ValueId shape) {
  return c.op("Reshape", {x, shape}, attributes({{"allowzero", int64_t{1}}}));
}
ValueId int64(Compose& c, int64_t v) { return c.builder().constant(Tensor::of<int64_t>({v}, {})); }

// Attention in steps, over [batch, head, position, element].
class AttentionSteps {
 public:
  explicit AttentionSteps(Compose& c) : c_(c) {
    for (size_t i = 0; i < 3; ++i)
      if (c.dtype(i) == DType::Float64) dtype_ = DType::Float64;
  }
  DType dtype() const { return dtype_; }
  ValueId number(double v) { return c_.scalar(dtype_, v); }
  ValueId widened(ValueId x, DType from) { return from == dtype_ ? x : c_.cast(x, dtype_); }
  ValueId narrowed(ValueId x, DType to) { return to == dtype_ ? x : c_.cast(x, to); }

  // [batch, position, head * size] with its heads beside each other.
  ValueId split_heads(ValueId x, int64_t heads) {
    const ValueId size = c_.div(dims_of(c_, x, 2, 3), c_.ints({heads}));
    return c_.transpose(reshaped(c_, x, joined(c_, {dims_of(c_, x, 0, 2), c_.ints({heads}), size})),
                        {0, 2, 1, 3});
  }
  ValueId join_heads(ValueId x) {
    const ValueId rows = c_.transpose(x, {0, 2, 1, 3});
    const ValueId width = c_.mul(dims_of(c_, x, 1, 2), dims_of(c_, x, 3, 4));
    return reshaped(c_, rows, joined(c_, {dims_of(c_, rows, 0, 2), width}));
  }

  ValueId scaled(ValueId q, const std::optional<float>& scale, Dim head) {
    if (scale) return c_.mul(q, number(static_cast<double>(*scale)));
    if (head.known()) return c_.mul(q, number(1 / std::sqrt(static_cast<double>(head.value))));
    return c_.div(q, c_.op("Sqrt", {c_.cast(dims_of(c_, q, 3, 4), dtype_)}));
  }

  // a [batch, heads, ...] times b [batch, kv_heads, ...], whose heads serve groups of those of a.
  ValueId product(ValueId a, ValueId b, bool grouped) {
    if (!grouped) return c_.op("MatMul", {a, b});
    const ValueId kv = dims_of(c_, b, 1, 2), group = c_.div(dims_of(c_, a, 1, 2), kv);
    const ValueId wide = joined(c_, {dims_of(c_, a, 0, 1), kv, group, dims_of(c_, a, 2, 4)});
    const ValueId y = c_.op("MatMul", {reshaped(c_, a, wide), c_.op("Unsqueeze", {b, c_.ints({2})})});
    return reshaped(c_, y, joined(c_, {dims_of(c_, a, 0, 2), dims_of(c_, y, 3, 5)}));
  }
  ValueId scores(ValueId q, ValueId k, bool grouped) {
    return product(q, c_.transpose(k, {0, 1, 3, 2}), grouped);
  }

  // Over the last axis, in a narrower type where that is asked for.
  ValueId softmax(ValueId x, const std::optional<int64_t>& precision, DType own) {
    const auto to = precision ? static_cast<DType>(*precision) : DType::Undefined;
    const bool rounds = (to == DType::Float16 || to == DType::BFloat16) && to != own;
    const ValueId p = c_.op("Softmax", {rounds ? c_.cast(x, to) : x}, attributes({{"axis", int64_t{-1}}}));
    return rounds ? c_.cast(p, dtype_) : p;
  }

 private:
  Compose& c_;
  DType dtype_ = DType::Float32;
};

// Whether the heads of the keys serve more than one of the queries each, or may.
bool is_grouped(const Dim& q_heads, const Dim& kv_heads) {
  if (q_heads.known() && kv_heads.known()) return q_heads.value != kv_heads.value;
  return q_heads.symbol.empty() || q_heads.symbol != kv_heads.symbol;
}

Dim dim_of(const Compose& c, size_t input, size_t axis) {
  const Type& type = c.type(input);
  return type.shape && axis < type.shape->size() ? (*type.shape)[axis] : Dim();
}

// Which keys each query may see, by position: a condition that broadcasts to the scores, kNone for all.
class Visibility {
 public:
  Visibility(Compose& c, ValueId q_len, ValueId k_len) : c_(c), q_len_(q_len), k_len_(k_len) {}
  void restrict(ValueId condition) {
    condition_ = condition_ == kNone ? condition : c_.op("And", {condition_, condition});
  }
  ValueId condition() const { return condition_; }

  void by_position(const AttentionAttributes& a, ValueId past_len, ValueId valid) {
    if (valid != kNone) restrict(c_.op("Less", {keys(), valid}));
    if (a.is_causal == 0 && a.left_window_size < 0 && a.right_window_size < 0) return;
    ValueId queries = c_.op("Unsqueeze", {range(q_len_), c_.ints({1})});
    if (past_len != kNone) queries = c_.add(queries, past_len);
    if (valid != kNone) queries = c_.add(queries, c_.sub(valid, q_len_));
    const ValueId apart = c_.sub(keys(), queries);
    int64_t last = std::numeric_limits<int64_t>::max();
    if (a.right_window_size >= 0) last = a.right_window_size;
    if (a.is_causal != 0) last = 0;
    if (last != std::numeric_limits<int64_t>::max()) restrict(c_.op("LessOrEqual", {apart, int64(c_, last)}));
    if (a.left_window_size >= 0) restrict(c_.op("GreaterOrEqual", {apart, int64(c_, -a.left_window_size)}));
  }

 private:
  ValueId range(ValueId length) { return c_.op("Range", {int64(c_, 0), length, int64(c_, 1)}); }
  ValueId keys() { return keys_ == kNone ? keys_ = range(k_len_) : keys_; }

  Compose& c_;
  ValueId q_len_, k_len_, keys_ = kNone, condition_ = kNone;
};

std::vector<ValueId> attention(Compose& c) {
  const auto a = c.attributes<AttentionAttributes>();
  const int rank = c.need_rank(0);
  const bool packed = rank == 3;
  if (rank != 3 && rank != 4) return {};
  AttentionSteps steps(c);
  const DType q_type = c.dtype(0), v_type = c.dtype(2);
  ValueId x[3];
  for (size_t i = 0; i < 3; ++i) {
    const auto& heads = i == 0 ? a.q_num_heads : a.kv_num_heads;
    if (packed && (!heads || *heads < 1)) return {};
    x[i] = packed ? steps.split_heads(c.in(i), *heads) : c.in(i);
  }
  // Past keys and values come first.
  ValueId past_len = kNone;
  if (c.has(4) && c.has(5)) {
    past_len = c.op("Squeeze", {dims_of(c, c.in(4), 2, 3)});
    for (size_t i : {1, 2}) x[i] = joined(c, {c.in(3 + i), x[i]}, 2);
  }
  const bool grouped =
      packed ? *a.q_num_heads != *a.kv_num_heads : is_grouped(dim_of(c, 0, 1), dim_of(c, 1, 1));
  std::vector<ValueId> results = {kNone, x[1], x[2], kNone};
  const ValueId q_len = c.op("Squeeze", {dims_of(c, x[0], 2, 3)}),
                k_len = c.op("Squeeze", {dims_of(c, x[1], 2, 3)});
  const ValueId q = steps.widened(x[0], q_type), k = steps.widened(x[1], q_type),
                v = steps.widened(x[2], v_type);

  Dim head = packed ? Dim() : dim_of(c, 0, 3);
  if (packed && dim_of(c, 0, 2).known()) head = Dim(dim_of(c, 0, 2).value / *a.q_num_heads);
  ValueId s = steps.scores(steps.scaled(q, a.scale, head), k, grouped);
  const ValueId raw = s;
  if (a.softcap > 0) {
    const ValueId cap = steps.number(static_cast<double>(a.softcap));
    s = c.mul(c.op("Tanh", {c.div(s, cap)}), cap);
  }
  const ValueId capped = s;

  Visibility seen(c, q_len, k_len);
  const ValueId valid = c.has(6) ? c.op("Unsqueeze", {c.in(6), c.ints({1, 2, 3})}) : kNone;
  seen.by_position(a, past_len, valid);
  const ValueId lowest = steps.number(-std::numeric_limits<double>::infinity());
  if (c.has(3)) {
    const DType mask_type = c.dtype(3);
    const bool is_bool = mask_type == DType::Bool;
    ValueId mask = is_bool || mask_type == steps.dtype() ? c.in(3) : c.cast(c.in(3), steps.dtype());
    // Keys behind the mask's last are masked.
    const Dim columns = dim_of(c, 3, static_cast<size_t>(c.need_rank(3)) - 1),
              keys = dim_of(c, 1, packed ? 1 : 2);
    const bool fits =
        !c.has(4) && (columns.known() ? keys.known() && columns.value == keys.value
                                      : !columns.symbol.empty() && columns.symbol == keys.symbol);
    if (!fits) {
      const ValueId missing =
          c.sub(dims_of(c, x[1], 2, 3), dims_of(c, mask, -1, std::numeric_limits<int64_t>::max()));
      mask =
          c.op("Pad", {mask, joined(c, {c.ints({0}), missing}),
                       is_bool ? c.builder().constant(Tensor::of<bool>({false}, {})) : lowest, c.ints({-1})});
    }
    if (is_bool) {
      seen.restrict(mask);
    } else {
      s = c.add(s, mask);
      seen.restrict(c.op("Not", {c.op("Equal", {mask, lowest})}));
    }
  }
  const ValueId condition = seen.condition();
  if (condition != kNone) s = c.where(condition, s, lowest);
  ValueId p = steps.softmax(s, a.softmax_precision, q_type);
  // A query that sees no key gets zeros.
  if (condition != kNone) p = c.where(condition, p, steps.number(0));
  const ValueId y = steps.product(p, v, grouped);
  results[0] = steps.narrowed(packed ? steps.join_heads(y) : y, q_type);
  const ValueId shown[] = {raw, capped, s, p};
  if (c.wants(3) && a.qk_matmul_output_mode >= 0 && a.qk_matmul_output_mode <= 3)
    results[3] = steps.narrowed(shown[a.qk_matmul_output_mode], q_type);
  return results;
}

std::vector<ValueId> flex_attention(Compose& c) {
  const auto a = c.attributes<FlexAttentionAttributes>();
  AttentionSteps steps(c);
  const DType own = c.dtype(0);
  const DType precision = a.softmax_precision ? static_cast<DType>(*a.softmax_precision) : steps.dtype();
  const bool grouped = is_grouped(dim_of(c, 0, 1), dim_of(c, 1, 1));
  const ValueId q = steps.scaled(steps.widened(c.in(0), own), a.scale, dim_of(c, 0, 3));
  const auto modified = [&](ValueId x, const std::optional<GraphPtr>& body) {
    if (!body || !*body) return x;
    const ValueId in = precision == steps.dtype() ? x : c.cast(x, precision);
    const ValueId out = c.builder().inline_body(**body, {in}, c.node().captures).at(0);
    return precision == steps.dtype() ? out : c.cast(out, steps.dtype());
  };
  ValueId s = steps.scores(q, steps.widened(c.in(1), own), grouped);
  s = modified(s, a.score_mod);
  ValueId p = steps.softmax(s, a.softmax_precision, own);
  p = modified(p, a.prob_mod);
  return {steps.narrowed(steps.product(p, steps.widened(c.in(2), own), grouped), own)};
}

// A rotation's transpose turns the other way.
void rotary(Differentiate& d) {
  const auto a = d.attributes<RotaryEmbeddingAttributes>();
  const ValueId dy = d.cotangent();
  const auto turned = [&](ValueId x, ValueId cosines, ValueId sines) {
    std::vector<ValueId> inputs = {x, cosines, sines};
    if (d.has(3)) inputs.push_back(d.in(3));
    return d.op("RotaryEmbedding", inputs, d.node().attributes);
  };
  if (d.needs(0)) d.give(0, turned(dy, d.in(1), d.neg(d.in(2))));
  if (!d.needs(1) && !d.needs(2)) return;
  // The caches' cotangents are sums over the heads, of pairs as [batch, position, head, pair, 2].
  const bool packed = d.need_rank(0) == 3;
  const auto pairs = [&](ValueId x) {
    if (packed) {
      const ValueId heads = d.ints({a.num_heads.value_or(1)});
      const ValueId size = d.div(dims_of(d, x, 2, 3), heads);
      x = reshaped(d, x, joined(d, {dims_of(d, x, 0, 2), heads, size}));
    } else {
      x = d.transpose(x, {0, 2, 1, 3});
    }
    const ValueId half = dims_of(d, d.in(1), -1, std::numeric_limits<int64_t>::max());
    x = d.op("Slice", {x, d.ints({0}), d.mul(half, d.ints({2})), d.ints({3})});
    const ValueId two = d.ints({2}), lead = dims_of(d, x, 0, 3);
    if (a.interleaved != 0) return reshaped(d, x, joined(d, {lead, half, two}));
    return d.transpose(reshaped(d, x, joined(d, {lead, two, half})), {0, 1, 2, 4, 3});
  };
  const ValueId x = pairs(d.in(0)), g = pairs(dy);
  // [batch, position, pair], added up in the rows of the cache that were read.
  const auto give = [&](size_t input, ValueId v) {
    if (!d.needs(input)) return;
    if (d.has(3))
      v = d.op("ScatterND",
               {d.zeros_like(d.in(input), d.dtype(input)), d.op("Unsqueeze", {d.in(3), d.ints({-1})}), v},
               attributes({{"reduction", std::string("add")}}));
    d.give(input, v);
  };
  if (d.needs(1)) give(1, d.reduce_sum(d.mul(g, x), {2, 4}, false));
  if (d.needs(2)) {
    const auto half_of = [&](ValueId v, int64_t i) {
      return d.op("Gather", {v, int64(d, i)}, attributes({{"axis", int64_t{4}}}));
    };
    const ValueId turn = d.sub(d.mul(half_of(g, 1), half_of(x, 0)), d.mul(half_of(g, 0), half_of(x, 1)));
    give(2, d.reduce_sum(turn, {2}, false));
  }
}

}  // namespace

void register_attention_gradient(OperatorRegistry& r) {
  r.op("Attention").decomposes(attention);
  r.op("FlexAttention", "ai.onnx.preview").decomposes(flex_attention);
  r.op("RotaryEmbedding").differentiates(rotary);
}

}  // namespace sardonyx
