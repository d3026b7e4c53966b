// ReduceSum and ReduceMean of f32 that is stored channels last, over what is not channels: what the gradient
// of a convolution's bias and of a scale for each channel is.
#include <algorithm>
#include <vector>

#include "graph/shape.h"
#include "ops/reduction.h"
#include "providers/cpu/support/packed.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/simd_reduce.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

namespace {

template <bool kMean>
Prepared prepare(PrepareContext& ctx) {
  if (!ctx.layouts() || ctx.layout(0) == Layout::Plain) return decline("tensors are in plain order");
  if (ctx.dtype(0) != DType::Float32) return decline("only float");
  const auto attributes = ctx.attributes<ReduceAttributes>();
  const Dims& dims = ctx.dims(0);
  std::vector<bool> reduced(dims.size(), false);
  if (ctx.has_input(1))
    for (const int64_t axis : ctx.host_ints(1))
      reduced[static_cast<size_t>(normalize_axis(axis, ctx.rank(0), "input 'axes'"))] = true;
  // Every axis of space, and perhaps the batch.
  for (size_t i = 1; i < dims.size(); ++i)
    if (reduced[i] != (i != 1)) return decline("not over all of space alone");
  int64_t space = 1;
  Dims out;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (i > 1) space *= dims[i];
    if (!reduced[i] || attributes.keepdims != 0) out.push_back(reduced[i] ? 1 : dims[i]);
  }
  ctx.want(0, Layout::ChannelsLast);
  ctx.output(0, DType::Float32, out);
  const int64_t channels = dims[1], sums = reduced[0] ? 1 : dims[0],
                rows = reduced[0] ? dims[0] * space : space;
  // Rows are added up in parts where there are fewer sums than threads.
  const int64_t threads = std::max(ctx.threads(), 1);
  const int64_t parts = sums >= threads ? 1 : std::clamp<int64_t>(rows / 256, 1, threads);
  ScratchPlan scratch(ctx);
  const size_t at = scratch.add(static_cast<size_t>(checked_mul(
      checked_mul(checked_mul(sums, parts, "sums"), channels, "sums"), int64_t{sizeof(double)}, "sums")));
  const double ns = 0.2 * static_cast<double>(rows / parts) * static_cast<double>(channels) + 10;
  return [=](RunContext& run) {
    const float* x = run.in<float>(0);
    float* y = run.out<float>(0);
    auto* totals = reinterpret_cast<double*>(run.scratch() + at);
    parallel_for(sums * parts, grain_for(ns), [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t part = item % parts, first = rows * part / parts;
        const float* from = x + (item / parts * rows + first) * channels;
        double* total = totals + item * channels;
        std::fill_n(total, channels, 0.0);
        for (int64_t c = 0; c < channels; c += kReduceColumns)
          simd_reduce_columns(SimdReduce::Sum, from + c, rows * (part + 1) / parts - first, channels,
                              std::min(kReduceColumns, channels - c), total + c);
      }
    });
    for (int64_t i = 0; i < sums * channels; ++i) {
      double sum = 0;
      for (int64_t part = 0; part < parts; ++part)
        sum += totals[(i / channels * parts + part) * channels + i % channels];
      y[i] = static_cast<float>(kMean ? sum / static_cast<double>(rows) : sum);
    }
  };
}

}  // namespace

void register_reduction_channels_last(KernelRegistry& r) {
  r.add_aware("ReduceSum", "channels-last", kFirst - 1, prepare<false>);
  r.add_aware("ReduceMean", "channels-last", kFirst - 1, prepare<true>);
}

}  // namespace sardonyx::cpu
