// Layer, RMS, batch, instance, group and mean-variance normalization of f32, and of the 16-bit floats where
// rows can be converted one at a time.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/normalization_simd.cpp"
#include <hwy/foreach_target.h>  // compiles what follows once for each instruction set
#include <hwy/highway.h>

#include <cmath>
#include <vector>

#include "providers/cpu/normalization.h"
#include "providers/cpu/support/packed.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/rows-inl.h"
#include "providers/cpu/support/widen.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

double Sum(const float* x, int64_t n) {
  return sum_of(x, n, [](auto, auto v) HWY_ATTR { return v; });
}

// The sum of (x - centre)^2.
double SquaredDistance(const float* x, int64_t n, float centre) {
  return sum_of(x, n, [centre](auto d, auto v) HWY_ATTR {
    const auto difference = hn::Sub(v, hn::Set(d, centre));
    return hn::Mul(difference, difference);
  });
}

// y = (x - mean) * factor + bias.
void Affine(const float* x, int64_t n, float mean, float factor, float bias, float* y) {
  map_row(x, n, y, [=](auto d, auto v, int64_t) HWY_ATTR {
    return hn::MulAdd(hn::Sub(v, hn::Set(d, mean)), hn::Set(d, factor), hn::Set(d, bias));
  });
}

// y[i] = (x[i] - mean) * factor * scale[i] + bias[i]; bias may be null.
void AffineByElement(const float* x, int64_t n, float mean, float factor, const float* scale,
                     const float* bias, float* y) {
  if (bias) {
    map_row(x, n, y, [=](auto d, auto v, int64_t i) HWY_ATTR {
      const auto normal = hn::Mul(hn::Sub(v, hn::Set(d, mean)), hn::Set(d, factor));
      return hn::MulAdd(normal, hn::LoadU(d, scale + i), hn::LoadU(d, bias + i));
    });
  } else {
    map_row(x, n, y, [=](auto d, auto v, int64_t i) HWY_ATTR {
      return hn::Mul(hn::Mul(hn::Sub(v, hn::Set(d, mean)), hn::Set(d, factor)), hn::LoadU(d, scale + i));
    });
  }
}

// y[i] = (x[i] - mean[i]) * factor[i] + bias[i].
void AffineColumns(const float* x, int64_t n, const float* mean, const float* factor, const float* bias,
                   float* y) {
  map_row(x, n, y, [=](auto d, auto v, int64_t i) HWY_ATTR {
    return hn::MulAdd(hn::Sub(v, hn::LoadU(d, mean + i)), hn::LoadU(d, factor + i), hn::LoadU(d, bias + i));
  });
}

// sums[i] = sum over the rows of x[i], or of (x[i] - centre[i])^2 where centre is given.
void SumColumns(const float* x, int64_t rows, int64_t stride, int64_t n, const float* centre, float* sums) {
  std::fill(sums, sums + n, 0.0f);
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * stride;
    if (centre) {
      map_row(sums, n, sums, [=](auto d, auto sum, int64_t i) HWY_ATTR {
        const auto difference = hn::Sub(hn::LoadU(d, row + i), hn::LoadU(d, centre + i));
        return hn::MulAdd(difference, difference, sum);
      });
    } else {
      map_row(sums, n, sums,
              [=](auto d, auto sum, int64_t i) HWY_ATTR { return hn::Add(sum, hn::LoadU(d, row + i)); });
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sardonyx::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {

namespace {

HWY_EXPORT(Sum);
HWY_EXPORT(SquaredDistance);
HWY_EXPORT(Affine);
HWY_EXPORT(AffineByElement);
HWY_EXPORT(AffineColumns);
HWY_EXPORT(SumColumns);

constexpr double kNsPerElement = 0.15;  // of the several passes of a normalization

bool is_fast(DType dtype) {
  return dtype == DType::Float32 || dtype == DType::Float16 || dtype == DType::BFloat16;
}

// A vector as f32: the operand itself, or a converted copy at `buffer`.
const float* as_floats(const Tensor& tensor, float* buffer) {
  if (tensor.dtype() == DType::Float32) return tensor.data<float>();
  convert_floats(tensor.dtype(), tensor.data(), DType::Float32, buffer, tensor.size());
  return buffer;
}

void store_statistic(RunContext& run, size_t output, int64_t row, float value) {
  if (!run.wants(output)) return;
  Tensor& to = run.output(output);
  convert_floats(
      DType::Float32, &value, to.dtype(),
      static_cast<std::byte*>(to.mutable_data()) + static_cast<size_t>(row) * element_size(to.dtype()), 1);
}

// Whether the only reader of f32 output 0 is a conversion to bf16, which a kernel can do as it writes.
bool ends_in_bfloat16(const PrepareContext& ctx) {
  if (ctx.followers().empty()) return false;
  const auto& follower = ctx.followers()[0];
  const auto to = follower.node->attributes.get<int64_t>("to", 0);
  return follower.closes && follower.node->is("Cast") && static_cast<DType>(to) == DType::BFloat16;
}

Prepared prepare_rows(PrepareContext& ctx, bool centred) {
  RowNormalization s = row_normalization(ctx, centred);
  const DType from = ctx.dtype(0);
  if (!is_fast(from) || !is_fast(s.result)) return decline("not f32, f16 or bf16");
  if (!s.by_row(s.scale_strides) || (s.has_bias && !s.by_row(s.bias_strides)))
    return decline("scale or bias differ between rows");
  if (s.result == DType::Float32 && ends_in_bfloat16(ctx)) {
    s.result = DType::BFloat16;
    ctx.absorb(1);
  }
  ctx.output(0, s.result, s.dims);
  ctx.output(1, s.stash, s.reduced);
  ctx.output(2, s.stash, s.reduced);
  ctx.may_share(0, 0);
  ScratchPlan scratch(ctx);
  const size_t vector = static_cast<size_t>(s.n) * sizeof(float);
  const size_t scale_at = scratch.add(vector), bias_at = scratch.add(s.has_bias ? vector : 0);
  return [=, rows = s.rows, n = s.n, epsilon = s.epsilon, has_bias = s.has_bias,
          to = s.result](RunContext& run) {
    const float* scale = as_floats(run.input(1), reinterpret_cast<float*>(run.scratch() + scale_at));
    const float* bias =
        has_bias ? as_floats(run.input(2), reinterpret_cast<float*>(run.scratch() + bias_at)) : nullptr;
    const auto* x = static_cast<const std::byte*>(run.input(0).data());
    auto* y = static_cast<std::byte*>(run.output(0).mutable_data());
    const size_t x_bytes = static_cast<size_t>(n) * element_size(from),
                 y_bytes = static_cast<size_t>(n) * element_size(to);
    const bool direct_in = from == DType::Float32, direct_out = to == DType::Float32;
    parallel_for(rows, grain_for(10 + (direct_in ? 1 : 20) * kNsPerElement * static_cast<double>(n)),
                 [&](int64_t begin, int64_t end) {
                   std::vector<float> in_buffer(direct_in ? 0 : static_cast<size_t>(n)),
                       out_buffer(direct_out ? 0 : static_cast<size_t>(n));
                   for (int64_t r = begin; r < end; ++r) {
                     const std::byte* source = x + static_cast<size_t>(r) * x_bytes;
                     std::byte* target = y + static_cast<size_t>(r) * y_bytes;
                     if (!direct_in) convert_floats(from, source, DType::Float32, in_buffer.data(), n);
                     const float* in = direct_in ? reinterpret_cast<const float*>(source) : in_buffer.data();
                     float* out = direct_out ? reinterpret_cast<float*>(target) : out_buffer.data();
                     const double count = static_cast<double>(n);
                     const float mean =
                         centred ? static_cast<float>(HWY_DYNAMIC_DISPATCH(Sum)(in, n) / count) : 0.0f;
                     const double variance = HWY_DYNAMIC_DISPATCH(SquaredDistance)(in, n, mean) / count;
                     const float inverse = static_cast<float>(1 / std::sqrt(variance + epsilon));
                     HWY_DYNAMIC_DISPATCH(AffineByElement)(in, n, mean, inverse, scale, bias, out);
                     if (!direct_out) convert_floats(DType::Float32, out, to, target, n);
                     store_statistic(run, 1, r, mean);
                     store_statistic(run, 2, r, inverse);
                   }
                 });
  };
}

struct Moments {
  float mean, variance;
};

// Of one channel of x seen as [outer, channels, inner].
Moments channel_moments(const ChannelView& v, const float* x, int64_t c) {
  double sum = 0;
  for (int64_t n = 0; n < v.outer; ++n)
    sum += HWY_DYNAMIC_DISPATCH(Sum)(x + (n * v.channels + c) * v.inner, v.inner);
  const float mean = static_cast<float>(sum / static_cast<double>(v.count()));
  sum = 0;
  for (int64_t n = 0; n < v.outer; ++n)
    sum += HWY_DYNAMIC_DISPATCH(SquaredDistance)(x + (n * v.channels + c) * v.inner, v.inner, mean);
  return {mean, static_cast<float>(sum / static_cast<double>(v.count()))};
}

// The sums of `columns` columns from c on where inner is 1, in blocks of rows that are added up in f64.
void sum_columns(const ChannelView& v, const float* x, int64_t c, int64_t columns, const float* centre,
                 double* sums) {
  constexpr int64_t kRows = 64;
  std::vector<float> block(static_cast<size_t>(columns));
  std::fill(sums, sums + columns, 0.0);
  for (int64_t n = 0; n < v.outer; n += kRows) {
    HWY_DYNAMIC_DISPATCH(SumColumns)
    (x + n * v.channels + c, std::min(kRows, v.outer - n), v.channels, columns, centre, block.data());
    for (int64_t i = 0; i < columns; ++i) sums[i] += static_cast<double>(block[static_cast<size_t>(i)]);
  }
}

// Mean and variance of every channel.
void all_moments(const ChannelView& v, const float* x, float* means, float* variances) {
  const double ns = kNsPerElement * static_cast<double>(v.count());
  if (v.inner != 1) {
    parallel_for(v.channels, grain_for(10 + ns), [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) {
        const Moments m = channel_moments(v, x, c);
        means[c] = m.mean, variances[c] = m.variance;
      }
    });
    return;
  }
  constexpr int64_t kColumns = 64;
  parallel_for((v.channels + kColumns - 1) / kColumns, grain_for(10 + ns * kColumns),
               [&](int64_t begin, int64_t end) {
                 double sums[kColumns];
                 const double count = static_cast<double>(v.count());
                 for (int64_t b = begin; b < end; ++b) {
                   const int64_t c = b * kColumns, columns = std::min(kColumns, v.channels - c);
                   sum_columns(v, x, c, columns, nullptr, sums);
                   for (int64_t i = 0; i < columns; ++i) means[c + i] = static_cast<float>(sums[i] / count);
                   sum_columns(v, x, c, columns, means + c, sums);
                   for (int64_t i = 0; i < columns; ++i)
                     variances[c + i] = static_cast<float>(sums[i] / count);
                 }
               });
}

// y = (x - mean) * factor + bias, each of them by channel.
void apply_by_channel(const ChannelView& v, const float* x, const float* means, const float* factors,
                      const float* biases, float* y) {
  if (v.inner == 1) {
    parallel_for(v.outer, grain_for(10 + kNsPerElement * static_cast<double>(v.channels)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t n = begin; n < end; ++n) HWY_DYNAMIC_DISPATCH(AffineColumns)
                   (x + n * v.channels, v.channels, means, factors, biases, y + n * v.channels);
                 });
    return;
  }
  parallel_for(v.outer * v.channels, grain_for(5 + kNsPerElement * static_cast<double>(v.inner)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   const int64_t c = i % v.channels;
                   HWY_DYNAMIC_DISPATCH(Affine)
                   (x + i * v.inner, v.inner, means[c], factors[c], biases[c], y + i * v.inner);
                 }
               });
}

// Means, factors and biases of all channels, in scratch.
struct ChannelScratch {
  size_t means, variances, factors, biases;
  ChannelScratch(ScratchPlan& scratch, int64_t channels) {
    const size_t bytes = static_cast<size_t>(channels) * sizeof(float);
    means = scratch.add(bytes), variances = scratch.add(bytes), factors = scratch.add(bytes),
    biases = scratch.add(bytes);
  }
  static float* at(RunContext& run, size_t offset) {
    return reinterpret_cast<float*>(run.scratch() + offset);
  }
};

Prepared prepare_batch(PrepareContext& ctx) {
  const BatchNormalization s = batch_normalization(ctx);
  bool f32 = true, same = true;
  for (size_t i = 1; i < 5; ++i) {
    f32 = f32 && ctx.dtype(i) == DType::Float32;
    same = same && ctx.dtype(i) == ctx.dtype(0);
  }
  if (is_narrow_float(ctx.dtype(0)) && (same || (f32 && !s.training)))
    return widened(ctx, ctx.dtype(0), prepare_batch);
  if (ctx.dtype(0) != DType::Float32 || !f32) return decline("mixed or 64-bit dtypes");
  ctx.output(0, DType::Float32, ctx.dims(0));
  ctx.output(1, DType::Float32, ctx.dims(3));
  ctx.output(2, DType::Float32, ctx.dims(3));
  ctx.may_share(0, 0);
  ScratchPlan scratch(ctx);
  const ChannelScratch at(scratch, s.view.channels);
  return [=](RunContext& run) {
    const ChannelView& v = s.view;
    const float *x = run.in<float>(0), *scale = run.in<float>(1), *means = run.in<float>(3),
                *variances = run.in<float>(4);
    float* factors = at.at(run, at.factors);
    if (s.training) {
      float *own_means = at.at(run, at.means), *own_variances = at.at(run, at.variances);
      all_moments(v, x, own_means, own_variances);
      const float keep = static_cast<float>(s.momentum), take = static_cast<float>(1 - s.momentum);
      if (float* to = run.out<float>(1))
        for (int64_t c = 0; c < v.channels; ++c) to[c] = means[c] * keep + own_means[c] * take;
      if (float* to = run.out<float>(2))
        for (int64_t c = 0; c < v.channels; ++c) to[c] = variances[c] * keep + own_variances[c] * take;
      means = own_means, variances = own_variances;
    }
    for (int64_t c = 0; c < v.channels; ++c)
      factors[c] = static_cast<float>(static_cast<double>(scale[c]) /
                                      std::sqrt(static_cast<double>(variances[c]) + s.epsilon));
    apply_by_channel(v, x, means, factors, run.in<float>(2), run.out<float>(0));
  };
}

Prepared prepare_groups(PrepareContext& ctx, GroupNormalization (*shape)(const PrepareContext&)) {
  const GroupNormalization s = shape(ctx);
  bool same = true;
  for (size_t i = 1; i < 3; ++i) same = same && ctx.dtype(i) == ctx.dtype(0);
  if (is_narrow_float(ctx.dtype(0)) && same)
    return widened(ctx, ctx.dtype(0), [shape](PrepareContext& wide) { return prepare_groups(wide, shape); });
  if (ctx.dtype(0) != DType::Float32 || !same) return decline("mixed or 64-bit dtypes");
  ctx.output(0, DType::Float32, ctx.dims(0));
  ctx.may_share(0, 0);
  return [s](RunContext& run) {
    const float *x = run.in<float>(0), *scale = run.in<float>(1), *bias = run.in<float>(2);
    float* y = run.out<float>(0);
    const int64_t n = s.channels * s.inner;
    parallel_for(s.batch * s.groups, grain_for(10 + kNsPerElement * static_cast<double>(n)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t g = begin; g < end; ++g) {
                     const Moments m = channel_moments({1, 1, n}, x + g * n, 0);
                     const float inverse =
                         static_cast<float>(1 / std::sqrt(static_cast<double>(m.variance) + s.epsilon));
                     const int64_t first = g % s.groups * s.channels;
                     if (s.inner == 1) {
                       HWY_DYNAMIC_DISPATCH(AffineByElement)
                       (x + g * n, n, m.mean, inverse, scale + first, bias + first, y + g * n);
                       continue;
                     }
                     for (int64_t c = 0; c < s.channels; ++c) {
                       const int64_t at = g * n + c * s.inner;
                       HWY_DYNAMIC_DISPATCH(Affine)
                       (x + at, s.inner, m.mean, inverse * scale[first + c], bias[first + c], y + at);
                     }
                   }
                 });
  };
}

Prepared prepare_mean_variance(PrepareContext& ctx) {
  const std::vector<bool> reduced = mean_variance_axes(ctx);
  if (is_narrow_float(ctx.dtype(0))) return widened(ctx, ctx.dtype(0), prepare_mean_variance);
  if (ctx.dtype(0) != DType::Float32) return decline("only f32, f16 and bf16");
  // The dimensions as [reduced, kept, reduced], each of which may be missing.
  ChannelView v;
  size_t i = 0;
  const Dims& dims = ctx.dims(0);
  for (; i < dims.size() && reduced[i]; ++i) v.outer *= dims[i];
  for (; i < dims.size() && !reduced[i]; ++i) v.channels *= dims[i];
  for (; i < dims.size() && reduced[i]; ++i) v.inner *= dims[i];
  if (i < dims.size()) return decline("the reduced axes are neither leading nor trailing");
  ctx.output(0, DType::Float32, dims);
  ctx.may_share(0, 0);
  ScratchPlan scratch(ctx);
  const ChannelScratch at(scratch, v.channels);
  return [=](RunContext& run) {
    float *means = at.at(run, at.means), *variances = at.at(run, at.variances),
          *factors = at.at(run, at.factors), *biases = at.at(run, at.biases);
    all_moments(v, run.in<float>(0), means, variances);
    for (int64_t c = 0; c < v.channels; ++c) {
      factors[c] =
          static_cast<float>(1 / (std::sqrt(static_cast<double>(variances[c])) + kMeanVarianceEpsilon));
      biases[c] = 0;
    }
    apply_by_channel(v, run.in<float>(0), means, factors, biases, run.out<float>(0));
  };
}

}  // namespace

void register_normalization_simd(KernelRegistry& registry) {
  registry.add_aware("LayerNormalization", "simd", kFirst,
                     [](PrepareContext& ctx) { return prepare_rows(ctx, true); });
  registry.add_aware("RMSNormalization", "simd", kFirst,
                     [](PrepareContext& ctx) { return prepare_rows(ctx, false); });
  registry.add("BatchNormalization", "simd", kSecond, prepare_batch);
  registry.add("InstanceNormalization", "simd", kFirst,
               [](PrepareContext& ctx) { return prepare_groups(ctx, instance_normalization); });
  registry.add("GroupNormalization", "simd", kFirst,
               [](PrepareContext& ctx) { return prepare_groups(ctx, group_normalization); });
  registry.add("MeanVarianceNormalization", "simd", kFirst, prepare_mean_variance);
}

}  // namespace sardonyx::cpu
#endif
