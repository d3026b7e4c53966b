// Dropout: the identity, or in training mode a random choice of elements, scaled up.
#include <algorithm>
#include <optional>
#include <string>

#include "ops/activation.h"
#include "providers/cpu/support/elementwise.h"
#include "providers/cpu/support/philox.h"

namespace sardonyx::cpu {

namespace {

using Droppable = Join<AllFloats, Types<Float8E4M3FN, Float8E4M3FNUZ, Float8E5M2, Float8E5M2FNUZ>>;

void keep_all(RunContext& run, int64_t n) {
  if (run.wants(1)) std::fill_n(run.out<bool>(1), n, true);
}

template <typename T>
void drop(RunContext& run, double ratio, const Philox& philox, int64_t n) {
  using C = Compute<T>;
  const T* x = run.in<T>(0);
  T* y = run.out<T>(0);
  bool* mask = run.wants(1) ? run.out<bool>(1) : nullptr;
  const C scale = ratio < 1 ? static_cast<C>(1 / (1 - ratio)) : C(0);
  parallel_for(n, grain_for(10), [&](int64_t begin, int64_t end) {
    philox.each_uniform<float>(static_cast<uint64_t>(begin), static_cast<uint64_t>(end),
                               [&](uint64_t i, float draw) {
                                 const bool keep = draw >= ratio;
                                 y[i] = static_cast<T>(static_cast<C>(x[i]) * (keep ? scale : C(0)));
                                 if (mask) mask[i] = keep;
                               });
  });
}

Prepared prepare_dropout(PrepareContext& ctx) {
  const auto a = ctx.attributes<DropoutAttributes>();
  const Dims& dims = ctx.dims(0);
  const int64_t n = ctx.input(0).size();
  for (size_t i : {1, 2})
    if (ctx.has_input(i))
      ctx.expect(ctx.input(i).size() == 1, i == 1 ? "input 'ratio'" : "input 'training_mode'", "a scalar",
                 to_string(ctx.dims(i)));
  if (ctx.has_input(2))
    ctx.expect(ctx.dtype(2) == DType::Bool, "element type of 'training_mode'", "bool",
               dtype_name(ctx.dtype(2)));
  if (ctx.has_input(1))
    ctx.expect(is_float(ctx.dtype(1)), "element type of 'ratio'", "a float", dtype_name(ctx.dtype(1)));
  if (ctx.wants(1)) ctx.output(1, DType::Bool, dims);
  if (!ctx.has_input(2) || (ctx.constant(2) && !*ctx.constant(2)->data<bool>())) {
    ctx.alias(0, 0, dims);
    return [n](RunContext& run) { keep_all(run, n); };
  }
  Prepared prepared = no_kernel_for(ctx.dtype(0));
  visit<Droppable>(ctx.dtype(0), [&]<typename T>() {
    ctx.output(0, ctx.dtype(0), dims);
    ctx.may_share(0, 0);
    prepared = [a, n](RunContext& run) {
      const double ratio = run.has_input(1) ? run.input(1).to_doubles()[0] : 0.5;
      if (!*run.in<bool>(2) || ratio == 0) {
        if (run.out<T>(0) != run.in<T>(0)) std::copy_n(run.in<T>(0), n, run.out<T>(0));
        return keep_all(run, n);
      }
      if (!(ratio > 0 && ratio <= 1)) run.fail("input 'ratio'", "a number in [0, 1]", std::to_string(ratio));
      std::optional<double> seed;
      if (a.seed) seed = static_cast<double>(*a.seed);
      drop<T>(run, ratio, Philox(run, seed), n);
    };
  });
  return prepared;
}

}  // namespace

void register_activation_dropout(KernelRegistry& r) { r.ref("Dropout", prepare_dropout); }

}  // namespace sardonyx::cpu
