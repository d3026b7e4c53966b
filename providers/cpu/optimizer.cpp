// Adagrad, Adam and Momentum: one pass over each tensor, in its own type.
#include "ops/optimizer.h"

#include <cmath>

#include "providers/cpu/support/parallel.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {
namespace {

constexpr const char* kDomain = "ai.onnx.preview.training";

// Inputs: R T, then `groups` lists of n tensors each: values, gradients, states. Outputs: the values and
// states, list by list.
struct Lists {
  size_t n = 0;
  std::vector<int64_t> sizes;
  DType dtype{};
};

Lists prepare_lists(PrepareContext& ctx, size_t groups) {
  Lists lists;
  const size_t given = ctx.input_count();
  ctx.expect(given > 2 && (given - 2) % groups == 0, "inputs after 'R' and 'T'",
             "a multiple of " + std::to_string(groups), std::to_string(given));
  lists.n = (given - 2) / groups;
  for (size_t i : {size_t{0}, size_t{1}})
    ctx.expect(ctx.input(i).size() == 1, i == 0 ? "input 'R'" : "input 'T'", "a scalar",
               to_string(ctx.dims(i)));
  ctx.expect(ctx.dtype(0) == DType::Float32 || ctx.dtype(0) == DType::Float64, "input 'R'", "float or double",
             dtype_name(ctx.dtype(0)));
  ctx.expect(ctx.dtype(1) == DType::Int64, "input 'T'", "int64", dtype_name(ctx.dtype(1)));
  lists.dtype = ctx.dtype(2);
  ctx.expect(lists.dtype == DType::Float32 || lists.dtype == DType::Float64, "input 2", "float or double",
             dtype_name(lists.dtype));
  ctx.expect(ctx.output_count() <= lists.n * (groups - 1), "number of outputs",
             "at most " + std::to_string(lists.n * (groups - 1)), std::to_string(ctx.output_count()));
  for (size_t i = 0; i < lists.n; ++i) {
    const Dims& dims = ctx.dims(2 + i);
    lists.sizes.push_back(ctx.input(2 + i).size());
    for (size_t g = 0; g < groups; ++g) {
      const size_t at = 2 + g * lists.n + i;
      ctx.expect(ctx.dtype(at) == lists.dtype, "input " + std::to_string(at), dtype_name(lists.dtype),
                 dtype_name(ctx.dtype(at)));
      ctx.expect(ctx.dims(at) == dims, "input " + std::to_string(at), to_string(dims),
                 to_string(ctx.dims(at)));
      if (g == 1) continue;
      const size_t out = (g == 0 ? 0 : g - 1) * lists.n + i;
      ctx.output(out, lists.dtype, dims);
      ctx.may_share(out, at);
    }
  }
  return lists;
}

double learning_rate(RunContext& run) {
  return run.input(0).dtype() == DType::Float64 ? *run.in<double>(0) : static_cast<double>(*run.in<float>(0));
}

// update(x, g, states, new values): one element.
template <typename T, size_t kStates, typename Update>
void each_element(RunContext& run, const Lists& lists, Update update) {
  for (size_t i = 0; i < lists.n; ++i) {
    const T *x = run.in<T>(2 + i), *g = run.in<T>(2 + lists.n + i);
    const T* state[kStates];
    T* out[kStates + 1];
    for (size_t s = 0; s < kStates; ++s) state[s] = run.in<T>(2 + (s + 2) * lists.n + i);
    for (size_t s = 0; s <= kStates; ++s) out[s] = run.out<T>(s * lists.n + i);
    parallel_for(lists.sizes[i], grain_for(2), [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j) {
        T values[kStates + 1] = {x[j]};
        for (size_t s = 0; s < kStates; ++s) values[s + 1] = state[s][j];
        update(g[j], values);
        for (size_t s = 0; s <= kStates; ++s)
          if (out[s]) out[s][j] = values[s];
      }
    });
  }
}

template <typename T>
Prepared adagrad(const AdagradAttributes& a, const Lists& lists) {
  return [=](RunContext& run) {
    const T rate = static_cast<T>(learning_rate(run) / (1 + static_cast<double>(*run.in<int64_t>(1)) *
                                                                static_cast<double>(a.decay_factor)));
    const T norm = static_cast<T>(a.norm_coefficient), epsilon = static_cast<T>(a.epsilon);
    each_element<T, 1>(run, lists, [=](T g, T* v) {
      const T gradient = norm * v[0] + g;
      v[1] += gradient * gradient;
      v[0] -= rate * gradient / (std::sqrt(v[1]) + epsilon);
    });
  };
}

template <typename T>
Prepared adam(const AdamAttributes& a, const Lists& lists) {
  return [=](RunContext& run) {
    const int64_t t = *run.in<int64_t>(1);
    double rate = learning_rate(run);
    if (t > 0)
      rate *= std::sqrt(1 - std::pow(static_cast<double>(a.beta), t)) /
              (1 - std::pow(static_cast<double>(a.alpha), t));
    const T r = static_cast<T>(rate), norm = static_cast<T>(a.norm_coefficient),
            epsilon = static_cast<T>(a.epsilon);
    const T alpha = static_cast<T>(a.alpha), beta = static_cast<T>(a.beta),
            keep = static_cast<T>(1) - static_cast<T>(a.norm_coefficient_post);
    each_element<T, 2>(run, lists, [=](T g, T* v) {
      const T gradient = norm * v[0] + g;
      v[1] = alpha * v[1] + (1 - alpha) * gradient;
      v[2] = beta * v[2] + (1 - beta) * gradient * gradient;
      v[0] = keep * (v[0] - r * v[1] / (std::sqrt(v[2]) + epsilon));
    });
  };
}

template <typename T>
Prepared momentum(const MomentumAttributes& a, const Lists& lists) {
  return [=](RunContext& run) {
    const T rate = static_cast<T>(learning_rate(run)), norm = static_cast<T>(*a.norm_coefficient),
            alpha = static_cast<T>(*a.alpha);
    const T beta = *run.in<int64_t>(1) > 0 ? static_cast<T>(*a.beta) : T(1);
    const bool nesterov = *a.mode == "nesterov";
    each_element<T, 1>(run, lists, [=](T g, T* v) {
      const T gradient = norm * v[0] + g;
      v[1] = alpha * v[1] + beta * gradient;
      v[0] -= rate * (nesterov ? gradient + alpha * v[1] : v[1]);
    });
  };
}

Prepared prepare_adagrad(PrepareContext& ctx) {
  const auto a = ctx.attributes<AdagradAttributes>();
  const Lists lists = prepare_lists(ctx, 3);
  return lists.dtype == DType::Float32 ? adagrad<float>(a, lists) : adagrad<double>(a, lists);
}

Prepared prepare_adam(PrepareContext& ctx) {
  const auto a = ctx.attributes<AdamAttributes>();
  const Lists lists = prepare_lists(ctx, 4);
  return lists.dtype == DType::Float32 ? adam<float>(a, lists) : adam<double>(a, lists);
}

Prepared prepare_momentum(PrepareContext& ctx) {
  const auto a = ctx.attributes<MomentumAttributes>();
  ctx.expect(a.norm_coefficient && a.alpha && a.beta && a.mode,
             "attributes 'alpha', 'beta', 'mode' and 'norm_coefficient'", "all of them");
  ctx.expect(*a.mode == "standard" || *a.mode == "nesterov", "attribute 'mode'", "standard or nesterov",
             "'" + *a.mode + "'");
  const Lists lists = prepare_lists(ctx, 3);
  return lists.dtype == DType::Float32 ? momentum<float>(a, lists) : momentum<double>(a, lists);
}

}  // namespace

void register_optimizer(KernelRegistry& registry) {
  registry.ref("Adagrad", prepare_adagrad, kDomain);
  registry.ref("Adam", prepare_adam, kDomain);
  registry.ref("Momentum", prepare_momentum, kDomain);
}

}  // namespace sardonyx::cpu
