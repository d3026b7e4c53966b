// Max, Min, Sum and Mean of any number of operands.
#include <algorithm>
#include <vector>

#include "providers/cpu/support/elementwise.h"

namespace sardonyx::cpu {

namespace {

// NaN wins, as in numpy.
struct Max {
  template <typename T>
  T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};
struct Min {
  template <typename T>
  T operator()(T a, T b) const {
    return a < b || a != a ? a : b;
  }
};
struct Sum {
  template <typename T>
  T operator()(T a, T b) const {
    return a + b;
  }
};

std::vector<Dims> all_dims(const PrepareContext& ctx) {
  std::vector<Dims> dims;
  for (size_t i = 0; i < ctx.input_count(); ++i) dims.push_back(ctx.dims(i));
  return dims;
}

void expect_operands(const PrepareContext& ctx) {
  ctx.expect(ctx.input_count() > 0, "number of inputs", "at least 1", "0");
  expect_same_dtype(ctx, ctx.input_count());
}

// Folds the operands a block at a time, in the type to compute in.
template <typename T, typename F>
void fold(const Broadcast& plan, RunContext& run, double divisor) {
  using C = Compute<T>;
  constexpr int64_t kBlock = 512;
  const size_t count = run.inputs_.size();
  T* out = run.out<T>(0);
  plan.rows(grain_for(static_cast<double>(count)), [&](int64_t at, const int64_t* from, int64_t n) {
    C folded[kBlock];
    for (int64_t begin = 0; begin < n; begin += kBlock) {
      const int64_t size = std::min(kBlock, n - begin);
      for (size_t k = 0; k < count; ++k) {
        const int64_t step = plan.step(k);
        const T* x = run.in<T>(k) + from[k] + begin * step;
        if (k == 0)
          for (int64_t i = 0; i < size; ++i) folded[i] = widen(x[i * step]);
        else
          for (int64_t i = 0; i < size; ++i) folded[i] = F()(folded[i], widen(x[i * step]));
      }
      if (divisor != 1)
        for (int64_t i = 0; i < size; ++i) folded[i] = static_cast<C>(folded[i] / static_cast<C>(divisor));
      for (int64_t i = 0; i < size; ++i) out[at + begin + i] = static_cast<T>(folded[i]);
    }
  });
}

template <typename List, typename F, bool kMean = false>
Prepared prepare_fold(PrepareContext& ctx) {
  expect_operands(ctx);
  Prepared prepared = no_kernel_for(ctx.dtype(0));
  visit<List>(ctx.dtype(0), [&]<typename T>() {
    Broadcast plan(all_dims(ctx));
    declare_elementwise(ctx, ctx.dtype(0), plan.dims());
    prepared = [plan = std::move(plan), divisor = kMean ? static_cast<double>(ctx.input_count()) : 1.0](
                   RunContext& run) { fold<T, F>(plan, run, divisor); };
  });
  return prepared;
}

// The same with vector loops.
template <simd::Binary kOp, bool kMean = false>
Prepared prepare_simd_fold(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (!has_float_rows(dtype)) return decline("only float, float16 and bfloat16");
  expect_operands(ctx);
  Broadcast plan(all_dims(ctx));
  declare_elementwise(ctx, dtype, plan.dims());
  return [dtype, plan = std::move(plan), row = simd::row(kOp),
          divide = simd::row(simd::Binary::Div)](RunContext& run) {
    const size_t count = run.inputs_.size();
    const float divisor = static_cast<float>(count);
    void* out = run.output(0).mutable_data();
    plan.rows(grain_for(0.3 * static_cast<double>(count)), [&](int64_t at, const int64_t* from, int64_t n) {
      alignas(64) float folded[kFloatBlock], operand[kFloatBlock];
      for (int64_t begin = 0; begin < n; begin += kFloatBlock) {
        const int64_t size = std::min(kFloatBlock, n - begin);
        const float* so_far = folded;
        int64_t so_far_step = 1;
        for (size_t k = 0; k < count; ++k) {
          const int64_t step = plan.step(k);
          const float* x = load_floats(dtype, run.input(k).data(), from[k] + begin * step, step ? size : 1,
                                       k == 0 ? folded : operand);
          if (k == 0) {
            so_far = x;
            so_far_step = step;
            continue;
          }
          row(so_far, so_far_step, x, step, folded, size);
          so_far = folded;
          so_far_step = 1;
        }
        if (kMean) {
          divide(so_far, so_far_step, &divisor, 0, folded, size);
          so_far = folded;
        } else if (so_far_step == 0) {
          std::fill_n(folded, size, *so_far);
          so_far = folded;
        }
        store_floats(dtype, so_far, out, at + begin, size);
      }
    });
  };
}

}  // namespace

void register_elementwise_variadic(KernelRegistry& r) {
  r.add("Max", "simd", kFirst, prepare_simd_fold<simd::Binary::Max>);
  r.add("Min", "simd", kFirst, prepare_simd_fold<simd::Binary::Min>);
  r.add("Sum", "simd", kFirst, prepare_simd_fold<simd::Binary::Add>);
  r.add("Mean", "simd", kFirst, prepare_simd_fold<simd::Binary::Add, true>);
  r.ref("Max", prepare_fold<AllNumbers, Max>);
  r.ref("Min", prepare_fold<AllNumbers, Min>);
  r.ref("Sum", prepare_fold<AllFloats, Sum>);
  r.ref("Mean", prepare_fold<AllFloats, Sum, true>);
}

}  // namespace sardonyx::cpu
