// RNN, GRU and LSTM: validation, and the plain kernel.
#include "providers/cpu/recurrent.h"

#include <cctype>
#include <map>

#include "ops/recurrent.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/widen.h"

namespace sardonyx::cpu {
namespace {

struct GateInfo {
  Gate gate;
  bool alpha, beta;  // whether it takes one from the lists
  float default_alpha, default_beta;
};

const std::map<std::string, GateInfo>& gate_infos() {
  static const std::map<std::string, GateInfo> infos = {
      {"relu", {Gate::Relu, false, false, 0, 0}},
      {"tanh", {Gate::Tanh, false, false, 0, 0}},
      {"sigmoid", {Gate::Sigmoid, false, false, 0, 0}},
      {"affine", {Gate::Affine, true, true, 1, 0}},
      {"leakyrelu", {Gate::LeakyRelu, true, false, 0.01f, 0}},
      {"thresholdedrelu", {Gate::ThresholdedRelu, true, false, 1, 0}},
      {"scaledtanh", {Gate::ScaledTanh, true, true, 1, 1}},
      {"hardsigmoid", {Gate::HardSigmoid, true, true, 0.2f, 0.5f}},
      {"elu", {Gate::Elu, true, false, 1, 0}},
      {"softsign", {Gate::Softsign, false, false, 0, 0}},
      {"softplus", {Gate::Softplus, false, false, 0, 0}},
  };
  return infos;
}

void set_functions(PrepareContext& ctx, Recurrent& r, std::vector<std::string> names,
                   const RecurrentAttributes& a) {
  const size_t each = r.cell == Cell::Rnn ? 1 : r.cell == Cell::Gru ? 2 : 3;
  static const std::vector<std::string> defaults[] = {
      {"Tanh"}, {"Sigmoid", "Tanh"}, {"Sigmoid", "Tanh", "Tanh"}};
  const size_t directions = static_cast<size_t>(r.directions);
  if (names.empty()) names = defaults[each - 1];
  // Names for one direction serve both; RNN's default of two serves one.
  const bool shared = names.size() == each && directions == 2;
  const size_t wanted = shared ? each : each * directions;
  ctx.expect(names.size() >= wanted, "attribute 'activations'", std::to_string(each * directions) + " names",
             std::to_string(names.size()));
  const std::vector<float> alphas = a.activation_alpha.value_or(std::vector<float>()),
                           betas = a.activation_beta.value_or(std::vector<float>());
  size_t next_alpha = 0, next_beta = 0;
  for (size_t i = 0; i < wanted; ++i) {
    std::string key = names[i];
    for (char& c : key) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const auto found = gate_infos().find(key);
    if (found == gate_infos().end())
      ctx.fail("attribute 'activations'", "the name of an activation function", "'" + names[i] + "'");
    const GateInfo& info = found->second;
    GateFunction& f = r.functions[i / each][i % each];
    f = {info.gate, info.default_alpha, info.default_beta};
    if (info.alpha && next_alpha < alphas.size()) f.alpha = alphas[next_alpha++];
    if (info.beta && next_beta < betas.size()) f.beta = betas[next_beta++];
  }
  if (shared) std::copy_n(r.functions[0], each, r.functions[1]);
}

void expect_dims(PrepareContext& ctx, size_t i, const char* name, const Dims& expected) {
  if (!ctx.has_input(i)) return;
  ctx.expect(ctx.dims(i) == expected, std::string("input '") + name + "'", to_string(expected),
             to_string(ctx.dims(i)));
}

// The plain kernel: each sequence and direction on its own, gate by gate.
template <typename T>
struct Sequence {
  const Recurrent& r;
  const T *x, *w, *rec, *bias, *peephole;
  T* y;
  std::vector<T> h, c, gates, linear;

  T clipped(T v) const {
    return r.clips ? std::min(std::max(v, static_cast<T>(-r.clip)), static_cast<T>(r.clip)) : v;
  }
  T function(int64_t d, int which, T v) const { return gate_value(r.functions[d][which], clipped(v)); }
  // Row `row` of R times the state.
  T recurrent(int64_t d, int64_t row, const T* state) const {
    const T* p = rec + (d * r.gates * r.hidden + row) * r.hidden;
    T sum = 0;
    for (int64_t k = 0; k < r.hidden; ++k) sum += p[k] * state[k];
    return sum;
  }
  T b(int64_t d, int64_t row) const { return bias ? bias[d * 2 * r.gates * r.hidden + row] : T(0); }

  void step(int64_t d, const T* x_row) {
    const int64_t n = r.hidden, rows = r.gates * n;
    for (int64_t i = 0; i < rows; ++i) {
      const T* p = w + (d * rows + i) * r.input;
      T sum = b(d, i);
      for (int64_t k = 0; k < r.input; ++k) sum += p[k] * x_row[k];
      const bool hidden_gate = r.cell == Cell::Gru && i >= 2 * n;
      gates[i] = hidden_gate ? sum : sum + b(d, rows + i) + recurrent(d, i, h.data());
    }
    if (r.cell == Cell::Rnn) {
      for (int64_t i = 0; i < n; ++i) h[i] = function(d, 0, gates[i]);
    } else if (r.cell == Cell::Gru) {
      for (int64_t i = 0; i < 2 * n; ++i) gates[i] = function(d, 0, gates[i]);
      const T *z = gates.data(), *reset = z + n;
      for (int64_t i = 0; i < n; ++i) linear[i] = reset[i] * h[i];
      for (int64_t i = 0; i < n; ++i) {
        const T inner = r.linear_before_reset
                            ? reset[i] * (recurrent(d, 2 * n + i, h.data()) + b(d, rows + 2 * n + i))
                            : recurrent(d, 2 * n + i, linear.data()) + b(d, rows + 2 * n + i);
        gates[2 * n + i] = function(d, 1, gates[2 * n + i] + inner);
      }
      for (int64_t i = 0; i < n; ++i) h[i] = (1 - z[i]) * gates[2 * n + i] + z[i] * h[i];
    } else {
      const T* p = peephole ? peephole + d * 3 * n : nullptr;
      for (int64_t i = 0; i < n; ++i) {
        const T in = function(d, 0, gates[i] + (p ? p[i] * c[i] : T(0)));
        const T forget =
            r.input_forget ? 1 - in : function(d, 0, gates[2 * n + i] + (p ? p[2 * n + i] * c[i] : T(0)));
        c[i] = forget * c[i] + in * function(d, 1, gates[3 * n + i]);
        const T out = function(d, 0, gates[n + i] + (p ? p[n + i] * c[i] : T(0)));
        h[i] = out * gate_value(r.functions[d][2], c[i]);
      }
    }
  }
};

template <typename T>
void run_plain(RunContext& run, const Recurrent& r) {
  const std::vector<int64_t> lengths = sequence_lengths(run, r);
  const T *h0 = run.in<T>(5), *c0 = run.in<T>(6);
  T *y = run.out<T>(0), *y_h = run.out<T>(1), *y_c = run.out<T>(2);
  const double cost =
      static_cast<double>(r.steps * r.gates * r.hidden) * static_cast<double>(r.hidden + r.input);
  parallel_for(r.directions * r.batch, grain_for(cost), [&](int64_t begin, int64_t end) {
    const size_t n = static_cast<size_t>(r.hidden);
    Sequence<T> q{r,
                  run.in<T>(0),
                  run.in<T>(1),
                  run.in<T>(2),
                  run.in<T>(3),
                  run.in<T>(7),
                  y,
                  std::vector<T>(n),
                  std::vector<T>(n),
                  std::vector<T>(n * static_cast<size_t>(r.gates)),
                  std::vector<T>(n)};
    for (int64_t item = begin; item < end; ++item) {
      const int64_t d = item / r.batch, batch = item % r.batch, length = lengths[batch];
      for (int64_t i = 0; i < r.hidden; ++i) {
        q.h[i] = h0 ? h0[r.state_at(d, batch) + i] : T(0);
        q.c[i] = c0 ? c0[r.state_at(d, batch) + i] : T(0);
      }
      for (int64_t s = 0; s < r.steps; ++s) {
        const int64_t t = r.time(s, length, d);
        if (s < length) q.step(d, q.x + r.x_row(t, batch) * r.input);
        for (int64_t i = 0; y && i < r.hidden; ++i) y[r.y_at(t, d, batch) + i] = s < length ? q.h[i] : T(0);
      }
      for (int64_t i = 0; i < r.hidden; ++i) {
        if (y_h) y_h[r.state_at(d, batch) + i] = q.h[i];
        if (y_c) y_c[r.state_at(d, batch) + i] = q.c[i];
      }
    }
  });
}

template <Cell kCell>
Prepared prepare_ref(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (dtype == DType::Float32 && ctx.dtype(1) == DType::BFloat16)
    return widened(ctx, dtype, [](PrepareContext& wide) { return prepare_ref<kCell>(wide); });
  if (dtype == DType::Float16 || dtype == DType::BFloat16)
    return widened(ctx, dtype, [](PrepareContext& wide) { return prepare_recurrent_f32(wide, kCell); });
  Prepared prepared = decline(std::string("no kernel for ") + dtype_name(dtype));
  visit<Floats>(dtype, [&]<typename T>() {
    prepared = [r = prepare_recurrent(ctx, kCell)](RunContext& run) { run_plain<T>(run, r); };
  });
  return prepared;
}

}  // namespace

Recurrent prepare_recurrent(PrepareContext& ctx, Cell cell) {
  Recurrent r;
  r.cell = cell;
  r.gates = cell == Cell::Rnn ? 1 : cell == Cell::Gru ? 3 : 4;
  for (size_t i : {size_t{0}, size_t{1}, size_t{2}})
    ctx.expect(ctx.rank(i) == 3, std::string("input '") + "XWR"[i] + "'", "rank 3", to_string(ctx.dims(i)));
  for (size_t i : {size_t{1}, size_t{2}, size_t{3}, size_t{5}, size_t{6}, size_t{7}}) {
    // Precision "medium" has bf16 weights beside f32.
    if ((i == 1 || i == 2) && ctx.dtype(0) == DType::Float32 && ctx.dtype(i) == DType::BFloat16) continue;
    ctx.expect(!ctx.has_input(i) || ctx.dtype(i) == ctx.dtype(0), "input " + std::to_string(i),
               dtype_name(ctx.dtype(0)), ctx.has_input(i) ? dtype_name(ctx.dtype(i)) : "");
  }
  RecurrentAttributes a;
  std::vector<std::string> names;
  if (cell == Cell::Rnn) {
    const auto own = ctx.attributes<RnnAttributes>();
    a = own, names = own.activations;
  } else if (cell == Cell::Gru) {
    const auto own = ctx.attributes<GruAttributes>();
    a = own, names = own.activations.value_or(names);
    r.linear_before_reset = own.linear_before_reset != 0;
  } else {
    const auto own = ctx.attributes<LstmAttributes>();
    a = own, names = own.activations.value_or(names);
    r.input_forget = own.input_forget != 0;
  }
  ctx.expect(a.direction == "forward" || a.direction == "reverse" || a.direction == "bidirectional",
             "attribute 'direction'", "forward, reverse or bidirectional", "'" + a.direction + "'");
  ctx.expect(a.layout == 0 || a.layout == 1, "attribute 'layout'", "0 or 1", std::to_string(a.layout));
  r.reverse = a.direction == "reverse";
  r.directions = a.direction == "bidirectional" ? 2 : 1;
  r.batch_first = a.layout == 1;
  r.clips = a.clip.has_value();
  r.clip = a.clip.value_or(0);
  ctx.expect(!r.clips || r.clip >= 0, "attribute 'clip'", "a number of at least 0", std::to_string(r.clip));
  const Dims& x = ctx.dims(0);
  r.steps = x[r.batch_first ? 1 : 0];
  r.batch = x[r.batch_first ? 0 : 1];
  r.input = x[2];
  r.hidden = ctx.dims(2)[2];
  ctx.expect(!a.hidden_size || *a.hidden_size == r.hidden, "attribute 'hidden_size'",
             std::to_string(r.hidden) + ", the last dimension of input 'R'",
             std::to_string(a.hidden_size.value_or(0)));
  const int64_t rows = checked_mul(r.gates, r.hidden, "hidden size");
  expect_dims(ctx, 1, "W", {r.directions, rows, r.input});
  expect_dims(ctx, 2, "R", {r.directions, rows, r.hidden});
  expect_dims(ctx, 3, "B", {r.directions, 2 * rows});
  const Dims state =
      r.batch_first ? Dims{r.batch, r.directions, r.hidden} : Dims{r.directions, r.batch, r.hidden};
  expect_dims(ctx, 4, "sequence_lens", {r.batch});
  ctx.expect(!ctx.has_input(4) || ctx.dtype(4) == DType::Int32, "input 'sequence_lens'", "int32");
  expect_dims(ctx, 5, "initial_h", state);
  expect_dims(ctx, 6, "initial_c", state);
  expect_dims(ctx, 7, "P", {r.directions, 3 * r.hidden});
  set_functions(ctx, r, names, a);
  ctx.output(0, ctx.dtype(0),
             r.batch_first ? Dims{r.batch, r.steps, r.directions, r.hidden}
                           : Dims{r.steps, r.directions, r.batch, r.hidden});
  ctx.output(1, ctx.dtype(0), state);
  if (cell == Cell::Lstm) ctx.output(2, ctx.dtype(0), state);
  return r;
}

std::vector<int64_t> sequence_lengths(RunContext& run, const Recurrent& r) {
  std::vector<int64_t> lengths(static_cast<size_t>(r.batch), r.steps);
  if (!run.has_input(4)) return lengths;
  const int32_t* given = run.in<int32_t>(4);
  for (int64_t b = 0; b < r.batch; ++b) {
    if (given[b] < 0 || given[b] > r.steps)
      run.fail("input 'sequence_lens' at " + std::to_string(b), "0 to " + std::to_string(r.steps),
               std::to_string(given[b]));
    lengths[static_cast<size_t>(b)] = given[b];
  }
  return lengths;
}

void register_recurrent(KernelRegistry& registry) {
  registry.ref("RNN", prepare_ref<Cell::Rnn>);
  registry.ref("GRU", prepare_ref<Cell::Gru>);
  registry.ref("LSTM", prepare_ref<Cell::Lstm>);
}

}  // namespace sardonyx::cpu
