// SGDStep, AdamWStep and Accumulate: one pass over a parameter, in place where the runtime shares memory.
#include <cmath>
#include <cstring>

#include "ops/optimizer.h"
#include "ops/registry/operator.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/simd_optimizer.h"
#include "providers/cpu/support/simd_rows.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {
namespace {

constexpr size_t kX = 0, kG = 1, kHyper = 2, kScale = 3, kStates = 4;

// Declares the outputs: the parameter, then the states. Undefined dtype: declined.
DType prepare_step(PrepareContext& ctx, size_t numbers) {
  const DType dtype = ctx.dtype(kX);
  const Dims& dims = ctx.dims(kX);
  ctx.expect(ctx.dims(kHyper) == Dims{static_cast<int64_t>(numbers)}, "input 'hyper'",
             std::to_string(numbers) + " numbers", to_string(ctx.dims(kHyper)));
  ctx.expect(ctx.input(kScale).size() == 1, "input 'scale'", "one number", to_string(ctx.dims(kScale)));
  for (size_t i = 0; i < ctx.input_count(); ++i)
    if (i != kHyper && i != kScale && ctx.has_input(i))
      ctx.expect(ctx.dims(i) == dims, "dims of input " + std::to_string(i), to_string(dims),
                 to_string(ctx.dims(i)));
  const auto declare = [&](size_t out, size_t in) {
    ctx.output(out, dtype, dims);
    if (ctx.wants(out)) ctx.may_share(out, in);
  };
  declare(0, kX);
  for (size_t i = kStates; i < ctx.input_count(); ++i)
    if (ctx.has_input(i)) declare(i - kStates + 1, i);
  return dtype;
}

struct Numbers {
  const double* hyper;
  double scale;
  bool skip;
  template <typename Which>
  double operator[](Which which) const {
    return hyper[static_cast<size_t>(which)];
  }
};
Numbers numbers_of(RunContext& run) {
  const double scale = *run.in<double>(kScale);
  return {run.in<double>(kHyper), scale, std::isnan(scale)};
}

// What is left out of a step keeps its values.
void keep_all(RunContext& run) {
  for (size_t out = 0; run.wants(out); ++out) {
    Tensor& to = run.output(out);
    const Tensor& from = run.input(out == 0 ? kX : kStates + out - 1);
    if (to.data() != from.data()) std::memcpy(to.mutable_data(), from.data(), from.bytes());
  }
}

// f(element) for every element of the parameter; parameter and states in the type to compute in.
template <typename T, size_t kCount, typename F>
void each(RunContext& run, int64_t size, F f) {
  using C = Compute<T>;
  const T *x = run.in<T>(kX), *g = run.in<T>(kG);
  const T* states[kCount];
  T* outputs[kCount + 1] = {run.out<T>(0)};
  for (size_t s = 0; s < kCount; ++s) {
    states[s] = run.in<T>(kStates + s);
    outputs[s + 1] = run.out<T>(s + 1);
  }
  parallel_for(size, grain_for(4), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      C values[kCount + 1] = {static_cast<C>(x[i])};
      for (size_t s = 0; s < kCount; ++s) values[s + 1] = states[s] ? static_cast<C>(states[s][i]) : C(0);
      f(static_cast<C>(g[i]), values);
      for (size_t s = 0; s <= kCount; ++s)
        if (outputs[s]) outputs[s][i] = static_cast<T>(values[s]);
    }
  });
}

SgdStep sgd_numbers(const Numbers& n, const SgdStepAttributes& a) {
  SgdStep s;
  s.rate = static_cast<float>(n[SgdHyper::Rate]);
  s.momentum = static_cast<float>(n[SgdHyper::Momentum]);
  s.undamped = static_cast<float>(1 - n[SgdHyper::Dampening]);
  s.weight_decay = static_cast<float>(n[SgdHyper::WeightDecay]);
  s.scale = static_cast<float>(a.maximize != 0 ? -n.scale : n.scale);
  s.nesterov = a.nesterov != 0;
  s.first = n[SgdHyper::Step] <= 1;
  return s;
}

Prepared sgd_simd(PrepareContext& ctx) {
  if (ctx.dtype(kX) != DType::Float32) return decline("only float");
  prepare_step(ctx, 5);
  const auto a = ctx.attributes<SgdStepAttributes>();
  const int64_t size = ctx.input(kX).size();
  return [a, size](RunContext& run) {
    const Numbers n = numbers_of(run);
    if (n.skip) return keep_all(run);
    const SgdStep s = sgd_numbers(n, a);
    const float *x = run.in<float>(kX), *g = run.in<float>(kG);
    const float* buffer = run.has_input(kStates) ? run.in<float>(kStates) : nullptr;
    float *x_new = run.out<float>(0), *buffer_new = buffer ? run.out<float>(1) : nullptr;
    parallel_for(size, grain_for(1), [&](int64_t begin, int64_t end) {
      sgd_row(s, x + begin, g + begin, buffer ? buffer + begin : nullptr, x_new + begin,
              buffer_new ? buffer_new + begin : nullptr, end - begin);
    });
  };
}

Prepared sgd_ref(PrepareContext& ctx) {
  const DType dtype = prepare_step(ctx, 5);
  const auto a = ctx.attributes<SgdStepAttributes>();
  const int64_t size = ctx.input(kX).size();
  Prepared prepared = decline("only floats");
  visit<AllFloats>(dtype, [&]<typename T>() {
    prepared = [a, size](RunContext& run) {
      using C = Compute<T>;
      const Numbers n = numbers_of(run);
      if (n.skip) return keep_all(run);
      const C rate = static_cast<C>(n[SgdHyper::Rate]), momentum = static_cast<C>(n[SgdHyper::Momentum]);
      const C undamped = static_cast<C>(1 - n[SgdHyper::Dampening]);
      const C decay = static_cast<C>(n[SgdHyper::WeightDecay]);
      const C scale = static_cast<C>(a.maximize != 0 ? -n.scale : n.scale);
      const bool has_buffer = run.has_input(kStates), first = n[SgdHyper::Step] <= 1;
      each<T, 1>(run, size, [&](C g, C* v) {
        C step = scale * g + decay * v[0];
        if (has_buffer) {
          v[1] = first ? step : momentum * v[1] + undamped * step;
          step = a.nesterov != 0 ? step + momentum * v[1] : v[1];
        }
        v[0] -= rate * step;
      });
    };
  });
  return prepared;
}

struct AdamWNumbers {
  double kept, beta1, beta2, step, inverse_root, epsilon, scale;
};
AdamWNumbers adamw_numbers(const Numbers& n, const AdamWStepAttributes& a) {
  const double t = n[AdamWHyper::Step], rate = n[AdamWHyper::Rate];
  AdamWNumbers s;
  s.kept = 1 - rate * n[AdamWHyper::WeightDecay];
  s.beta1 = n[AdamWHyper::Beta1];
  s.beta2 = n[AdamWHyper::Beta2];
  s.step = rate / (1 - std::pow(s.beta1, t));
  s.inverse_root = 1 / std::sqrt(1 - std::pow(s.beta2, t));
  s.epsilon = n[AdamWHyper::Epsilon];
  s.scale = a.maximize != 0 ? -n.scale : n.scale;
  return s;
}

Prepared adamw_simd(PrepareContext& ctx) {
  if (ctx.dtype(kX) != DType::Float32) return decline("only float");
  prepare_step(ctx, 6);
  const auto a = ctx.attributes<AdamWStepAttributes>();
  const int64_t size = ctx.input(kX).size();
  return [a, size](RunContext& run) {
    const Numbers numbers = numbers_of(run);
    if (numbers.skip) return keep_all(run);
    const AdamWNumbers n = adamw_numbers(numbers, a);
    const AdamWStep s = {
        static_cast<float>(n.kept),      static_cast<float>(n.beta1),        static_cast<float>(n.beta2),
        static_cast<float>(1 - n.beta1), static_cast<float>(1 - n.beta2),    static_cast<float>(n.scale),
        static_cast<float>(n.step),      static_cast<float>(n.inverse_root), static_cast<float>(n.epsilon)};
    const float *x = run.in<float>(kX), *g = run.in<float>(kG);
    const float *m = run.in<float>(kStates), *v = run.in<float>(kStates + 1);
    const float* largest = a.amsgrad != 0 ? run.in<float>(kStates + 2) : nullptr;
    float *x_new = run.out<float>(0), *m_new = run.out<float>(1), *v_new = run.out<float>(2);
    float* largest_new = largest ? run.out<float>(3) : nullptr;
    parallel_for(size, grain_for(1.5), [&](int64_t begin, int64_t end) {
      adamw_row(s, x + begin, g + begin, m + begin, v + begin, largest ? largest + begin : nullptr,
                x_new + begin, m_new + begin, v_new + begin, largest_new ? largest_new + begin : nullptr,
                end - begin);
    });
  };
}

Prepared adamw_ref(PrepareContext& ctx) {
  const DType dtype = prepare_step(ctx, 6);
  const auto a = ctx.attributes<AdamWStepAttributes>();
  ctx.expect(a.amsgrad == 0 || ctx.has_input(kStates + 2), "input 'max_exp_avg_sq'", "a tensor", "none");
  const int64_t size = ctx.input(kX).size();
  Prepared prepared = decline("only floats");
  visit<AllFloats>(dtype, [&]<typename T>() {
    prepared = [a, size](RunContext& run) {
      using C = Compute<T>;
      const Numbers numbers = numbers_of(run);
      if (numbers.skip) return keep_all(run);
      const AdamWNumbers n = adamw_numbers(numbers, a);
      const C kept = static_cast<C>(n.kept), beta1 = static_cast<C>(n.beta1);
      const C beta2 = static_cast<C>(n.beta2), rest1 = static_cast<C>(1 - n.beta1);
      const C rest2 = static_cast<C>(1 - n.beta2), scale = static_cast<C>(n.scale);
      const C step = static_cast<C>(n.step), root = static_cast<C>(n.inverse_root);
      const C epsilon = static_cast<C>(n.epsilon);
      each<T, 3>(run, size, [&](C gradient, C* v) {
        const C g = scale * gradient;
        v[1] = beta1 * v[1] + rest1 * g;
        v[2] = beta2 * v[2] + rest2 * g * g;
        if (a.amsgrad != 0) v[3] = std::max(v[3], v[2]);
        const C second = a.amsgrad != 0 ? v[3] : v[2];
        v[0] = kept * v[0] - step * v[1] / (std::sqrt(second) * root + epsilon);
      });
    };
  });
  return prepared;
}

Prepared accumulate(PrepareContext& ctx) {
  ctx.expect(ctx.dims(0) == ctx.dims(1), "dims of input 'G'", to_string(ctx.dims(0)), to_string(ctx.dims(1)));
  ctx.output(0, ctx.dtype(0), ctx.dims(0));
  ctx.may_share(0, 0);
  const int64_t size = ctx.input(0).size();
  Prepared prepared = decline("only floats");
  visit<AllFloats>(ctx.dtype(0), [&]<typename T>() {
    prepared = [size](RunContext& run) {
      const T *a = run.in<T>(0), *g = run.in<T>(1);
      T* out = run.out<T>(0);
      parallel_for(size, grain_for(1), [&](int64_t begin, int64_t end) {
        if constexpr (std::is_same_v<T, float>) {
          if (out != a) std::copy(a + begin, a + end, out + begin);
          add_row(out + begin, g + begin, end - begin);
        } else {
          for (int64_t i = begin; i < end; ++i)
            out[i] = static_cast<T>(static_cast<Compute<T>>(a[i]) + static_cast<Compute<T>>(g[i]));
        }
      });
    };
  });
  return prepared;
}

}  // namespace

void register_optimizer_step(KernelRegistry& registry) {
  registry.add("SGDStep", "simd", kFirst, sgd_simd, kOwnDomain);
  registry.ref("SGDStep", sgd_ref, kOwnDomain);
  registry.add("AdamWStep", "simd", kFirst, adamw_simd, kOwnDomain);
  registry.ref("AdamWStep", adamw_ref, kOwnDomain);
  registry.ref("Accumulate", accumulate, kOwnDomain);
}

}  // namespace sardonyx::cpu
