// Clip: the bounds are tensors of one element, read when the kernel runs.
#include <limits>

#include "providers/cpu/support/elementwise.h"

namespace sardonyx::cpu {

namespace {

void expect_bounds(PrepareContext& ctx) {
  expect_same_dtype(ctx, 3);
  for (size_t i = 1; i < 3; ++i)
    if (ctx.has_input(i))
      ctx.expect(ctx.input(i).size() == 1, i == 1 ? "input 'min'" : "input 'max'", "a scalar",
                 to_string(ctx.dims(i)));
}

// min(max(x, low), high); NaN in x or a bound gives NaN.
template <typename T>
void clip(RunContext& run, int64_t n) {
  using C = Compute<T>;
  const bool has_low = run.has_input(1), has_high = run.has_input(2);
  const C low = has_low ? widen(*run.in<T>(1)) : C();
  const C high = has_high ? widen(*run.in<T>(2)) : C();
  const T* x = run.in<T>(0);
  T* y = run.out<T>(0);
  parallel_for(n, grain_for(2), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      C v = widen(x[i]);
      if (has_low && (v < low || low != low)) v = low;
      if (has_high && (v > high || high != high)) v = high;
      y[i] = static_cast<T>(v);
    }
  });
}

Prepared prepare_clip(PrepareContext& ctx) {
  expect_bounds(ctx);
  Prepared prepared = no_kernel_for(ctx.dtype(0));
  visit<AllNumbers>(ctx.dtype(0), [&]<typename T>() {
    declare_elementwise(ctx, ctx.dtype(0), ctx.dims(0));
    prepared = [n = ctx.input(0).size()](RunContext& run) { clip<T>(run, n); };
  });
  return prepared;
}

Prepared prepare_simd_clip(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (!has_float_rows(dtype)) return decline("only float, float16 and bfloat16");
  expect_bounds(ctx);
  declare_elementwise(ctx, dtype, ctx.dims(0));
  return [dtype, n = ctx.input(0).size()](RunContext& run) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    float low = -kInfinity, high = kInfinity, buffer;
    if (run.has_input(1)) low = *load_floats(dtype, run.input(1).data(), 0, 1, &buffer);
    if (run.has_input(2)) high = *load_floats(dtype, run.input(2).data(), 0, 1, &buffer);
    run_simd_unary(dtype, run.input(0).data(), run.output(0).mutable_data(), n, simd::row(simd::Unary::Clip),
                   low, high);
  };
}

}  // namespace

void register_elementwise_clip(KernelRegistry& r) {
  r.add("Clip", "simd", kFirst, prepare_simd_clip);
  r.ref("Clip", prepare_clip);
}

}  // namespace sardonyx::cpu
