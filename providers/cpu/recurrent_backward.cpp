// LSTMBackward, GRUBackward and RNNBackward: from the last step to the first. Hidden units are cut into
// panels of 32, each of which a thread takes through a step: the product of the gradients of the step behind
// it with its columns of R, and its part of the gates.
#include "ops/recurrent_backward.h"

#include <algorithm>

#include "ops/registry/operator.h"
#include "providers/cpu/recurrent.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/gates_backward.h"
#include "providers/cpu/support/gemm.h"
#include "providers/cpu/support/panel_gemm.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/widen.h"

namespace sardonyx::cpu {

namespace {

struct Form {
  Cell cell = Cell::Rnn;
  bool reverse = false;
  int64_t gates = 1, steps = 0, batch = 0, hidden = 0;
  size_t r = 1, dy = 2, dy_h = 3;  // inputs
  // Places in the scratch memory, in elements.
  int64_t at_r = 0, at_dh = 0, at_carry = 0, at_cells = 0, at_tanhs = 0, size = 0;

  int64_t rows() const { return gates * hidden; }  // of R
  int64_t panels() const { return panel_count(hidden); }
  int64_t columns(int64_t panel) const { return std::min(kPanel, hidden - panel * kPanel); }
  // The step s of the forward direction stands at this time.
  int64_t time(int64_t s) const { return reverse ? steps - 1 - s : s; }
  int64_t sequences() const { return steps * batch; }
};

template <typename T>
class Backward {
 public:
  Backward(const Form& form, RunContext& run)
      : f_(form), run_(run), scratch_(reinterpret_cast<T*>(run.scratch())), dx_(run.out<T>(0)) {
    d_state_ = f_.cell == Cell::Gru ? run.out<T>(1) : dx_;
  }

  void run() {
    pack();
    activate();
    T* dh = scratch_ + f_.at_dh;
    T* carry = scratch_ + f_.at_carry;
    if (f_.cell != Cell::Rnn) {
      const T* last = f_.cell == Cell::Lstm ? run_.in<T>(5) : nullptr;
      if (last)
        std::copy_n(last, f_.batch * f_.hidden, carry);
      else
        std::fill_n(carry, f_.batch * f_.hidden, T(0));
    }
    const double ns =
        static_cast<double>(f_.batch * f_.rows() * kPanel) / 20 + static_cast<double>(f_.batch * 60);
    for (int64_t s = f_.steps; s-- > 0;) {
      run_.check_cancelled();
      parallel_for(f_.panels(), grain_for(ns), [&](int64_t begin, int64_t end) {
        for (int64_t panel = begin; panel < end; ++panel) {
          before_step(s, panel, dh);
          step(s, panel, dh, carry);
        }
      });
    }
    const size_t first_h = f_.cell == Cell::Rnn ? 1 : f_.cell == Cell::Gru ? 2 : 1;
    if (T* out = run_.out<T>(first_h))
      parallel_for(f_.panels(), grain_for(ns), [&](int64_t begin, int64_t end) {
        for (int64_t panel = begin; panel < end; ++panel) by_state(-1, panel, out);
      });
    if (T* out = f_.cell == Cell::Lstm ? run_.out<T>(2) : nullptr)
      std::copy_n(carry, f_.batch * f_.hidden, out);
  }

 private:
  void pack() {
    if constexpr (std::is_same_v<T, float>)
      parallel_for(f_.panels(), grain_for(static_cast<double>(f_.rows()) * 16),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t panel = begin; panel < end; ++panel)
                       pack_panels(run_.in<T>(f_.r) + panel * kPanel, f_.hidden, 1, f_.rows(),
                                   f_.columns(panel), scratch_ + f_.at_r + panel * f_.rows() * kPanel);
                   });
  }

  // What the functions of the gates gave, where their gradients will be; LSTM's cells.
  void activate() {
    const int64_t h = f_.hidden, width = f_.rows();
    if (f_.cell == Cell::Rnn) return;
    parallel_for(f_.sequences(), grain_for(static_cast<double>(width)), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        if (f_.cell == Cell::Lstm)
          activate_gates(run_.in<T>(0) + row * width, dx_ + row * width, 3 * h, h);
        else
          gru_gates(run_.in<T>(0) + row * width, run_.in<T>(1) + row * width, dx_ + row * width, h, h);
    });
    if (f_.cell != Cell::Lstm) return;
    parallel_for(f_.batch * f_.panels(), grain_for(static_cast<double>(f_.steps * kPanel)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t item = begin; item < end; ++item) {
                     const int64_t b = item / f_.panels(), panel = item % f_.panels(), at = panel * kPanel;
                     for (int64_t s = 0; s < f_.steps; ++s) {
                       const int64_t row = f_.time(s) * f_.batch + b;
                       lstm_cell(dx_ + row * width + at, h, cell_before(s, b) + at,
                                 scratch_ + f_.at_cells + row * h + at, scratch_ + f_.at_tanhs + row * h + at,
                                 f_.columns(panel));
                     }
                   }
                 });
  }

  const T* cell_before(int64_t s, int64_t b) const {
    return s == 0 ? run_.in<T>(2) + b * f_.hidden
                  : scratch_ + f_.at_cells + (f_.time(s - 1) * f_.batch + b) * f_.hidden;
  }

  // The gradient by the state after step s that comes from the steps behind it.
  void by_state(int64_t s, int64_t panel, T* dh) const {
    const int64_t at = panel * kPanel, n = f_.columns(panel);
    const T* last = s + 1 == f_.steps ? run_.in<T>(f_.dy_h) : nullptr;
    const T* carry = f_.cell == Cell::Gru && s + 1 < f_.steps ? scratch_ + f_.at_carry : nullptr;
    for (int64_t b = 0; b < f_.batch; ++b) {
      T* to = dh + b * f_.hidden + at;
      if (const T* from = last ? last : carry)
        std::copy_n(from + b * f_.hidden + at, n, to);
      else
        std::fill_n(to, n, T(0));
    }
    if (s + 1 < f_.steps) add_product(d_state_ + f_.time(s + 1) * f_.batch * f_.rows(), panel, dh + at);
  }

  // The same with what Y adds.
  void before_step(int64_t s, int64_t panel, T* dh) const {
    by_state(s, panel, dh);
    const T* dy = run_.in<T>(f_.dy);
    if (!dy) return;
    const int64_t at = panel * kPanel, n = f_.columns(panel);
    for (int64_t b = 0; b < f_.batch; ++b) {
      const T* from = dy + (f_.time(s) * f_.batch + b) * f_.hidden + at;
      T* to = dh + b * f_.hidden + at;
      for (int64_t i = 0; i < n; ++i) to[i] += from[i];
    }
  }

  // to += gates * R, for the columns of one panel.
  void add_product(const T* gates, int64_t panel, T* to) const {
    const int64_t n = f_.columns(panel), k = f_.rows();
    if constexpr (std::is_same_v<T, float>) {
      panel_gemm({.m = f_.batch,
                  .n = n,
                  .k = k,
                  .a = gates,
                  .lda = k,
                  .b = scratch_ + f_.at_r + panel * k * kPanel,
                  .ldb = kPanel,
                  .c = to,
                  .ldc = f_.hidden,
                  .init = to,
                  .init_stride = f_.hidden});
    } else {
      T product[kPanel];
      for (int64_t b = 0; b < f_.batch; ++b) {
        gemm_serial<T>(1, n, k, {gates + b * k, k, 1}, {run_.in<T>(f_.r) + panel * kPanel, f_.hidden, 1},
                       product, kPanel);
        for (int64_t i = 0; i < n; ++i) to[b * f_.hidden + i] += product[i];
      }
    }
  }

  void step(int64_t s, int64_t panel, const T* dh, T* carry) const {
    const int64_t h = f_.hidden, at = panel * kPanel, n = f_.columns(panel);
    for (int64_t b = 0; b < f_.batch; ++b) {
      const int64_t row = f_.time(s) * f_.batch + b, state = b * h + at;
      T* gates = dx_ + row * f_.rows() + at;
      if (f_.cell == Cell::Lstm)
        lstm_backward(gates, h, cell_before(s, b) + at, scratch_ + f_.at_tanhs + row * h + at, dh + state,
                      carry + state, n);
      else if (f_.cell == Cell::Gru)
        gru_backward(gates, d_state_ + row * f_.rows() + at, h, run_.in<T>(1) + row * f_.rows() + 2 * h + at,
                     run_.in<T>(2) + row * h + at, dh + state, carry + state, n);
      else
        rnn_backward(run_.in<T>(0) + row * h + at, dh + state, gates, n);
    }
  }

  const Form& f_;
  RunContext& run_;
  T *scratch_, *dx_, *d_state_;
};

Prepared prepare(PrepareContext& ctx, Cell cell) {
  const DType dtype = ctx.dtype(0);
  if (is_narrow_float(dtype))
    return widened(ctx, dtype, [cell](PrepareContext& wide) { return prepare(wide, cell); });
  Form f;
  f.cell = cell;
  f.reverse = ctx.attributes<RecurrentBackwardAttributes>().reverse != 0;
  f.gates = cell == Cell::Lstm ? 4 : cell == Cell::Gru ? 3 : 1;
  f.r = cell == Cell::Gru ? 3 : 1;
  f.dy = cell == Cell::Lstm ? 3 : cell == Cell::Gru ? 4 : 2;
  f.dy_h = f.dy + 1;
  const auto expect_dims = [&](size_t i, const Dims& expected) {
    if (ctx.has_input(i))
      ctx.expect(ctx.dims(i) == expected, "dims of input " + std::to_string(i), to_string(expected),
                 to_string(ctx.dims(i)));
  };
  ctx.expect(ctx.rank(0) == 3 && ctx.rank(f.r) == 2, "ranks of the first input and R", "3 and 2",
             std::to_string(ctx.rank(0)) + " and " + std::to_string(ctx.rank(f.r)));
  f.steps = ctx.dims(0)[0], f.batch = ctx.dims(0)[1], f.hidden = ctx.dims(f.r)[1];
  const int64_t rows = checked_mul(f.gates, f.hidden, "gates");
  const Dims all = {f.steps, f.batch, rows}, states = {f.steps, f.batch, f.hidden},
             state = {f.batch, f.hidden};
  expect_dims(0, all);
  expect_dims(f.r, {rows, f.hidden});
  if (cell == Cell::Lstm) expect_dims(2, state), expect_dims(5, state);
  if (cell == Cell::Gru) expect_dims(1, all), expect_dims(2, states);
  expect_dims(f.dy, states);
  expect_dims(f.dy_h, state);
  ctx.output(0, dtype, all);
  ctx.may_share(0, 0);
  if (cell == Cell::Gru) {
    ctx.output(1, dtype, all);
    if (ctx.node().input(0) != ctx.node().input(1)) ctx.may_share(1, 1);
  }
  ctx.output(cell == Cell::Gru ? 2 : 1, dtype, state);
  if (cell == Cell::Lstm) ctx.output(2, dtype, state);
  const auto place = [&f](int64_t elements) {
    const int64_t at = f.size;
    f.size = checked_add(at, (elements + 15) / 16 * 16, "scratch memory");
    return at;
  };
  const int64_t one = element_count(state), every = element_count(states);
  if (dtype == DType::Float32) f.at_r = place(checked_mul(panel_pad(f.hidden), rows, "packed weights"));
  f.at_dh = place(one);
  if (cell != Cell::Rnn) f.at_carry = place(one);
  if (cell == Cell::Lstm) f.at_cells = place(every), f.at_tanhs = place(every);
  ctx.scratch(
      static_cast<size_t>(checked_mul(f.size, static_cast<int64_t>(element_size(dtype)), "scratch memory")));
  Prepared prepared = decline(std::string("no kernel for ") + dtype_name(dtype));
  visit<Floats>(dtype, [&]<typename T>() { prepared = [f](RunContext& run) { Backward<T>(f, run).run(); }; });
  return prepared;
}

template <Cell kCell>
Prepared prepare_cell(PrepareContext& ctx) {
  return prepare(ctx, kCell);
}

}  // namespace

void register_recurrent_backward(KernelRegistry& registry) {
  registry.ref("LSTMBackward", prepare_cell<Cell::Lstm>, kOwnDomain);
  registry.ref("GRUBackward", prepare_cell<Cell::Gru>, kOwnDomain);
  registry.ref("RNNBackward", prepare_cell<Cell::Rnn>, kOwnDomain);
}

}  // namespace sardonyx::cpu
