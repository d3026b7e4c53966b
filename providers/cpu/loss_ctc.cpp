// CTCLoss and CTCLossBackward: the forward-backward algorithm of Graves et al. (2006), in log space and f64.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ops/loss.h"
#include "ops/registry/operator.h"
#include "providers/cpu/support/elementwise.h"
#include "providers/cpu/support/parallel.h"

namespace sardonyx::cpu {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// log_probs [steps, batch, classes], targets [batch, width] or, joined, [width].
struct Shape {
  int64_t steps = 0, batch = 0, classes = 0, width = 0;
  bool joined = false, zero_infinity = false;
  int64_t blank = 0;
  DType dtype;
};

// `first`: the position of log_probs among the inputs; targets and the two lengths follow.
Shape shape_of(PrepareContext& ctx, size_t first) {
  const auto a = ctx.attributes<CtcAttributes>();
  const Dims &scores = ctx.dims(first), &targets = ctx.dims(first + 1);
  ctx.expect(scores.size() == 3, "rank of input 'log_probs'", "3", std::to_string(scores.size()));
  ctx.expect(targets.size() == 1 || targets.size() == 2, "rank of input 'targets'", "1 or 2",
             std::to_string(targets.size()));
  Shape s;
  s.steps = scores[0], s.batch = scores[1], s.classes = scores[2];
  s.joined = targets.size() == 1;
  s.width = targets.back();
  ctx.expect(s.joined || targets[0] == s.batch, "dim 0 of input 'targets'", std::to_string(s.batch),
             std::to_string(targets[0]));
  const char* names[] = {"targets", "input_lengths", "target_lengths"};
  for (size_t i = 0; i < 3; ++i) {
    ctx.expect(ctx.dtype(first + 1 + i) == DType::Int64, std::string("dtype of input '") + names[i] + "'",
               "int64", dtype_name(ctx.dtype(first + 1 + i)));
    if (i > 0)
      ctx.expect(ctx.dims(first + 1 + i) == Dims{s.batch}, std::string("dims of input '") + names[i] + "'",
                 to_string(Dims{s.batch}), to_string(ctx.dims(first + 1 + i)));
  }
  ctx.expect(a.blank >= 0 && a.blank < s.classes, "attribute 'blank'",
             "in [0, " + std::to_string(s.classes) + ")", std::to_string(a.blank));
  s.blank = a.blank;
  s.zero_infinity = a.zero_infinity != 0;
  s.dtype = ctx.dtype(first);
  // What the sums over time need of one sequence, so that no product below overflows.
  checked_mul(checked_add(checked_mul(s.width, 2, "size"), 1, "size"), checked_add(s.steps, 1, "size"),
              "size");
  return s;
}

// One sequence: its numbers of steps and labels.
struct Sequence {
  int64_t steps = 0, count = 0;
  const int64_t* labels = nullptr;
  // The labels with a blank before, between and after them.
  int64_t positions() const { return 2 * count + 1; }
  int64_t class_at(int64_t position, int64_t blank) const {
    return position % 2 == 0 ? blank : labels[position / 2];
  }
  // Whether a path may go from position - 2 to position: past a blank between different labels.
  bool skips_to(int64_t position) const {
    return position % 2 == 1 && position >= 2 && labels[position / 2] != labels[position / 2 - 1];
  }
};

// InputError for lengths and labels out of range.
std::vector<Sequence> sequences_of(const Shape& s, RunContext& run, size_t first) {
  const int64_t *targets = run.in<int64_t>(first + 1), *steps = run.in<int64_t>(first + 2),
                *counts = run.in<int64_t>(first + 3);
  std::vector<Sequence> sequences(static_cast<size_t>(s.batch));
  int64_t used = 0;
  for (int64_t n = 0; n < s.batch; ++n) {
    const std::string index = "[" + std::to_string(n) + "]";
    if (steps[n] < 0 || steps[n] > s.steps)
      run.fail("input_lengths" + index, "from 0 to the " + std::to_string(s.steps) + " steps of log_probs",
               std::to_string(steps[n]));
    const int64_t left = s.joined ? s.width - used : s.width;
    if (counts[n] < 0 || counts[n] > left)
      run.fail("target_lengths" + index,
               "from 0 to the " + std::to_string(left) + " labels " + (s.joined ? "left in" : "of a row of") +
                   " targets",
               std::to_string(counts[n]));
    Sequence& q = sequences[static_cast<size_t>(n)];
    q = {steps[n], counts[n], targets + (s.joined ? used : n * s.width)};
    used += counts[n];
    for (int64_t i = 0; i < q.count; ++i)
      if (q.labels[i] < 0 || q.labels[i] >= s.classes)
        run.fail("label " + std::to_string(i) + " of target " + std::to_string(n),
                 "in [0, " + std::to_string(s.classes) + ")", std::to_string(q.labels[i]));
  }
  if (s.joined && used != s.width)
    run.fail("sum of target_lengths", std::to_string(s.width) + ", the labels in targets",
             std::to_string(used));
  return sequences;
}

double log_sum_exp(double a, double b, double c) {
  const double largest = std::max({a, b, c});
  // NaN stays one.
  if (largest == -kInfinity) return a + b + c;
  return largest + std::log(std::exp(a - largest) + std::exp(b - largest) + std::exp(c - largest));
}

template <typename T>
struct Paths {
  const Shape& s;
  const Sequence& q;
  const T* scores;  // of step 0 of this sequence
  double score(int64_t step, int64_t position) const {
    return static_cast<double>(widen(scores[step * s.batch * s.classes + q.class_at(position, s.blank)]));
  }

  // Before the first step every path is at position 0.
  void start(double* row) const {
    std::fill(row, row + q.positions(), -kInfinity);
    row[0] = 0;
  }
  // The logarithm of the probability of all beginnings that end here at this step, from those a step before.
  void advance(int64_t step, const double* before, double* row) const {
    for (int64_t p = 0; p < q.positions(); ++p) {
      const double one = p >= 1 ? before[p - 1] : -kInfinity,
                   two = q.skips_to(p) ? before[p - 2] : -kInfinity;
      row[p] = log_sum_exp(before[p], one, two) + score(step, p);
    }
  }
  // After the last step every path is at the last position or the one before.
  double loss(const double* last) const {
    const int64_t end = q.positions() - 1;
    return -log_sum_exp(last[end], end >= 1 ? last[end - 1] : -kInfinity, -kInfinity);
  }

  // The logarithm of the probability of all ends after this step that begin here, in place from those of the
  // step after, whose scores `row` has yet to get. In increasing order: row[p] reads row[p] and above.
  void retreat(int64_t next_step, double* row) const {
    for (int64_t p = 0; p < q.positions(); ++p) row[p] += score(next_step, p);
    for (int64_t p = 0; p < q.positions(); ++p) {
      const double one = p + 1 < q.positions() ? row[p + 1] : -kInfinity;
      const double two = p + 2 < q.positions() && q.skips_to(p + 2) ? row[p + 2] : -kInfinity;
      row[p] = log_sum_exp(row[p], one, two);
    }
  }
};

double cost_ns(const Shape& s) {
  const double labels =
      static_cast<double>(s.width) / static_cast<double>(s.joined ? std::max<int64_t>(s.batch, 1) : 1);
  return static_cast<double>(s.steps) * (2 * labels + 1) * 40 + 100;
}

template <typename T>
void write_losses(const Shape& s, RunContext& run) {
  const std::vector<Sequence> sequences = sequences_of(s, run, 0);
  const T* scores = run.in<T>(0);
  T* losses = run.out<T>(0);
  parallel_for(s.batch, grain_for(cost_ns(s)), [&](int64_t begin, int64_t end) {
    std::vector<double> before, row;
    for (int64_t n = begin; n < end; ++n) {
      run.check_cancelled();
      const Sequence& q = sequences[static_cast<size_t>(n)];
      const Paths<T> paths{s, q, scores + n * s.classes};
      before.resize(static_cast<size_t>(q.positions()));
      row.resize(before.size());
      paths.start(before.data());
      for (int64_t t = 0; t < q.steps; ++t) {
        paths.advance(t, before.data(), row.data());
        before.swap(row);
      }
      const double loss = paths.loss(before.data());
      losses[n] = static_cast<T>(s.zero_infinity && loss == kInfinity ? 0 : loss);
    }
  });
}

// One sequence's gradient: exp(log_probs) less the probability that a path of the target is at the class,
// which is the derivative by what log_softmax was taken of. NaN where the loss is infinite.
template <typename T>
void write_gradient(const Paths<T>& paths, double cotangent, std::vector<double>& alpha,
                    std::vector<double>& sums, T* dx) {
  const Shape& s = paths.s;
  const Sequence& q = paths.q;
  const int64_t stride = s.batch * s.classes, positions = q.positions();
  for (int64_t t = q.steps; t < s.steps; ++t)
    std::fill(dx + t * stride, dx + t * stride + s.classes, T(0.0f));
  // Row 0 is before the first step; one more row for the ends.
  alpha.resize(static_cast<size_t>((q.steps + 2) * positions));
  const auto row = [&](int64_t i) { return alpha.data() + i * positions; };
  paths.start(row(0));
  for (int64_t t = 0; t < q.steps; ++t) paths.advance(t, row(t), row(t + 1));
  const double loss = paths.loss(row(q.steps));
  if (!std::isfinite(loss)) {
    const double value = s.zero_infinity && loss == kInfinity ? 0 : std::numeric_limits<double>::quiet_NaN();
    for (int64_t t = 0; t < q.steps; ++t)
      std::fill(dx + t * stride, dx + t * stride + s.classes, static_cast<T>(value));
    return;
  }
  double* ends = row(q.steps + 1);
  std::fill(ends, ends + positions, -kInfinity);
  ends[positions - 1] = 0;
  if (positions > 1) ends[positions - 2] = 0;
  sums.resize(static_cast<size_t>(s.classes));
  for (int64_t t = q.steps - 1; t >= 0; --t) {
    if (t + 1 < q.steps) paths.retreat(t + 1, ends);
    for (int64_t c = 0; c < s.classes; ++c)
      sums[static_cast<size_t>(c)] = std::exp(static_cast<double>(widen(paths.scores[t * stride + c])));
    const double* begins = row(t + 1);
    for (int64_t p = 0; p < positions; ++p)
      sums[static_cast<size_t>(q.class_at(p, s.blank))] -= std::exp(begins[p] + ends[p] + loss);
    for (int64_t c = 0; c < s.classes; ++c)
      dx[t * stride + c] = static_cast<T>(sums[static_cast<size_t>(c)] * cotangent);
  }
}

template <typename T>
void write_gradients(const Shape& s, RunContext& run) {
  const std::vector<Sequence> sequences = sequences_of(s, run, 1);
  const T *cotangents = run.in<T>(0), *scores = run.in<T>(1);
  T* dx = run.out<T>(0);
  const double ns = 3 * cost_ns(s) + 5 * static_cast<double>(s.steps) * static_cast<double>(s.classes);
  parallel_for(s.batch, grain_for(ns), [&](int64_t begin, int64_t end) {
    std::vector<double> alpha, sums;
    for (int64_t n = begin; n < end; ++n) {
      run.check_cancelled();
      const Paths<T> paths{s, sequences[static_cast<size_t>(n)], scores + n * s.classes};
      write_gradient(paths, static_cast<double>(widen(cotangents[n])), alpha, sums, dx + n * s.classes);
    }
  });
}

Prepared prepare_loss(PrepareContext& ctx) {
  const Shape s = shape_of(ctx, 0);
  ctx.output(0, s.dtype, {s.batch});
  Prepared prepared = no_kernel_for(s.dtype);
  visit<AllFloats>(s.dtype,
                   [&]<typename T>() { prepared = [s](RunContext& run) { write_losses<T>(s, run); }; });
  return prepared;
}

Prepared prepare_gradient(PrepareContext& ctx) {
  const Shape s = shape_of(ctx, 1);
  ctx.expect(ctx.dtype(0) == s.dtype, "dtype of input 'dY'", dtype_name(s.dtype), dtype_name(ctx.dtype(0)));
  ctx.expect(ctx.dims(0) == Dims{s.batch}, "dims of input 'dY'", to_string(Dims{s.batch}),
             to_string(ctx.dims(0)));
  ctx.output(0, s.dtype, ctx.dims(1));
  Prepared prepared = no_kernel_for(s.dtype);
  visit<AllFloats>(s.dtype,
                   [&]<typename T>() { prepared = [s](RunContext& run) { write_gradients<T>(s, run); }; });
  return prepared;
}

}  // namespace

void register_loss_ctc(KernelRegistry& r) {
  r.ref("CTCLoss", prepare_loss, kOwnDomain);
  r.ref("CTCLossBackward", prepare_gradient, kOwnDomain);
}

}  // namespace sardonyx::cpu
