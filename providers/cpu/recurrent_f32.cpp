// RNN, GRU and LSTM in f32, perhaps with products of bf16: the input projection of many steps as one product,
// then step by step a product with packed recurrent weights. Hidden units are cut into blocks of 32; the
// gates of a block are computed together, so that a block's thread has all it needs for its part of the new
// state.
#include <algorithm>
#include <cstring>

#include "graph/shape.h"
#include "graph/bytes.h"
#include "providers/cpu/recurrent.h"
#include "providers/cpu/support/pack_cache.h"
#include "providers/cpu/support/panel_bfloat16.h"
#include "providers/cpu/support/panel_gemm.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/simd.h"

namespace sardonyx::cpu {
namespace {

constexpr int64_t kTileRows = 24;          // sequences of the batch taken together
constexpr int64_t kProjected = 2'000'000;  // floats of projected input held at once

// Weights as panels in the order (direction, block, gate), of f32 or of pairs of bf16; biases as 32 floats
// for each panel.
struct Weights {
  const float *w, *r, *bias, *reset_bias;
};

struct Plan {
  Recurrent r;
  int64_t blocks = 0, padded = 0;  // of hidden units: blocks of 32, and their width together
  int64_t panels = 0;              // directions * blocks * gates
  int64_t chunk = 0;               // steps projected together
  bool gathers = false;            // rows of X are copied into step order first, or converted
  bool narrow = false;             // weights are bf16, and what they are multiplied with is rounded to it
  double item_ns = 0, panel_ns = 0;
  std::shared_ptr<Buffer> w, rec, bias;  // packed constants; null where packed in each run
  int64_t at_w = 0, at_r = 0, at_bias = 0, at_x = 0, at_xw = 0, at_h = 0, at_c = 0, at_z = 0, at_rh = 0,
          at_low = 0, floats = 0;

  // Of a panel with k rows.
  int64_t panel_floats(int64_t k) const { return narrow ? pair_pad(k) / 2 * kPanel : k * kPanel; }
  int64_t columns(int64_t block) const { return std::min(kPanel, r.hidden - block * kPanel); }
};

void pack_weights(const Plan& p, const void* from, int64_t k, int64_t begin, int64_t end, float* to) {
  for (int64_t panel = begin; panel < end; ++panel) {
    const int64_t gate = panel % p.r.gates, block = panel / p.r.gates % p.blocks,
                  d = panel / p.r.gates / p.blocks;
    const int64_t row = (d * p.r.gates + gate) * p.r.hidden + block * kPanel;
    float* packed = to + panel * p.panel_floats(k);
    if (p.narrow)
      pack_pairs(static_cast<const uint16_t*>(from) + row * k, k, k, p.columns(block),
                 reinterpret_cast<uint16_t*>(packed));
    else
      pack_panels(static_cast<const float*>(from) + row * k, 1, k, k, p.columns(block), packed);
  }
}

// Both biases of a gate are added, but for GRU's hidden gate when the reset gate comes after its product:
// then the recurrent one stands apart, behind the others.
void pack_bias(const Plan& p, const float* from, float* to) {
  const Recurrent& r = p.r;
  std::fill_n(to, (p.panels + r.directions * p.blocks) * kPanel, 0.0f);
  if (!from) return;
  for (int64_t panel = 0; panel < p.panels; ++panel) {
    const int64_t gate = panel % r.gates, block = panel / r.gates % p.blocks, d = panel / r.gates / p.blocks;
    const float* both = from + d * 2 * r.gates * r.hidden + gate * r.hidden + block * kPanel;
    const bool apart = r.linear_before_reset && gate == 2;
    for (int64_t j = 0; j < p.columns(block); ++j) {
      const float second = both[r.gates * r.hidden + j];
      to[panel * kPanel + j] = both[j] + (apart ? 0 : second);
      if (apart) to[(p.panels + d * p.blocks + block) * kPanel + j] = second;
    }
  }
}

// One run: where everything lies.
struct Run {
  const Plan& p;
  const Recurrent& r;
  Weights weights;
  const int64_t* lengths;  // null: all of full length
  const float* peephole;
  float *xw, *h, *c, *z, *rh, *y;
  uint16_t* low;                // narrow: the bf16 of the states at and behind h, at the same distances
  int64_t first = 0, rows = 0;  // first projected step, projected rows of a direction

  int64_t length(int64_t b) const { return lengths ? lengths[b] : r.steps; }
  float* hidden(int64_t parity, int64_t d, int64_t b) const {
    return h + ((parity * r.directions + d) * r.batch + b) * p.padded;
  }
  const float* projected(int64_t s, int64_t d, int64_t b, int64_t block, int64_t gate) const {
    return xw + ((d * rows + (s - first) * r.batch + b) * p.blocks + block) * r.gates * kPanel +
           gate * kPanel;
  }
  int64_t row_stride() const { return p.blocks * r.gates * kPanel; }

  void clip(float* v, int64_t n) const {
    if (!r.clips) return;
    for (int64_t i = 0; i < n; ++i) v[i] = std::min(std::max(v[i], -r.clip), r.clip);
  }
  // Of n elements of a state that products will read.
  void round(const float* state, int64_t n) const {
    if (p.narrow) simd::float_to_bfloat16(state, low + (state - h), n);
  }
  void apply(int64_t d, int which, float* v, int64_t n) const {
    clip(v, n);
    simd_gate(r.functions[d][which], v, n);
  }
  // out = init + state * R of one gate, for `n` sequences from b on.
  void product(const float* state, int64_t d, int64_t block, int64_t gate, int64_t n, const float* init,
               int64_t stride, float* out) const {
    const int64_t panel = (d * p.blocks + block) * r.gates + gate;
    const float* panel_weights = weights.r + panel * p.panel_floats(r.hidden);
    if (p.narrow)
      return panel_bfloat16({.m = n,
                             .k = r.hidden,
                             .a = low + (state - h),
                             .lda = p.padded,
                             .b = reinterpret_cast<const uint16_t*>(panel_weights),
                             .c = out,
                             .ldc = kPanel,
                             .init = init,
                             .init_stride = stride});
    panel_gemm({.m = n,
                .n = kPanel,
                .k = r.hidden,
                .a = state,
                .lda = p.padded,
                .b = panel_weights,
                .ldb = kPanel,
                .c = out,
                .ldc = kPanel,
                .init = init,
                .init_stride = stride});
  }

  // The new state of one sequence in one block: kept when the sequence has ended.
  void store(int64_t s, int64_t d, int64_t b, int64_t block, const float* value) const {
    const int64_t at = block * kPanel, ends = length(b);
    float* next = hidden((s + 1) & 1, d, b) + at;
    const bool live = s < ends;
    std::memcpy(next, live ? value : hidden(s & 1, d, b) + at, kPanel * sizeof(float));
    round(next, kPanel);
    if (!y) return;
    float* out = y + r.y_at(r.time(s, ends, d), d, b) + at;
    if (live)
      std::memcpy(out, value, static_cast<size_t>(p.columns(block)) * sizeof(float));
    else
      std::memset(out, 0, static_cast<size_t>(p.columns(block)) * sizeof(float));
  }

  void rnn(int64_t s, int64_t d, int64_t block, int64_t b0, int64_t n) const {
    alignas(64) float tile[kTileRows * kPanel];
    product(hidden(s & 1, d, b0), d, block, 0, n, projected(s, d, b0, block, 0), row_stride(), tile);
    apply(d, 0, tile, n * kPanel);
    for (int64_t i = 0; i < n; ++i) store(s, d, b0 + i, block, tile + i * kPanel);
  }

  void lstm(int64_t s, int64_t d, int64_t block, int64_t b0, int64_t n) const {
    alignas(64) float tile[4 * kTileRows * kPanel];
    alignas(64) float cell[kTileRows * kPanel];
    const int64_t size = n * kPanel;
    float *in = tile, *out = tile + size, *forget = tile + 2 * size, *fresh = tile + 3 * size;
    for (int64_t g = 0; g < 4; ++g)
      product(hidden(s & 1, d, b0), d, block, g, n, projected(s, d, b0, block, g), row_stride(),
              tile + g * size);
    alignas(64) float peep[3][kPanel] = {};
    if (peephole)
      for (int64_t g = 0; g < 3; ++g)
        std::copy_n(peephole + (d * 3 + g) * r.hidden + block * kPanel, p.columns(block), peep[g]);
    float* state = c + (d * r.batch + b0) * p.padded + block * kPanel;
    if (peephole) {
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < kPanel; ++j) {
          in[i * kPanel + j] += peep[0][j] * state[i * p.padded + j];
          forget[i * kPanel + j] += peep[2][j] * state[i * p.padded + j];
        }
      apply(d, 0, in, size);
      apply(d, 0, forget, size);
    } else {
      apply(d, 0, tile, 3 * size);
    }
    apply(d, 1, fresh, size);
    if (r.input_forget)
      for (int64_t i = 0; i < size; ++i) forget[i] = 1 - in[i];
    for (int64_t i = 0; i < n; ++i) {
      float* held = state + i * p.padded;
      float* now = cell + i * kPanel;
      const float *f = forget + i * kPanel, *a = in + i * kPanel, *g = fresh + i * kPanel;
      for (int64_t j = 0; j < kPanel; ++j) now[j] = f[j] * held[j] + a[j] * g[j];
      if (s < length(b0 + i)) std::memcpy(held, now, kPanel * sizeof(float));
    }
    if (peephole) {
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < kPanel; ++j) out[i * kPanel + j] += peep[1][j] * cell[i * kPanel + j];
      apply(d, 0, out, size);
    }
    simd_gate(r.functions[d][2], cell, size);
    for (int64_t i = 0; i < size; ++i) cell[i] *= out[i];
    for (int64_t i = 0; i < n; ++i) store(s, d, b0 + i, block, cell + i * kPanel);
  }

  void gru_output(int64_t s, int64_t d, int64_t block, int64_t b0, int64_t n, const float* update,
                  int64_t stride, float* fresh) const {
    for (int64_t i = 0; i < n; ++i) {
      const float* before = hidden(s & 1, d, b0 + i) + block * kPanel;
      const float* u = update + i * stride;
      float* v = fresh + i * kPanel;
      for (int64_t j = 0; j < kPanel; ++j) v[j] = (1 - u[j]) * v[j] + u[j] * before[j];
      store(s, d, b0 + i, block, v);
    }
  }

  // The reset gate after the product: one pass.
  void gru_linear(int64_t s, int64_t d, int64_t block, int64_t b0, int64_t n) const {
    alignas(64) float tile[3 * kTileRows * kPanel];
    const int64_t size = n * kPanel;
    const float* state = hidden(s & 1, d, b0);
    for (int64_t g = 0; g < 2; ++g)
      product(state, d, block, g, n, projected(s, d, b0, block, g), row_stride(), tile + g * size);
    product(state, d, block, 2, n, weights.reset_bias + (d * p.blocks + block) * kPanel, 0, tile + 2 * size);
    apply(d, 0, tile, 2 * size);
    float *reset = tile + size, *fresh = tile + 2 * size;
    for (int64_t i = 0; i < n; ++i) {
      const float* x = projected(s, d, b0 + i, block, 2);
      for (int64_t j = 0; j < kPanel; ++j)
        fresh[i * kPanel + j] = x[j] + reset[i * kPanel + j] * fresh[i * kPanel + j];
    }
    apply(d, 1, fresh, size);
    gru_output(s, d, block, b0, n, tile, kPanel, fresh);
  }

  // The reset gate before the product: every block's reset state must be there before the second half.
  void gru_gates(int64_t s, int64_t d, int64_t block, int64_t b0, int64_t n) const {
    alignas(64) float tile[2 * kTileRows * kPanel];
    const int64_t size = n * kPanel;
    const float* state = hidden(s & 1, d, b0);
    for (int64_t g = 0; g < 2; ++g)
      product(state, d, block, g, n, projected(s, d, b0, block, g), row_stride(), tile + g * size);
    apply(d, 0, tile, 2 * size);
    for (int64_t i = 0; i < n; ++i) {
      const int64_t at = (d * r.batch + b0 + i) * p.padded + block * kPanel;
      const float* before = state + i * p.padded + block * kPanel;
      std::memcpy(z + at, tile + i * kPanel, kPanel * sizeof(float));
      for (int64_t j = 0; j < kPanel; ++j) rh[at + j] = tile[size + i * kPanel + j] * before[j];
      round(rh + at, kPanel);
    }
  }
  void gru_state(int64_t s, int64_t d, int64_t block, int64_t b0, int64_t n) const {
    alignas(64) float tile[kTileRows * kPanel];
    const int64_t at = (d * r.batch + b0) * p.padded;
    product(rh + at, d, block, 2, n, projected(s, d, b0, block, 2), row_stride(), tile);
    apply(d, 1, tile, n * kPanel);
    gru_output(s, d, block, b0, n, z + at + block * kPanel, p.padded, tile);
  }

  // Every other step goes backward, so that it begins with the weights that the one before left in the cache.
  template <typename F>
  void blocks_of_step(int64_t s, double ns, F f) const {
    parallel_for(r.directions * p.blocks, grain_for(ns), [&](int64_t begin, int64_t end) {
      for (int64_t turn = begin; turn < end; ++turn) {
        const int64_t item = s & 1 ? begin + end - 1 - turn : turn;
        for (int64_t b = 0; b < r.batch; b += kTileRows)
          f(item / p.blocks, item % p.blocks, b, std::min(kTileRows, r.batch - b));
      }
    });
  }

  void step(int64_t s) const {
    switch (r.cell) {
      case Cell::Rnn:
        return blocks_of_step(s, p.item_ns,
                              [&](int64_t d, int64_t k, int64_t b, int64_t n) { rnn(s, d, k, b, n); });
      case Cell::Lstm:
        return blocks_of_step(s, p.item_ns,
                              [&](int64_t d, int64_t k, int64_t b, int64_t n) { lstm(s, d, k, b, n); });
      case Cell::Gru:
        break;
    }
    if (r.linear_before_reset)
      return blocks_of_step(s, p.item_ns,
                            [&](int64_t d, int64_t k, int64_t b, int64_t n) { gru_linear(s, d, k, b, n); });
    blocks_of_step(s, p.item_ns * 2 / 3,
                   [&](int64_t d, int64_t k, int64_t b, int64_t n) { gru_gates(s, d, k, b, n); });
    blocks_of_step(s, p.item_ns / 3,
                   [&](int64_t d, int64_t k, int64_t b, int64_t n) { gru_state(s, d, k, b, n); });
  }

  // The input projection of steps [first, first + steps) of every direction.
  void project(const float* x, float* gathered, int64_t steps) {
    rows = steps * r.batch;
    auto* narrow = reinterpret_cast<uint16_t*>(gathered);
    const int64_t pairs = pair_pad(r.input);
    if (p.gathers) {
      parallel_for(r.directions * rows, grain_for(static_cast<double>(r.input) * 0.3 + 5),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t item = begin; item < end; ++item) {
                       const int64_t d = item / rows, s = first + item % rows / r.batch, b = item % r.batch,
                                     t = r.time(s, length(b), d);
                       const float* row = x + r.x_row(t, b) * r.input;
                       if (p.narrow) {
                         simd::float_to_bfloat16(row, narrow + item * pairs, r.input);
                         if (pairs != r.input) narrow[item * pairs + r.input] = 0;
                       } else {
                         std::copy_n(row, r.input, gathered + item * r.input);
                       }
                     }
                   });
    }
    parallel_for(
        p.panels, grain_for(p.panel_ns * static_cast<double>(rows)), [&](int64_t begin, int64_t end) {
          for (int64_t panel = begin; panel < end; ++panel) {
            const int64_t per_direction = p.blocks * r.gates, d = panel / per_direction;
            const float* panel_weights = weights.w + panel * p.panel_floats(r.input);
            float* to = xw + d * rows * row_stride() + panel % per_direction * kPanel;
            if (p.narrow) {
              panel_bfloat16({.m = rows,
                              .k = r.input,
                              .a = narrow + d * rows * pairs,
                              .lda = pairs,
                              .b = reinterpret_cast<const uint16_t*>(panel_weights),
                              .c = to,
                              .ldc = row_stride(),
                              .init = weights.bias + panel * kPanel,
                              .init_stride = 0});
              continue;
            }
            panel_gemm({.m = rows,
                        .n = kPanel,
                        .k = r.input,
                        .a = p.gathers ? gathered + d * rows * r.input : x + first * r.batch * r.input,
                        .lda = r.input,
                        .b = panel_weights,
                        .ldb = kPanel,
                        .c = to,
                        .ldc = row_stride(),
                        .init = weights.bias + panel * kPanel,
                        .init_stride = 0});
          }
        });
  }
};

void run_plan(const Plan& p, RunContext& context) {
  const Recurrent& r = p.r;
  float* base = reinterpret_cast<float*>(context.scratch());
  const auto weight = [&](const std::shared_ptr<Buffer>& packed, size_t input, int64_t k,
                          int64_t at) -> const float* {
    if (packed) return static_cast<const float*>(packed->data());
    const void* from = context.input(input).data();
    parallel_for(p.panels, grain_for(static_cast<double>(k) * 16),
                 [&](int64_t begin, int64_t end) { pack_weights(p, from, k, begin, end, base + at); });
    return base + at;
  };
  Weights weights{weight(p.w, 1, r.input, p.at_w), weight(p.rec, 2, r.hidden, p.at_r), nullptr, nullptr};
  if (p.bias) {
    weights.bias = static_cast<const float*>(p.bias->data());
  } else {
    pack_bias(p, context.in<float>(3), base + p.at_bias);
    weights.bias = base + p.at_bias;
  }
  weights.reset_bias = weights.bias + p.panels * kPanel;
  std::vector<int64_t> lengths;
  if (context.has_input(4)) lengths = sequence_lengths(context, r);
  Run run{p,
          r,
          weights,
          context.has_input(4) ? lengths.data() : nullptr,
          context.in<float>(7),
          base + p.at_xw,
          base + p.at_h,
          base + p.at_c,
          base + p.at_z,
          base + p.at_rh,
          context.out<float>(0),
          reinterpret_cast<uint16_t*>(base + p.at_low)};
  const float *h0 = context.in<float>(5), *c0 = context.in<float>(6);
  std::fill_n(run.h, 2 * r.directions * r.batch * p.padded, 0.0f);
  if (r.cell == Cell::Lstm) std::fill_n(run.c, r.directions * r.batch * p.padded, 0.0f);
  for (int64_t d = 0; d < r.directions; ++d)
    for (int64_t b = 0; b < r.batch; ++b) {
      if (h0) std::copy_n(h0 + r.state_at(d, b), r.hidden, run.hidden(0, d, b));
      run.round(run.hidden(0, d, b), p.padded);
      if (c0) std::copy_n(c0 + r.state_at(d, b), r.hidden, run.c + (d * r.batch + b) * p.padded);
    }
  for (int64_t s = 0; s < r.steps; ++s) {
    if (s % p.chunk == 0) {
      context.check_cancelled();
      run.first = s;
      run.project(context.in<float>(0), base + p.at_x, std::min(p.chunk, r.steps - s));
    }
    run.step(s);
  }
  float *y_h = context.out<float>(1), *y_c = context.out<float>(2);
  for (int64_t d = 0; d < r.directions; ++d)
    for (int64_t b = 0; b < r.batch; ++b) {
      if (y_h) std::copy_n(run.hidden(r.steps & 1, d, b), r.hidden, y_h + r.state_at(d, b));
      if (y_c) std::copy_n(run.c + (d * r.batch + b) * p.padded, r.hidden, y_c + r.state_at(d, b));
    }
}

template <Cell kCell>
Prepared prepare(PrepareContext& ctx) {
  return prepare_recurrent_f32(ctx, kCell);
}

}  // namespace

Prepared prepare_recurrent_f32(PrepareContext& ctx, Cell cell) {
  if (ctx.dtype(0) != DType::Float32) return decline("only float");
  Plan p;
  p.narrow = ctx.dtype(1) == DType::BFloat16 && ctx.dtype(2) == DType::BFloat16;
  if (!p.narrow && (ctx.dtype(1) != DType::Float32 || ctx.dtype(2) != DType::Float32))
    return decline("weights of several types");
  if (p.narrow && !has_panel_bfloat16()) return decline("no instructions for products of bf16");
  p.r = prepare_recurrent(ctx, cell);
  const Recurrent& r = p.r;
  p.blocks = panel_count(r.hidden);
  p.padded = p.blocks * kPanel;
  p.panels = r.directions * p.blocks * r.gates;
  p.gathers = r.batch_first || r.reverse || r.directions == 2 || ctx.has_input(4) || p.narrow;
  const int64_t sequences = checked_mul(r.directions, r.batch, "batch size");
  const int64_t step_floats =
      std::max<int64_t>(1, checked_mul(sequences, p.padded * r.gates, "projected input"));
  p.chunk = std::clamp<int64_t>(kProjected / step_floats, 1, std::max<int64_t>(r.steps, 1));
  // A product of few rows runs at the speed of the cache that holds the weights.
  const double speed = p.narrow ? 2 : 1,
               flops = static_cast<double>(r.batch * r.gates * r.hidden * kPanel * 2) / speed,
               bytes = static_cast<double>(r.gates * r.hidden * kPanel * 4) / speed;
  p.item_ns = std::max(flops / 80, bytes / 40) + static_cast<double>(r.batch * r.gates * kPanel);
  p.panel_ns = static_cast<double>(r.input * kPanel * 2) / (60 * speed) + 3;

  const auto place = [&p](int64_t floats) {
    const int64_t at = p.floats;
    p.floats = checked_add(at, (floats + 15) / 16 * 16, "scratch memory");
    return at;
  };
  const auto weights = [&](size_t input, int64_t k, std::shared_ptr<Buffer>& packed, int64_t& at) {
    checked_mul(p.panels * kPanel, checked_add(k, 1, "packed weights"), "packed weights");
    const int64_t floats = p.panels * p.panel_floats(k);
    if (const Tensor* source = ctx.constant(input))
      packed = packed_constant(*source, "recurrent " + to_string(source->dims()), floats, [&](float* to) {
        pack_weights(p, TensorBytes(*source).data(), k, 0, p.panels, to);
      });
    else
      at = place(floats);
  };
  weights(1, r.input, p.w, p.at_w);
  weights(2, r.hidden, p.rec, p.at_r);
  const int64_t bias_floats = (p.panels + r.directions * p.blocks) * kPanel;
  if (!ctx.has_input(3) || ctx.constant(3)) {
    p.bias = Buffer::host(static_cast<size_t>(bias_floats) * sizeof(float));
    pack_bias(p, ctx.has_input(3) ? ctx.constant(3)->data<float>() : nullptr,
              static_cast<float*>(p.bias->data()));
  } else {
    p.at_bias = place(bias_floats);
  }
  const int64_t rows = checked_mul(p.chunk, sequences, "projected input"),
                state = checked_mul(sequences, p.padded, "state");
  if (p.gathers) p.at_x = place(checked_mul(rows, pair_pad(r.input), "gathered input"));
  p.at_xw = place(checked_mul(rows, p.padded * r.gates, "projected input"));
  p.at_h = place(checked_mul(2, state, "state"));
  if (cell == Cell::Lstm) p.at_c = place(state);
  if (cell == Cell::Gru && !r.linear_before_reset) p.at_z = place(state), p.at_rh = place(state);
  if (p.narrow) p.at_low = place((p.floats - p.at_h + 1) / 2);
  ctx.scratch(static_cast<size_t>(checked_mul(p.floats, sizeof(float), "scratch memory")));
  return [p](RunContext& run) { run_plan(p, run); };
}

void register_recurrent_f32(KernelRegistry& registry) {
  registry.add("RNN", "simd", kFirst, prepare<Cell::Rnn>);
  registry.add("GRU", "simd", kFirst, prepare<Cell::Gru>);
  registry.add("LSTM", "simd", kFirst, prepare<Cell::Lstm>);
}

}  // namespace sardonyx::cpu
