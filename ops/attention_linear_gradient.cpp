// LinearAttention written out as a Scan over the positions, for its gradient: computed in f32, as it is.

#include "ops/attention.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

constexpr DType kType = DType::Float32;

struct Rule {
  bool gated, delta;
  int64_t kv_heads, group;
};

// One position: the state [batch, head, key element, value element], then q [batch, head, group, key
// element], k [batch, head, 1, key element], v [batch, head, 1, value element], the decay and beta [batch,
// head, x, 1]; gives the next state and the output [batch, head, group, value element].
GraphPtr step(const Rule& rule) {
  GraphBuilder body("linear attention");
  const Node none;
  Compose c(body, none);
  const auto input = [&](const char* name) { return body.input(name, Type::tensor(kType, Shape(4))); };
  ValueId state = input("state");
  const ValueId q = input("q"), k = input("k"), v = input("v");
  if (rule.gated) state = c.mul(state, c.op("Exp", {input("decay")}));
  ValueId update = v;
  if (rule.delta) update = c.mul(input("beta"), c.sub(v, c.op("MatMul", {k, state})));
  state = c.add(state, c.op("MatMul", {c.transpose(k, {0, 1, 3, 2}), update}));
  body.output(state);
  body.output(c.op("MatMul", {q, state}));
  return std::move(body).build();
}

std::vector<ValueId> linear_attention(Compose& c) {
  const auto a = c.attributes<LinearAttentionAttributes>();
  if (!a.q_num_heads || !a.kv_num_heads || *a.kv_num_heads < 1 || *a.q_num_heads % *a.kv_num_heads != 0)
    return {};
  const Rule rule{c.has(4), c.has(5), *a.kv_num_heads, *a.q_num_heads / *a.kv_num_heads};
  const auto wide = [&](size_t i) { return c.dtype(i) == kType ? c.in(i) : c.cast(c.in(i), kType); };
  const auto dims = [&](ValueId x, int64_t start, int64_t end) {
    return c.op("Shape", {x}, attributes({{"start", start}, {"end", end}}));
  };
  const auto joined = [&](std::vector<ValueId> parts) {
    return c.op("Concat", std::move(parts), attributes({{"axis", int64_t{0}}}));
  };
  const auto reshaped = [&](ValueId x, ValueId shape) {
    return c.op("Reshape", {x, shape}, attributes({{"allowzero", int64_t{1}}}));
  };
  // [batch, position, heads * rows * size] as [position, batch, heads, rows, size].
  const auto by_position = [&](size_t i, ValueId heads, int64_t rows, bool size_before_rows = false) {
    const ValueId x = wide(i), row = c.ints({rows});
    const ValueId size = c.div(dims(x, 2, 3), c.mul(heads, row));
    const ValueId shape = size_before_rows ? joined({dims(x, 0, 2), heads, size, row})
                                           : joined({dims(x, 0, 2), heads, row, size});
    return c.transpose(reshaped(x, shape), {1, 0, 2, 3, 4});
  };
  const ValueId heads = c.ints({rule.kv_heads});
  const ValueId q = by_position(0, heads, rule.group), k = by_position(1, heads, 1),
                v = by_position(2, heads, 1);
  const ValueId key_size = dims(k, 4, 5);
  ValueId state;
  if (c.has(3)) {
    state = wide(3);
  } else {
    const ValueId shape = joined({dims(c.in(0), 0, 1), heads, key_size, dims(v, 4, 5)});
    state = c.op("ConstantOfShape", {shape}, attributes({{"value", Value(Tensor::of<float>({0}))}}));
  }
  std::vector<ValueId> inputs = {state, q, k, v};
  if (rule.gated) inputs.push_back(by_position(4, heads, 1, true));
  // One beta, or one for each head.
  if (rule.delta) inputs.push_back(by_position(5, dims(c.in(5), 2, 3), 1, true));
  const auto scan =
      c.ops("Scan", inputs, 2,
            attributes({{"body", step(rule)}, {"num_scan_inputs", static_cast<int64_t>(inputs.size()) - 1}}));
  const ValueId scale =
      a.scale != 0 ? c.scalar(kType, static_cast<double>(a.scale))
                   : c.op("Reciprocal", {c.op("Sqrt", {c.cast(c.op("Squeeze", {key_size}), kType)})});
  // [position, batch, head, group, value element] to [batch, position, heads together].
  const ValueId y = c.mul(c.transpose(scan[1], {1, 0, 2, 3, 4}), scale);
  const ValueId width = c.mul(c.ints({*a.q_num_heads}), dims(v, 4, 5));
  const ValueId out = reshaped(y, joined({dims(c.in(0), 0, 2), width}));
  const DType type = c.dtype(0), state_type = c.has(3) ? c.dtype(3) : type;
  return {type == kType ? out : c.cast(out, type),
          state_type == kType ? scan[0] : c.cast(scan[0], state_type)};
}

}  // namespace

void register_attention_linear_gradient(OperatorRegistry& r) {
  r.op("LinearAttention").decomposes(linear_attention);
}

}  // namespace sardonyx
