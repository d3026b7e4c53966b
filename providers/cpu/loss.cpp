#include "ops/loss.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "graph/shape.h"
#include "providers/cpu/support/elementwise.h"
#include "providers/cpu/support/simd_softmax.h"

namespace sardonyx::cpu {

namespace {

enum class Reduction { None, Sum, Mean };

// scores [n, classes, d], labels [n, d].
struct Loss {
  int64_t n = 1, classes = 1, d = 1;
  Reduction reduction = Reduction::Mean;
  std::optional<int64_t> ignored;
  DType dtype, label_dtype;
};

Loss loss_of(PrepareContext& ctx) {
  const auto a = ctx.attributes<LossAttributes>();
  const Dims& scores = ctx.dims(0);
  ctx.expect(scores.size() >= 2, "rank of input 0", "at least 2", std::to_string(scores.size()));
  Loss loss;
  loss.n = scores[0];
  loss.classes = scores[1];
  Dims labels = {scores[0]};
  labels.insert(labels.end(), scores.begin() + 2, scores.end());
  ctx.expect(ctx.dims(1) == labels, "shape of the labels", to_string(labels), to_string(ctx.dims(1)));
  for (size_t i = 2; i < scores.size(); ++i) loss.d *= scores[i];
  loss.dtype = ctx.dtype(0);
  loss.label_dtype = ctx.dtype(1);
  ctx.expect(loss.label_dtype == DType::Int32 || loss.label_dtype == DType::Int64,
             "element type of the labels", "int32 or int64", dtype_name(loss.label_dtype));
  if (ctx.has_input(2)) {
    ctx.expect(ctx.dims(2) == Dims{loss.classes}, "shape of the weights", to_string(Dims{loss.classes}),
               to_string(ctx.dims(2)));
    ctx.expect(ctx.dtype(2) == loss.dtype, "element type of the weights", dtype_name(loss.dtype),
               dtype_name(ctx.dtype(2)));
  }
  ctx.expect(a.reduction == "none" || a.reduction == "sum" || a.reduction == "mean", "attribute 'reduction'",
             "none, sum or mean", a.reduction);
  loss.reduction = a.reduction == "none"  ? Reduction::None
                   : a.reduction == "sum" ? Reduction::Sum
                                          : Reduction::Mean;
  loss.ignored = a.ignore_index;
  ctx.output(0, loss.dtype, loss.reduction == Reduction::None ? labels : Dims{});
  return loss;
}

// The losses, from log-probabilities. Sums are taken over parts of a fixed size, whatever the threads.
template <typename T, typename P, typename Label>
void gather_losses(const Loss& loss, RunContext& run, const P* log_prob) {
  const Label* labels = run.in<Label>(1);
  const T* weights = run.has_input(2) ? run.in<T>(2) : nullptr;
  T* out = run.out<T>(0);
  struct Part {
    double sum = 0, weight = 0;
  };
  constexpr int64_t kPart = 4096;
  const int64_t count = loss.n * loss.d, parts = (count + kPart - 1) / kPart;
  std::vector<Part> sums(static_cast<size_t>(parts));
  parallel_for(parts, 4, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      Part& to = sums[static_cast<size_t>(part)];
      for (int64_t i = part * kPart; i < std::min(count, (part + 1) * kPart); ++i) {
        const int64_t label = labels[i];
        double value = 0, weight = 0;
        if (!loss.ignored || label != *loss.ignored) {
          if (label < 0 || label >= loss.classes)
            run.fail("label " + std::to_string(i), "in [0, " + std::to_string(loss.classes) + ")",
                     std::to_string(label));
          weight = weights ? static_cast<double>(widen(weights[label])) : 1;
          value = -static_cast<double>(
                      widen(log_prob[(i / loss.d * loss.classes + label) * loss.d + i % loss.d])) *
                  weight;
        }
        if (loss.reduction == Reduction::None) out[i] = static_cast<T>(value);
        to.sum += value;
        to.weight += weight;
      }
    }
  });
  if (loss.reduction == Reduction::None) return;
  Part total;
  for (const Part& part : sums) {
    total.sum += part.sum;
    total.weight += part.weight;
  }
  *out = static_cast<T>(loss.reduction == Reduction::Sum ? total.sum : total.sum / total.weight);
}

template <typename T, typename P>
void write_losses(const Loss& loss, RunContext& run, const P* log_prob) {
  if (loss.label_dtype == DType::Int32)
    gather_losses<T, P, int32_t>(loss, run, log_prob);
  else
    gather_losses<T, P, int64_t>(loss, run, log_prob);
}

Prepared prepare_nll(PrepareContext& ctx) {
  const Loss loss = loss_of(ctx);
  Prepared prepared = no_kernel_for(loss.dtype);
  visit<AllFloats>(loss.dtype, [&]<typename T>() {
    prepared = [loss](RunContext& run) { write_losses<T>(loss, run, run.in<T>(0)); };
  });
  return prepared;
}

void log_softmax(const Loss& loss, const float* x, float* y) {
  if (loss.classes == 0) return;
  if (loss.d == 1) {
    parallel_for(loss.n, grain_for(static_cast<double>(loss.classes) + 10), [&](int64_t begin, int64_t end) {
      simd_softmax_rows(x + begin * loss.classes, y + begin * loss.classes, end - begin, loss.classes, true);
    });
    return;
  }
  constexpr int64_t kColumns = 256;
  const int64_t blocks = (loss.d + kColumns - 1) / kColumns;
  const double work = static_cast<double>(loss.classes * std::min(loss.d, kColumns)) + 10;
  parallel_for(loss.n * blocks, grain_for(work), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t first = item % blocks * kColumns;
      const int64_t at = item / blocks * loss.classes * loss.d + first;
      simd_softmax_columns(x + at, y + at, loss.classes, loss.d, std::min(kColumns, loss.d - first), true);
    }
  });
}

void log_softmax(const Loss& loss, const double* x, double* y) {
  if (loss.classes == 0) return;
  parallel_for(loss.n * loss.d, grain_for(static_cast<double>(loss.classes) * 20 + 10),
               [&](int64_t begin, int64_t end) {
                 for (int64_t item = begin; item < end; ++item) {
                   const int64_t at = item / loss.d * loss.classes * loss.d + item % loss.d;
                   double largest = -std::numeric_limits<double>::infinity(), sum = 0;
                   for (int64_t c = 0; c < loss.classes; ++c) {
                     const double v = x[at + c * loss.d];
                     largest = v > largest || v != v ? v : largest;
                   }
                   for (int64_t c = 0; c < loss.classes; ++c) sum += std::exp(x[at + c * loss.d] - largest);
                   for (int64_t c = 0; c < loss.classes; ++c)
                     y[at + c * loss.d] = x[at + c * loss.d] - largest - std::log(sum);
                 }
               });
}

Prepared prepare_cross_entropy(PrepareContext& ctx) {
  const Loss loss = loss_of(ctx);
  const int64_t size = ctx.input(0).size();
  const bool wants_log_prob = ctx.wants(1);
  if (wants_log_prob) ctx.output(1, loss.dtype, ctx.dims(0));
  const size_t wide = loss.dtype == DType::Float64 ? sizeof(double) : sizeof(float);
  // f16 and bf16 are widened into scratch; f32 and f64 need it only where the log-probabilities have no
  // output.
  if (!wants_log_prob || (loss.dtype != DType::Float32 && loss.dtype != DType::Float64))
    ctx.scratch(static_cast<size_t>(checked_mul(size, static_cast<int64_t>(wide), "scratch")));
  if (loss.dtype == DType::Float64)
    return [loss, wants_log_prob](RunContext& run) {
      double* log_prob = wants_log_prob ? run.out<double>(1) : reinterpret_cast<double*>(run.scratch());
      log_softmax(loss, run.in<double>(0), log_prob);
      write_losses<double>(loss, run, log_prob);
    };
  if (!has_float_rows(loss.dtype)) return no_kernel_for(loss.dtype);
  return [loss, size, wants_log_prob](RunContext& run) {
    const DType dtype = loss.dtype;
    const void* scores = run.input(0).data();
    float* log_prob = reinterpret_cast<float*>(run.scratch());
    if (dtype == DType::Float32) {
      if (wants_log_prob) log_prob = run.out<float>(1);
      log_softmax(loss, static_cast<const float*>(scores), log_prob);
      return write_losses<float>(loss, run, log_prob);
    }
    load_floats(dtype, scores, 0, size, log_prob);
    log_softmax(loss, log_prob, log_prob);
    if (wants_log_prob) store_floats(dtype, log_prob, run.output(1).mutable_data(), 0, size);
    if (dtype == DType::Float16)
      write_losses<Half>(loss, run, log_prob);
    else
      write_losses<BFloat16>(loss, run, log_prob);
  };
}

}  // namespace

void register_loss(KernelRegistry& r) {
  r.ref("SoftmaxCrossEntropyLoss", prepare_cross_entropy);
  r.ref("NegativeLogLikelihoodLoss", prepare_nll);
}

}  // namespace sardonyx::cpu
