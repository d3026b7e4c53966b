// ResizeBackward: axis by axis, every position of dY is added to the elements that it was made of.
#include <algorithm>

#include "graph/allocation.h"
#include "ops/registry/operator.h"
#include "providers/cpu/resize.h"
#include "providers/cpu/support/packed.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/widen.h"

namespace sardonyx::cpu {

namespace {

// [outer, taps.out, inner] becomes [outer, taps.in, inner].
struct AxisStep {
  AxisTaps taps;
  int64_t outer = 1, inner = 1;
};

template <typename T>
void spread_axis(const AxisStep& s, const T* from, T* to) {
  const AxisTaps& t = s.taps;
  const double work = 0.5 * static_cast<double>(s.inner) * static_cast<double>(t.out * t.taps + t.in);
  parallel_for(s.outer, grain_for(work + 10), [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      T* block = to + o * t.in * s.inner;
      std::fill(block, block + t.in * s.inner, T(0));
      for (int64_t x = 0; x < t.out; ++x) {
        if (!t.outside.empty() && t.outside[static_cast<size_t>(x)]) continue;
        const T* row = from + (o * t.out + x) * s.inner;
        for (int64_t k = x * t.taps; k < (x + 1) * t.taps; ++k) {
          const T weight = t.weights.empty() ? T(1) : static_cast<T>(t.weights[static_cast<size_t>(k)]);
          if (weight == 0) continue;
          T* sums = block + t.indices[static_cast<size_t>(k)] * s.inner;
          for (int64_t i = 0; i < s.inner; ++i) sums[i] += weight * row[i];
        }
      }
    }
  });
}

template <typename T>
void spread(const std::vector<AxisStep>& steps, const T* dy, T* dx, T* first, T* second) {
  for (size_t i = 0; i < steps.size(); ++i) {
    T* to = i + 1 == steps.size() ? dx : first;
    spread_axis(steps[i], dy, to);
    dy = to;
    std::swap(first, second);
  }
}

Prepared prepare_resize_backward(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (is_narrow_float(dtype)) return widened(ctx, dtype, prepare_resize_backward);
  ctx.expect(dtype == DType::Float32 || dtype == DType::Float64, "dtype of input 'dY'", "a float type",
             dtype_name(dtype));
  const auto attributes = ctx.attributes<ResizeAttributes>();
  const Sampling sampling = sampling_of(ctx, attributes);
  const Dims x = ctx.host_ints(1);
  for (const int64_t dim : x) ctx.expect(dim >= 0, "input 'shape'", "dims of at least 0", to_string(x));
  const std::vector<AxisScale> axes = resized_axes(ctx, attributes, x, 2);
  Dims dims;
  for (const AxisScale& axis : axes) dims.push_back(axis.out);
  ctx.expect(ctx.dims(0) == dims, "dims of input 'dY'", to_string(dims), to_string(ctx.dims(0)));
  const Layout layout = ctx.take(0);
  ctx.output(0, dtype, x);
  ctx.output_layout(0, layout);
  if (element_count(dims) == 0 || element_count(x) == 0)
    return [](RunContext& run) {
      Tensor& dx = run.output(0);
      std::fill_n(static_cast<std::byte*>(dx.mutable_data()), dx.bytes(), std::byte{0});
    };
  check_available(ctx.outputs_[0].desc.bytes());
  std::vector<AxisScale> ordered(axes.size());  // as they lie in memory
  for (size_t i = 0; i < axes.size(); ++i) ordered[memory_axis(i, axes.size(), layout)] = axes[i];
  std::vector<AxisStep> steps;
  int64_t between = 0;  // elements of the largest tensor between two steps
  for (size_t i = 0; i < ordered.size(); ++i) {
    if (untouched(ordered[i], sampling)) continue;
    AxisStep step{make_taps(ordered[i], sampling), 1, 1};
    // The axes before this one are done.
    for (size_t k = 0; k < ordered.size(); ++k) {
      int64_t& side = k < i ? step.outer : step.inner;
      if (k != i)
        side = checked_mul(side, k < i ? ordered[k].in : ordered[k].out, "elements of a resized tensor");
    }
    between = std::max(
        between, checked_mul(checked_mul(step.outer, step.inner, "elements"), step.taps.in, "elements"));
    steps.push_back(std::move(step));
  }
  if (steps.empty()) {
    ctx.alias(0, 0, x);
    ctx.output_layout(0, layout);
    return [](RunContext&) {};
  }
  ScratchPlan scratch(ctx);
  const size_t bytes = static_cast<size_t>(
      checked_mul(between, static_cast<int64_t>(element_size(dtype)), "bytes of a resized tensor"));
  const size_t first = steps.size() > 1 ? scratch.add(bytes) : 0,
               second = steps.size() > 2 ? scratch.add(bytes) : 0;
  return [=, steps = std::move(steps)](RunContext& run) {
    std::byte* memory = run.scratch();
    const auto spread_as = [&]<typename T>(const T* dy, T* dx) {
      spread(steps, dy, dx, reinterpret_cast<T*>(memory + first), reinterpret_cast<T*>(memory + second));
    };
    if (dtype == DType::Float32)
      spread_as(run.in<float>(0), run.out<float>(0));
    else
      spread_as(run.in<double>(0), run.out<double>(0));
  };
}

}  // namespace

void register_resize_backward(KernelRegistry& registry) {
  registry.add("ResizeBackward", "ref", kRef, prepare_resize_backward, kOwnDomain, LayoutRule::Aware);
}

}  // namespace sardonyx::cpu
