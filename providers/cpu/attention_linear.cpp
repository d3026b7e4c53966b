// LinearAttention: a recurrence over a matrix state for each head, in f32 whatever the inputs' float type.
#include <algorithm>
#include <cmath>

#include "graph/shape.h"
#include "ops/attention.h"
#include "providers/cpu/support/panel_gemm.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/simd_rows.h"
#include "providers/cpu/support/widen.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {
namespace {

// Inputs: query key value past_state decay beta. Outputs: output present_state.
struct Plan {
  int64_t batch, length, q_heads, kv_heads, dk, dv;
  bool gated = false, delta = false;
  int64_t decay_width = 0;  // elements of decay for a head: 1 or dk
  int64_t beta_heads = 0;   // 1 or kv_heads
  DType type, state_type;
  float scale = 1;
};

Tensor widened_input(const Tensor& tensor) {
  if (tensor.dtype() == DType::Float32) return tensor;
  Tensor copy(DType::Float32, tensor.dims());
  convert_floats(tensor.dtype(), tensor.data(), DType::Float32, copy.mutable_data(), tensor.size());
  return copy;
}

void run_plan(const Plan& p, RunContext& run) {
  const Tensor q = widened_input(run.input(0)), k = widened_input(run.input(1)),
               v = widened_input(run.input(2));
  Tensor past, decay, beta;
  if (run.has_input(3)) past = widened_input(run.input(3));
  if (p.gated) decay = widened_input(run.input(4));
  if (p.delta) beta = widened_input(run.input(5));
  const int64_t width = panel_pad(p.dv), group = p.q_heads / p.kv_heads;
  Tensor y(DType::Float32, {p.batch, p.length, p.q_heads * p.dv});
  Tensor present(DType::Float32, {p.batch, p.kv_heads, p.dk, p.dv});
  const double cost = static_cast<double>(p.length * p.dk * width) * static_cast<double>(2 + group) / 8;
  parallel_for(p.batch * p.kv_heads, grain_for(cost + 100), [&](int64_t begin, int64_t end) {
    std::vector<float> state(static_cast<size_t>(p.dk * width)), update(static_cast<size_t>(width));
    // row = vector * state, for the columns of the state.
    const auto product = [&](const float* vector, float* row) {
      for (int64_t at = 0; at < width; at += kPanel)
        panel_gemm({.m = 1,
                    .n = std::min(kPanel, p.dv - at),
                    .k = p.dk,
                    .a = vector,
                    .lda = p.dk,
                    .b = state.data() + at,
                    .ldb = width,
                    .c = row + at,
                    .ldc = width});
    };
    for (int64_t item = begin; item < end; ++item) {
      const int64_t b = item / p.kv_heads, h = item % p.kv_heads;
      std::fill(state.begin(), state.end(), 0.0f);
      if (past.defined())
        for (int64_t i = 0; i < p.dk; ++i)
          std::copy_n(past.data<float>() + (item * p.dk + i) * p.dv, p.dv, state.data() + i * width);
      for (int64_t t = 0; t < p.length; ++t) {
        const int64_t row = b * p.length + t;
        const float* key = k.data<float>() + (row * p.kv_heads + h) * p.dk;
        const float* value = v.data<float>() + (row * p.kv_heads + h) * p.dv;
        const float* gate = p.gated ? decay.data<float>() + (row * p.kv_heads + h) * p.decay_width : nullptr;
        if (gate)
          for (int64_t i = 0; i < p.dk; ++i)
            scale_row(state.data() + i * width, p.dv, std::exp(gate[p.decay_width == 1 ? 0 : i]));
        std::copy_n(value, p.dv, update.data());
        if (p.delta) {
          const float rate = beta.data<float>()[row * p.beta_heads + (p.beta_heads == 1 ? 0 : h)];
          product(key, update.data());
          for (int64_t i = 0; i < p.dv; ++i)
            update[static_cast<size_t>(i)] = rate * (value[i] - update[static_cast<size_t>(i)]);
        }
        for (int64_t i = 0; i < p.dk; ++i)
          axpby_row(1, state.data() + i * width, key[i], update.data(), p.dv);
        for (int64_t g = 0; g < group; ++g) {
          const int64_t head = h * group + g;
          float* out = y.mutable_data<float>() + (row * p.q_heads + head) * p.dv;
          product(q.data<float>() + (row * p.q_heads + head) * p.dk, out);
          scale_row(out, p.dv, p.scale);
        }
      }
      for (int64_t i = 0; i < p.dk; ++i)
        std::copy_n(state.data() + i * width, p.dv, present.mutable_data<float>() + (item * p.dk + i) * p.dv);
    }
  });
  if (run.wants(0)) convert_floats(DType::Float32, y.data(), p.type, run.output(0).mutable_data(), y.size());
  if (run.wants(1))
    convert_floats(DType::Float32, present.data(), p.state_type, run.output(1).mutable_data(),
                   present.size());
}

Prepared prepare(PrepareContext& ctx) {
  const auto a = ctx.attributes<LinearAttentionAttributes>();
  Plan p;
  ctx.expect(a.q_num_heads && a.kv_num_heads && *a.q_num_heads > 0 && *a.kv_num_heads > 0 &&
                 *a.q_num_heads % *a.kv_num_heads == 0,
             "attributes 'q_num_heads' and 'kv_num_heads'",
             "positive numbers, the first a multiple of the second");
  p.q_heads = *a.q_num_heads, p.kv_heads = *a.kv_num_heads;
  const std::string& rule = a.update_rule;
  ctx.expect(rule == "linear" || rule == "gated" || rule == "delta" || rule == "gated_delta",
             "attribute 'update_rule'", "linear, gated, delta or gated_delta", "'" + rule + "'");
  p.gated = rule == "gated" || rule == "gated_delta";
  p.delta = rule == "delta" || rule == "gated_delta";
  ctx.expect(ctx.has_input(4) == p.gated, "input 'decay'",
             p.gated ? "present for this update rule" : "absent for this update rule");
  ctx.expect(ctx.has_input(5) == p.delta, "input 'beta'",
             p.delta ? "present for this update rule" : "absent for this update rule");
  for (size_t i = 0; i < 6; ++i) {
    if (!ctx.has_input(i)) continue;
    const int rank = i == 3 ? 4 : 3;
    ctx.expect(ctx.rank(i) == rank, "input " + std::to_string(i), "rank " + std::to_string(rank),
               to_string(ctx.dims(i)));
    ctx.expect(is_float(ctx.dtype(i)), "input " + std::to_string(i), "a float type",
               dtype_name(ctx.dtype(i)));
  }
  const Dims &q = ctx.dims(0), &k = ctx.dims(1), &v = ctx.dims(2);
  p.batch = q[0], p.length = q[1];
  ctx.expect(q[2] % p.q_heads == 0, "input 'query' dim 2", "a multiple of " + std::to_string(p.q_heads),
             std::to_string(q[2]));
  p.dk = q[2] / p.q_heads;
  ctx.expect(k == Dims{p.batch, p.length, p.kv_heads * p.dk}, "input 'key'",
             to_string(Dims{p.batch, p.length, p.kv_heads * p.dk}), to_string(k));
  ctx.expect(v[0] == p.batch && v[1] == p.length && v[2] % p.kv_heads == 0, "input 'value'",
             "[" + std::to_string(p.batch) + ", " + std::to_string(p.length) + ", a multiple of " +
                 std::to_string(p.kv_heads) + "]",
             to_string(v));
  p.dv = v[2] / p.kv_heads;
  p.type = p.state_type = ctx.dtype(0);
  const Dims state{p.batch, p.kv_heads, p.dk, p.dv};
  if (ctx.has_input(3)) {
    p.state_type = ctx.dtype(3);
    ctx.expect(ctx.dims(3) == state, "input 'past_state'", to_string(state), to_string(ctx.dims(3)));
  }
  if (p.gated) {
    const Dims& d = ctx.dims(4);
    ctx.expect(d[0] == p.batch && d[1] == p.length && (d[2] == p.kv_heads || d[2] == p.kv_heads * p.dk),
               "input 'decay'", "one value for each head, or for each key element", to_string(d));
    p.decay_width = d[2] == p.kv_heads ? 1 : p.dk;
  }
  if (p.delta) {
    const Dims& d = ctx.dims(5);
    ctx.expect(d[0] == p.batch && d[1] == p.length && (d[2] == p.kv_heads || d[2] == 1), "input 'beta'",
               "one value, or one for each head", to_string(d));
    p.beta_heads = d[2];
  }
  p.scale = a.scale == 0 ? static_cast<float>(1 / std::sqrt(static_cast<double>(p.dk))) : a.scale;
  ctx.output(0, p.type, {p.batch, p.length, checked_mul(p.q_heads, p.dv, "output width")});
  ctx.output(1, p.state_type, state);
  return [p](RunContext& run) { run_plan(p, run); };
}

}  // namespace

void register_attention_linear(KernelRegistry& registry) { registry.ref("LinearAttention", prepare); }

}  // namespace sardonyx::cpu
