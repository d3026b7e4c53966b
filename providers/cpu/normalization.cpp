// Validation of the normalizations, and their plain loops: computed in f64 for every dtype.
#include "providers/cpu/normalization.h"

#include <cmath>

#include "graph/shape.h"
#include "providers/cpu/support/strided_loop.h"
#include "providers/cpu/support/widen.h"

namespace sardonyx::cpu {

namespace {

using Doubles = std::vector<double>;

// Of the dimensions [begin, end).
int64_t product(const Dims& dims, size_t begin, size_t end) {
  int64_t n = 1;
  for (size_t i = begin; i < end; ++i) n = checked_mul(n, dims[i], "size");
  return n;
}

void expect_dims(const PrepareContext& ctx, size_t i, const char* name, const Dims& dims) {
  ctx.expect(ctx.dims(i) == dims, std::string("dims of input '") + name + "'", to_string(dims),
             to_string(ctx.dims(i)));
}

void expect_floats(const PrepareContext& ctx) {
  for (size_t i = 0; i < ctx.input_count(); ++i)
    if (ctx.has_input(i))
      ctx.expect(is_float(ctx.dtype(i)) && element_size(ctx.dtype(i)) >= 2,
                 "dtype of input " + std::to_string(i), "float, double, float16 or bfloat16",
                 dtype_name(ctx.dtype(i)));
}

DType stash_dtype(const PrepareContext& ctx, int64_t stash) {
  const DType dtype = stash == 16   ? DType::BFloat16
                      : stash == 10 ? DType::Float16
                      : stash == 11 ? DType::Float64
                                    : DType::Float32;
  ctx.expect(stash == 1 || dtype != DType::Float32, "attribute 'stash_type'", "a float type",
             std::to_string(stash));
  return dtype;
}

Dims broadcast_strides(const PrepareContext& ctx, size_t i, const char* name) {
  const Dims &x = ctx.dims(0), &dims = ctx.dims(i);
  Dims strides(x.size(), 0);
  bool fits = dims.size() <= x.size();
  const Dims own = contiguous_strides(dims);
  for (size_t d = 0; fits && d < dims.size(); ++d) {
    const size_t at = x.size() - dims.size() + d;
    fits = dims[d] == 1 || dims[d] == x[at];
    strides[at] = dims[d] == 1 ? 0 : own[d];
  }
  ctx.expect(fits, std::string("dims of input '") + name + "'", "broadcastable to " + to_string(x),
             to_string(dims));
  return strides;
}

void store(const Doubles& values, Tensor& to) {
  convert_floats(DType::Float64, values.data(), to.dtype(), to.mutable_data(), to.size());
}

Prepared prepare_rows(PrepareContext& ctx, bool centred) {
  const RowNormalization s = row_normalization(ctx, centred);
  ctx.output(0, s.result, s.dims);
  ctx.output(1, s.stash, s.reduced);
  ctx.output(2, s.stash, s.reduced);
  return [s](RunContext& run) {
    Doubles x = run.input(0).to_doubles(), means(static_cast<size_t>(s.rows)), inverses(means);
    const Doubles scale = run.input(1).to_doubles(),
                  bias = s.has_bias ? run.input(2).to_doubles() : Doubles();
    const StridedLoop at{s.dims, {s.scale_strides, s.bias_strides}};
    for (int64_t r = 0; r < s.rows; ++r) {
      double* row = x.data() + r * s.n;
      double mean = 0, variance = 0;
      for (int64_t i = 0; s.centred && i < s.n; ++i) mean += row[i];
      mean /= s.centred ? static_cast<double>(s.n) : 1;
      for (int64_t i = 0; i < s.n; ++i) variance += (row[i] - mean) * (row[i] - mean);
      const double inverse = 1 / std::sqrt(variance / static_cast<double>(s.n) + s.epsilon);
      means[static_cast<size_t>(r)] = mean;
      inverses[static_cast<size_t>(r)] = inverse;
      for (int64_t i = 0; i < s.n; ++i) {
        row[i] = (row[i] - mean) * inverse * scale[static_cast<size_t>(at.offset(0, r * s.n + i))];
        if (s.has_bias) row[i] += bias[static_cast<size_t>(at.offset(1, r * s.n + i))];
      }
    }
    store(x, run.output(0));
    if (run.wants(1)) store(means, run.output(1));
    if (run.wants(2)) store(inverses, run.output(2));
  };
}

Prepared prepare_batch(PrepareContext& ctx) {
  const BatchNormalization s = batch_normalization(ctx);
  ctx.output(0, ctx.dtype(0), ctx.dims(0));
  ctx.output(1, ctx.dtype(3), ctx.dims(3));
  ctx.output(2, ctx.dtype(3), ctx.dims(3));
  return [s](RunContext& run) {
    Doubles x = run.input(0).to_doubles();
    const Doubles scale = run.input(1).to_doubles(), bias = run.input(2).to_doubles();
    Doubles means = run.input(3).to_doubles(), variances = run.input(4).to_doubles();
    for (int64_t c = 0; c < s.view.channels; ++c) {
      const auto each = [&](auto f) {
        for (int64_t n = 0; n < s.view.outer; ++n)
          for (int64_t i = 0; i < s.view.inner; ++i)
            f(x[static_cast<size_t>((n * s.view.channels + c) * s.view.inner + i)]);
      };
      const size_t at = static_cast<size_t>(c);
      double mean = means[at], variance = variances[at];
      if (s.training) {
        mean = variance = 0;
        each([&](double& v) { mean += v; });
        mean /= static_cast<double>(s.view.count());
        each([&](double& v) { variance += (v - mean) * (v - mean); });
        variance /= static_cast<double>(s.view.count());
        means[at] = means[at] * s.momentum + mean * (1 - s.momentum);
        variances[at] = variances[at] * s.momentum + variance * (1 - s.momentum);
      }
      const double factor = scale[at] / std::sqrt(variance + s.epsilon);
      each([&](double& v) { v = (v - mean) * factor + bias[at]; });
    }
    store(x, run.output(0));
    if (run.wants(1)) store(means, run.output(1));
    if (run.wants(2)) store(variances, run.output(2));
  };
}

Prepared prepare_groups(PrepareContext& ctx, GroupNormalization (*shape)(const PrepareContext&)) {
  const GroupNormalization s = shape(ctx);
  ctx.output(0, ctx.dtype(0), ctx.dims(0));
  return [s](RunContext& run) {
    Doubles x = run.input(0).to_doubles();
    const Doubles scale = run.input(1).to_doubles(), bias = run.input(2).to_doubles();
    const int64_t n = s.channels * s.inner;
    for (int64_t g = 0; g < s.batch * s.groups; ++g) {
      double* group = x.data() + g * n;
      double mean = 0, variance = 0;
      for (int64_t i = 0; i < n; ++i) mean += group[i];
      mean /= static_cast<double>(n);
      for (int64_t i = 0; i < n; ++i) variance += (group[i] - mean) * (group[i] - mean);
      const double inverse = 1 / std::sqrt(variance / static_cast<double>(n) + s.epsilon);
      for (int64_t i = 0; i < n; ++i) {
        const size_t c = static_cast<size_t>(g % s.groups * s.channels + i / s.inner);
        group[i] = (group[i] - mean) * inverse * scale[c] + bias[c];
      }
    }
    store(x, run.output(0));
  };
}

Prepared prepare_lp(PrepareContext& ctx) {
  const LpNormalization s = lp_normalization(ctx);
  ctx.output(0, ctx.dtype(0), ctx.dims(0));
  return [s](RunContext& run) {
    Doubles x = run.input(0).to_doubles();
    for (int64_t o = 0; o < s.outer; ++o) {
      for (int64_t i = 0; i < s.inner; ++i) {
        double* line = x.data() + o * s.n * s.inner + i;
        double norm = 0;
        for (int64_t j = 0; j < s.n; ++j)
          norm += s.p == 1 ? std::abs(line[j * s.inner]) : line[j * s.inner] * line[j * s.inner];
        if (s.p == 2) norm = std::sqrt(norm);
        for (int64_t j = 0; j < s.n; ++j) line[j * s.inner] = norm == 0 ? 0 : line[j * s.inner] / norm;
      }
    }
    store(x, run.output(0));
  };
}

Prepared prepare_local_response(PrepareContext& ctx) {
  const LocalResponse s = local_response(ctx);
  ctx.output(0, ctx.dtype(0), ctx.dims(0));
  return [s](RunContext& run) {
    const Doubles x = run.input(0).to_doubles();
    Doubles y(x.size());
    for (int64_t o = 0; o < s.outer; ++o) {
      for (int64_t c = 0; c < s.channels; ++c) {
        for (int64_t i = 0; i < s.inner; ++i) {
          double sum = 0;
          for (int64_t k = std::max<int64_t>(0, c - s.before); k <= std::min(s.channels - 1, c + s.after);
               ++k) {
            const double v = x[static_cast<size_t>((o * s.channels + k) * s.inner + i)];
            sum += v * v;
          }
          const size_t at = static_cast<size_t>((o * s.channels + c) * s.inner + i);
          y[at] = x[at] / std::pow(s.bias + s.exact_scale * sum, static_cast<double>(s.beta));
        }
      }
    }
    store(y, run.output(0));
  };
}

Prepared prepare_mean_variance(PrepareContext& ctx) {
  const std::vector<bool> reduced = mean_variance_axes(ctx);
  const Dims dims = ctx.dims(0);
  // Where the statistics of an element lie.
  Dims strides(dims.size(), 0);
  int64_t groups = 1;
  for (size_t i = dims.size(); i-- > 0;)
    if (!reduced[i]) strides[i] = groups, groups = checked_mul(groups, dims[i], "groups");
  ctx.output(0, ctx.dtype(0), dims);
  return [=](RunContext& run) {
    Doubles x = run.input(0).to_doubles(), means(static_cast<size_t>(groups), 0), deviations(means);
    const StridedLoop at{dims, {strides}};
    const int64_t n = static_cast<int64_t>(x.size());
    const double count = static_cast<double>(n) / static_cast<double>(groups);
    const auto group = [&](int64_t i) { return static_cast<size_t>(at.offset(0, i)); };
    for (int64_t i = 0; i < n; ++i) means[group(i)] += x[static_cast<size_t>(i)] / count;
    for (int64_t i = 0; i < n; ++i) {
      const double d = x[static_cast<size_t>(i)] - means[group(i)];
      deviations[group(i)] += d * d;
    }
    for (double& d : deviations) d = std::sqrt(d / count) + kMeanVarianceEpsilon;
    for (int64_t i = 0; i < n; ++i)
      x[static_cast<size_t>(i)] = (x[static_cast<size_t>(i)] - means[group(i)]) / deviations[group(i)];
    store(x, run.output(0));
  };
}

}  // namespace

bool RowNormalization::by_row(const Dims& strides) const {
  int64_t dense = 1;
  for (size_t i = dims.size(); i-- > 0;) {
    const int64_t wanted = i >= axis ? dense : 0;
    if (dims[i] != 1 && strides[i] != wanted) return false;
    dense *= dims[i];
  }
  return true;
}

RowNormalization row_normalization(const PrepareContext& ctx, bool centred) {
  const auto attributes = ctx.attributes<LayerNormalizationAttributes>();
  expect_floats(ctx);
  RowNormalization s;
  s.dims = ctx.dims(0);
  ctx.expect(!s.dims.empty(), "rank of input 'X'", "at least 1", "0");
  const size_t axis = static_cast<size_t>(
      normalize_axis(attributes.axis, static_cast<int>(s.dims.size()), "attribute 'axis'"));
  s.axis = axis;
  s.rows = product(s.dims, 0, axis);
  s.n = product(s.dims, axis, s.dims.size());
  s.epsilon = static_cast<double>(attributes.epsilon);
  s.centred = centred;
  s.stash = stash_dtype(ctx, attributes.stash_type);
  s.result = ctx.dtype(centred ? 0 : 1);
  s.scale_strides = broadcast_strides(ctx, 1, "Scale");
  s.has_bias = centred && ctx.has_input(2);
  s.bias_strides = s.has_bias ? broadcast_strides(ctx, 2, "B") : Dims(s.dims.size(), 0);
  s.reduced = s.dims;
  std::fill(s.reduced.begin() + static_cast<std::ptrdiff_t>(axis), s.reduced.end(), 1);
  return s;
}

BatchNormalization batch_normalization(const PrepareContext& ctx) {
  const auto attributes = ctx.attributes<BatchNormalizationAttributes>();
  expect_floats(ctx);
  const Dims& x = ctx.dims(0);
  ctx.expect(!x.empty(), "rank of input 'X'", "at least 1", "0");
  BatchNormalization s;
  s.view = {x[0], x.size() > 1 ? x[1] : 1, x.size() > 2 ? product(x, 2, x.size()) : 1};
  const char* const names[] = {"X", "scale", "B", "input_mean", "input_var"};
  for (size_t i = 1; i < 5; ++i) expect_dims(ctx, i, names[i], {s.view.channels});
  s.training = attributes.training_mode != 0;
  ctx.expect(s.training || (!ctx.wants(1) && !ctx.wants(2)), "outputs", "1 outside training_mode",
             std::to_string(ctx.output_count()));
  s.epsilon = static_cast<double>(attributes.epsilon);
  s.momentum = static_cast<double>(attributes.momentum);
  return s;
}

GroupNormalization instance_normalization(const PrepareContext& ctx) {
  expect_floats(ctx);
  const Dims& x = ctx.dims(0);
  ctx.expect(x.size() >= 2, "rank of input 'input'", "at least 2", std::to_string(x.size()));
  expect_dims(ctx, 1, "scale", {x[1]});
  expect_dims(ctx, 2, "B", {x[1]});
  return {x[0], x[1], 1, product(x, 2, x.size()),
          static_cast<double>(ctx.attributes<InstanceNormalizationAttributes>().epsilon)};
}

GroupNormalization group_normalization(const PrepareContext& ctx) {
  const auto attributes = ctx.attributes<GroupNormalizationAttributes>();
  expect_floats(ctx);
  const Dims& x = ctx.dims(0);
  ctx.expect(x.size() >= 2, "rank of input 'X'", "at least 2", std::to_string(x.size()));
  stash_dtype(ctx, attributes.stash_type);
  const int64_t groups = attributes.num_groups.value_or(0);
  ctx.expect(groups >= 1 && x[1] % groups == 0, "attribute 'num_groups'",
             "a divisor of the " + std::to_string(x[1]) + " channels", std::to_string(groups));
  expect_dims(ctx, 1, "scale", {x[1]});
  expect_dims(ctx, 2, "bias", {x[1]});
  return {x[0], groups, x[1] / groups, product(x, 2, x.size()), static_cast<double>(attributes.epsilon)};
}

LpNormalization lp_normalization(const PrepareContext& ctx) {
  const auto attributes = ctx.attributes<LpNormalizationAttributes>();
  expect_floats(ctx);
  const Dims& x = ctx.dims(0);
  ctx.expect(!x.empty(), "rank of input 'input'", "at least 1", "0");
  ctx.expect(attributes.p == 1 || attributes.p == 2, "attribute 'p'", "1 or 2", std::to_string(attributes.p));
  const size_t axis =
      static_cast<size_t>(normalize_axis(attributes.axis, static_cast<int>(x.size()), "attribute 'axis'"));
  return {product(x, 0, axis), x[axis], product(x, axis + 1, x.size()), attributes.p};
}

LocalResponse local_response(const PrepareContext& ctx) {
  const auto attributes = ctx.attributes<LrnAttributes>();
  expect_floats(ctx);
  const Dims& x = ctx.dims(0);
  ctx.expect(x.size() >= 2, "rank of input 'X'", "at least 2", std::to_string(x.size()));
  const int64_t size = attributes.size.value_or(0);
  ctx.expect(size >= 1, "attribute 'size'", "at least 1", std::to_string(size));
  LocalResponse s;
  s.outer = x[0], s.channels = x[1], s.inner = product(x, 2, x.size());
  s.before = std::min((size - 1) / 2, s.channels);
  s.after = std::min(size - 1 - (size - 1) / 2, s.channels);
  s.exact_scale = static_cast<double>(attributes.alpha) / static_cast<double>(size);
  s.scale = static_cast<float>(s.exact_scale);
  s.beta = attributes.beta;
  s.bias = attributes.bias;
  return s;
}

std::vector<bool> mean_variance_axes(const PrepareContext& ctx) {
  expect_floats(ctx);
  std::vector<bool> reduced(ctx.dims(0).size(), false);
  for (const int64_t axis : ctx.attributes<MeanVarianceNormalizationAttributes>().axes)
    reduced[static_cast<size_t>(normalize_axis(axis, ctx.rank(0), "attribute 'axes'"))] = true;
  return reduced;
}

void register_normalization(KernelRegistry& registry) {
  registry.ref("LayerNormalization", [](PrepareContext& ctx) { return prepare_rows(ctx, true); });
  registry.ref("RMSNormalization", [](PrepareContext& ctx) { return prepare_rows(ctx, false); });
  registry.ref("BatchNormalization", prepare_batch);
  registry.ref("InstanceNormalization",
               [](PrepareContext& ctx) { return prepare_groups(ctx, instance_normalization); });
  registry.ref("GroupNormalization",
               [](PrepareContext& ctx) { return prepare_groups(ctx, group_normalization); });
  registry.ref("LpNormalization", prepare_lp);
  registry.ref("LRN", prepare_local_response);
  registry.ref("MeanVarianceNormalization", prepare_mean_variance);
}

}  // namespace sardonyx::cpu
