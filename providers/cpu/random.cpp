// Random tensors: each element is a function of the seed, the stream of the node and its own index.
#include "ops/random.h"

#include <algorithm>
#include <cmath>

#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/philox.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

namespace {

// float draws for the types that are computed in float, double draws for double.
template <typename T>
using Draw = std::conditional_t<std::is_same_v<T, double>, double, float>;

Prepared normal(PrepareContext& ctx, DType dtype, Dims dims, float mean, float scale,
                std::optional<float> seed) {
  const int64_t n = element_count(dims);
  Prepared result = decline(std::string("no random ") + dtype_name(dtype));
  visit<AllFloats>(dtype, [&]<typename T>() {
    ctx.output(0, dtype, std::move(dims));
    result = [=](RunContext& run) {
      using D = Draw<T>;
      const Philox philox(run, seed);
      T* out = run.out<T>(0);
      parallel_for(n, grain_for(15), [&](int64_t begin, int64_t end) {
        philox.each_normal<D>(
            static_cast<uint64_t>(begin), static_cast<uint64_t>(end),
            [&](uint64_t i, D draw) { out[i] = T(static_cast<D>(mean) + static_cast<D>(scale) * draw); });
      });
    };
  });
  return result;
}

Prepared uniform(PrepareContext& ctx, DType dtype, Dims dims, float low, float high,
                 std::optional<float> seed) {
  const int64_t n = element_count(dims);
  Prepared result = decline(std::string("no random ") + dtype_name(dtype));
  visit<AllFloats>(dtype, [&]<typename T>() {
    ctx.output(0, dtype, std::move(dims));
    result = [=](RunContext& run) {
      using D = Draw<T>;
      const Philox philox(run, seed);
      const D from = low, width = static_cast<D>(high) - from;
      T* out = run.out<T>(0);
      parallel_for(n, grain_for(8), [&](int64_t begin, int64_t end) {
        philox.each_uniform<D>(static_cast<uint64_t>(begin), static_cast<uint64_t>(end),
                               [&](uint64_t i, D draw) { out[i] = T(from + width * draw); });
      });
    };
  });
  return result;
}

Dims shape_of_attribute(PrepareContext& ctx, const std::optional<std::vector<int64_t>>& shape) {
  ctx.expect(shape.has_value(), "attribute 'shape'", "dimensions");
  for (int64_t d : *shape) ctx.expect(d >= 0, "attribute 'shape'", "dimensions >= 0", to_string(*shape));
  return *shape;
}

DType like(PrepareContext& ctx, const std::optional<int64_t>& dtype) {
  return dtype ? static_cast<DType>(*dtype) : ctx.dtype(0);
}

Prepared prepare_random_normal(PrepareContext& ctx) {
  const auto a = ctx.attributes<RandomNormalAttributes>();
  return normal(ctx, static_cast<DType>(a.dtype), shape_of_attribute(ctx, a.shape), a.mean, a.scale, a.seed);
}

Prepared prepare_random_uniform(PrepareContext& ctx) {
  const auto a = ctx.attributes<RandomUniformAttributes>();
  return uniform(ctx, static_cast<DType>(a.dtype), shape_of_attribute(ctx, a.shape), a.low, a.high, a.seed);
}

Prepared prepare_random_normal_like(PrepareContext& ctx) {
  const auto a = ctx.attributes<RandomNormalLikeAttributes>();
  return normal(ctx, like(ctx, a.dtype), ctx.dims(0), a.mean, a.scale, a.seed);
}

Prepared prepare_random_uniform_like(PrepareContext& ctx) {
  const auto a = ctx.attributes<RandomUniformLikeAttributes>();
  return uniform(ctx, like(ctx, a.dtype), ctx.dims(0), a.low, a.high, a.seed);
}

Prepared prepare_bernoulli(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<BernoulliAttributes>();
  const DType dtype = like(ctx, attributes.dtype);
  const int64_t n = ctx.input(0).size();
  const std::optional<float> seed = attributes.seed;
  Prepared result = decline(std::string("no draws of ") + dtype_name(dtype));
  visit<AllFloats>(ctx.dtype(0), [&]<typename P>() {
    visit<Join<AllNumbers, Types<bool>>>(dtype, [&]<typename T>() {
      ctx.output(0, dtype, ctx.dims(0));
      result = [=](RunContext& run) {
        using D = Draw<P>;
        const Philox philox(run, seed);
        const P* probabilities = run.in<P>(0);
        T* out = run.out<T>(0);
        parallel_for(n, grain_for(8), [&](int64_t begin, int64_t end) {
          philox.each_uniform<D>(
              static_cast<uint64_t>(begin), static_cast<uint64_t>(end), [&](uint64_t i, D draw) {
                out[i] =
                    static_cast<T>(static_cast<Compute<T>>(draw < static_cast<D>(probabilities[i]) ? 1 : 0));
              });
        });
      };
    });
  });
  return result;
}

// Samples one row of unnormalized log-probabilities: the class in whose share of the sum a draw falls.
template <typename P, typename T>
void sample_row(RunContext& run, const Philox& philox, const P* row, int64_t classes, uint64_t first,
                int64_t samples, std::vector<double>& sums, T* out) {
  double top = -INFINITY, sum = 0;
  for (int64_t c = 0; c < classes; ++c) {
    const double value = static_cast<double>(static_cast<Compute<P>>(row[c]));
    if (!(value < INFINITY)) run.fail("a log-probability", "a number below infinity", std::to_string(value));
    top = std::max(top, value);
  }
  if (top == -INFINITY) run.fail("log-probabilities of a row", "one above -infinity");
  int64_t last = 0;  // the last class that can occur
  for (int64_t c = 0; c < classes; ++c) {
    const double share = std::exp(static_cast<double>(static_cast<Compute<P>>(row[c])) - top);
    if (share > 0) last = c;
    sums[static_cast<size_t>(c)] = sum += share;
  }
  philox.each_uniform<double>(first, first + static_cast<uint64_t>(samples), [&](uint64_t i, double draw) {
    const int64_t c = std::upper_bound(sums.begin(), sums.end(), draw * sum) - sums.begin();
    out[i - first] = static_cast<T>(std::min(c, last));
  });
}

Prepared prepare_multinomial(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<MultinomialAttributes>();
  ctx.expect(ctx.rank(0) == 2, "rank of the input", "2", std::to_string(ctx.rank(0)));
  const int64_t batch = ctx.dims(0)[0], classes = ctx.dims(0)[1], samples = attributes.sample_size;
  ctx.expect(samples >= 0, "attribute 'sample_size'", "0 or more", std::to_string(samples));
  ctx.expect(classes > 0 || batch == 0 || samples == 0, "classes", "1 or more", "0");
  const DType dtype = static_cast<DType>(attributes.dtype);
  const std::optional<float> seed = attributes.seed;
  Prepared result = decline(std::string("no samples of ") + dtype_name(dtype));
  visit<AllFloats>(ctx.dtype(0), [&]<typename P>() {
    visit<Types<int32_t, int64_t>>(dtype, [&]<typename T>() {
      ctx.output(0, dtype, {batch, samples});
      result = [=](RunContext& run) {
        if (samples == 0) return;
        const Philox philox(run, seed);
        parallel_for(batch, grain_for(static_cast<double>(classes) * 10 + static_cast<double>(samples) * 30),
                     [&](int64_t begin, int64_t end) {
                       std::vector<double> sums(static_cast<size_t>(classes));
                       for (int64_t b = begin; b < end; ++b)
                         sample_row(run, philox, run.in<P>(0) + b * classes, classes,
                                    static_cast<uint64_t>(b * samples), samples, sums,
                                    run.out<T>(0) + b * samples);
                     });
      };
    });
  });
  return result;
}

}  // namespace

void register_random(KernelRegistry& registry) {
  registry.ref("RandomNormal", prepare_random_normal);
  registry.ref("RandomUniform", prepare_random_uniform);
  registry.ref("RandomNormalLike", prepare_random_normal_like);
  registry.ref("RandomUniformLike", prepare_random_uniform_like);
  registry.ref("Bernoulli", prepare_bernoulli);
  registry.ref("Multinomial", prepare_multinomial);
}

}  // namespace sardonyx::cpu
