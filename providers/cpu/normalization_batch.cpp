// BatchNormalization with the statistics of the batch, and its backward pass, on f32 and bf16 in plain order
// and channels last, with f32 statistics; a plain loop in f64 for the backward pass of other dtypes.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/normalization_batch.cpp"
#include <hwy/foreach_target.h>  // compiles what follows once for each instruction set
#include <hwy/highway.h>

#include <array>
#include <cmath>
#include <vector>

#include "ops/registry/operator.h"
#include "providers/cpu/normalization.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/packed.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/rows-inl.h"
#include "providers/cpu/support/widen.h"

#ifndef SARDONYX_BATCH_LOOPS
#define SARDONYX_BATCH_LOOPS
namespace sardonyx::cpu {

// Loops over elements of f32, or of the bits of bf16.
template <typename T>
struct BatchLoops {
  void (*sums)(const T* x, const T* dy, int64_t n, float centre, double* sums);
  void (*column_sums)(const T* x, const T* dy, int64_t rows, int64_t n, const float* centre,
                      float* const* sums);
  void (*affine)(const T* x, const T* dy, int64_t n, float mean, float factor, float slope, float bias, T* y);
  void (*affine_columns)(const T* x, const T* dy, int64_t n, const float* mean, const float* factor,
                         const float* slope, const float* bias, T* y);
};

}  // namespace sardonyx::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Adds the sums of t, t^2, dy and dy * t to `sums`, where t = x - centre; of the first two only where dy is
// null. At most 256 terms are added in one lane before they go to f64.
template <typename T>
void batch_sums(const T* x, const T* dy, int64_t n, float centre, double* sums) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> one;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), block = 256 * lanes;
  int64_t i = 0;
  const auto run = [&](auto tag, int64_t end) HWY_ATTR {
    const int64_t step = static_cast<int64_t>(hn::Lanes(tag));
    auto a = hn::Zero(tag), b = a, c = a, e = a, a1 = a, b1 = a, c1 = a, e1 = a;
    const auto middle = hn::Set(tag, centre);
    const auto add = [&](auto& first, auto& second, auto& third, auto& fourth) HWY_ATTR {
      const auto t = hn::Sub(load_row(tag, x + i), middle);
      first = hn::Add(first, t);
      second = hn::MulAdd(t, t, second);
      if (dy) {
        const auto g = load_row(tag, dy + i);
        third = hn::Add(third, g);
        fourth = hn::MulAdd(g, t, fourth);
      }
      i += step;
    };
    while (i + 2 * step <= end) add(a, b, c, e), add(a1, b1, c1, e1);
    while (i + step <= end) add(a, b, c, e);
    const auto total = [&](auto v, auto w) HWY_ATTR {
      return static_cast<double>(hn::GetLane(hn::SumOfLanes(tag, hn::Add(v, w))));
    };
    sums[0] += total(a, a1), sums[1] += total(b, b1);
    if (dy) sums[2] += total(c, c1), sums[3] += total(e, e1);
  };
  while (n - i >= lanes) run(d, i + std::min(block, n - i));
  if (i < n) run(one, n);
}

// The same for the columns of rows of n elements: sums[k][column], in f32.
template <typename T>
void batch_column_sums(const T* x, const T* dy, int64_t rows, int64_t n, const float* centre,
                       float* const* sums) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> one;
  const auto column = [&](auto tag, int64_t at) HWY_ATTR {
    auto a = hn::Zero(tag), b = a, c = a, e = a;
    const auto middle = hn::LoadU(tag, centre + at);
    for (int64_t r = 0; r < rows; ++r) {
      const auto t = hn::Sub(load_row(tag, x + r * n + at), middle);
      a = hn::Add(a, t);
      b = hn::MulAdd(t, t, b);
      if (dy) {
        const auto g = load_row(tag, dy + r * n + at);
        c = hn::Add(c, g);
        e = hn::MulAdd(g, t, e);
      }
    }
    hn::StoreU(a, tag, sums[0] + at), hn::StoreU(b, tag, sums[1] + at);
    if (dy) hn::StoreU(c, tag, sums[2] + at), hn::StoreU(e, tag, sums[3] + at);
  };
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t at = 0;
  for (; at + lanes <= n; at += lanes) column(d, at);
  for (; at < n; ++at) column(one, at);
}

// y = (x - mean) * factor + bias, and with dy, which y may be: y = dy * factor + (x - mean) * slope + bias.
template <typename T>
void batch_affine(const T* x, const T* dy, int64_t n, float mean, float factor, float slope, float bias,
                  T* y) {
  if (!dy) {
    map_row(x, n, y, [=](auto d, auto v, int64_t) HWY_ATTR {
      return hn::MulAdd(hn::Sub(v, hn::Set(d, mean)), hn::Set(d, factor), hn::Set(d, bias));
    });
  } else {
    map_row(dy, n, y, [=](auto d, auto v, int64_t i) HWY_ATTR {
      const auto t = hn::Sub(load_row(d, x + i), hn::Set(d, mean));
      return hn::MulAdd(v, hn::Set(d, factor), hn::MulAdd(t, hn::Set(d, slope), hn::Set(d, bias)));
    });
  }
}

// The same with numbers for each column.
template <typename T>
void batch_affine_columns(const T* x, const T* dy, int64_t n, const float* mean, const float* factor,
                          const float* slope, const float* bias, T* y) {
  if (!dy) {
    map_row(x, n, y, [=](auto d, auto v, int64_t i) HWY_ATTR {
      return hn::MulAdd(hn::Sub(v, hn::LoadU(d, mean + i)), hn::LoadU(d, factor + i), hn::LoadU(d, bias + i));
    });
  } else {
    map_row(dy, n, y, [=](auto d, auto v, int64_t i) HWY_ATTR {
      const auto t = hn::Sub(load_row(d, x + i), hn::LoadU(d, mean + i));
      const auto rest = hn::MulAdd(t, hn::LoadU(d, slope + i), hn::LoadU(d, bias + i));
      return hn::MulAdd(v, hn::LoadU(d, factor + i), rest);
    });
  }
}

template <typename T>
BatchLoops<T> batch_loops() {
  return {batch_sums<T>, batch_column_sums<T>, batch_affine<T>, batch_affine_columns<T>};
}
BatchLoops<float> FloatBatch() { return batch_loops<float>(); }
BatchLoops<uint16_t> BFloatBatch() { return batch_loops<uint16_t>(); }

}  // namespace HWY_NAMESPACE
}  // namespace sardonyx::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {

namespace {

HWY_EXPORT(FloatBatch);
HWY_EXPORT(BFloatBatch);

template <typename T>
BatchLoops<T> loops() {
  if constexpr (std::is_same_v<T, float>)
    return HWY_DYNAMIC_DISPATCH(FloatBatch)();
  else
    return HWY_DYNAMIC_DISPATCH(BFloatBatch)();
}

// What the elements of one channel are multiplied by.
struct Line {
  float mean = 0, factor = 0, slope = 0, bias = 0;
};
// The statistics of a channel, and the sums of dy and of dy * (x - mean).
struct Moments {
  double mean = 0, variance = 0, sum = 0, product = 0;
};

// From sums about a centre. False where that is so far from the mean that digits are lost.
bool moments_of(const double* sums, double count, double centre, Moments& m) {
  const double distance = sums[0] / count, square = sums[1] / count - distance * distance;
  m.mean = centre + distance;
  m.variance = square < 0 ? 0 : square;
  m.sum = sums[2];
  m.product = sums[3] - distance * sums[2];
  return !(distance * distance > 16 * m.variance);
}

// Every channel in turn: x and dy as [outer, channels, inner]. f(channel, moments) gives its Line, with which
// it is written while it is in the cache.
template <typename T, typename F>
void channel_by_channel(const ChannelView& v, const T* x, const T* dy, T* y, const F& f) {
  const BatchLoops<T> batch = loops<T>();
  const double count = static_cast<double>(v.count());
  parallel_for(v.channels, grain_for(20 + 0.3 * count), [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      const auto each = [&](auto g) {
        for (int64_t n = 0; n < v.outer; ++n) g((n * v.channels + c) * v.inner);
      };
      Moments m;
      const int64_t some = std::min<int64_t>(v.inner, 64);
      double first[2] = {};
      batch.sums(x + c * v.inner, nullptr, some, 0, first);
      float centre = static_cast<float>(first[0] / static_cast<double>(some));
      for (int pass = 0; pass < 2; ++pass) {
        double sums[4] = {};
        each([&](int64_t at) { batch.sums(x + at, dy ? dy + at : nullptr, v.inner, centre, sums); });
        if (moments_of(sums, count, static_cast<double>(centre), m)) break;
        centre = static_cast<float>(m.mean);
      }
      const Line line = f(c, m);
      if (!y) continue;
      each([&](int64_t at) {
        batch.affine(x + at, dy ? dy + at : nullptr, v.inner, line.mean, line.factor, line.slope, line.bias,
                     y + at);
      });
    }
  });
}

// Scratch of `in_columns`: sums of each part of the rows, in f64 and in f32, and four numbers a channel.
struct ColumnScratch {
  int64_t parts = 1;
  size_t totals = 0, blocks = 0, lines = 0;
  ColumnScratch() = default;
  ColumnScratch(PrepareContext& ctx, ScratchPlan& scratch, const ChannelView& v)
      : parts(std::clamp<int64_t>(v.outer / 64, 1, std::max(ctx.threads(), 1))) {
    const auto bytes = [&](int64_t count, size_t element) {
      return static_cast<size_t>(
          checked_mul(checked_mul(count, v.channels, "sums"), static_cast<int64_t>(4 * element), "sums"));
    };
    totals = scratch.add(bytes(parts, sizeof(double)));
    blocks = scratch.add(bytes(parts, sizeof(float)));
    lines = scratch.add(bytes(1, sizeof(float)));
  }
};

// The same where inner is 1: rows of channels.
template <typename T, typename F>
void in_columns(const ChannelView& v, const ColumnScratch& at, RunContext& run, const T* x, const T* dy, T* y,
                const F& f) {
  const BatchLoops<T> batch = loops<T>();
  constexpr int64_t kRows = 64;
  const int64_t rows = v.outer, channels = v.channels;
  const double count = static_cast<double>(rows);
  auto* totals = reinterpret_cast<double*>(run.scratch() + at.totals);
  auto* blocks = reinterpret_cast<float*>(run.scratch() + at.blocks);
  auto* lines = reinterpret_cast<float*>(run.scratch() + at.lines);
  float *means = lines, *factors = lines + channels, *slopes = lines + 2 * channels,
        *biases = lines + 3 * channels;
  const int64_t some = std::min(rows, kRows);
  float* const first_sums[] = {means, blocks};
  std::fill_n(factors, channels, 0.0f);
  batch.column_sums(x, nullptr, some, channels, factors, first_sums);
  for (int64_t c = 0; c < channels; ++c) means[c] /= static_cast<float>(some);
  std::vector<Moments> moments(static_cast<size_t>(channels));
  for (int pass = 0; pass < 2; ++pass) {
    parallel_for(at.parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        double* total = totals + part * 4 * channels;
        float* block = blocks + part * 4 * channels;
        float* const sums[] = {block, block + channels, block + 2 * channels, block + 3 * channels};
        std::fill_n(total, 4 * channels, 0.0);
        const int64_t last = rows * (part + 1) / at.parts;
        for (int64_t first = rows * part / at.parts; first < last; first += kRows) {
          batch.column_sums(x + first * channels, dy ? dy + first * channels : nullptr,
                            std::min(kRows, last - first), channels, means, sums);
          for (int64_t i = 0; i < (dy ? 4 : 2) * channels; ++i) total[i] += static_cast<double>(block[i]);
        }
      }
    });
    bool good = true;
    for (int64_t c = 0; c < channels; ++c) {
      double sums[4] = {};
      for (int64_t part = 0; part < at.parts; ++part)
        for (int64_t k = 0; k < 4; ++k) sums[k] += totals[(part * 4 + k) * channels + c];
      good = moments_of(sums, count, static_cast<double>(means[c]), moments[static_cast<size_t>(c)]) && good;
    }
    if (good) break;
    for (int64_t c = 0; c < channels; ++c)
      means[c] = static_cast<float>(moments[static_cast<size_t>(c)].mean);
  }
  for (int64_t c = 0; c < channels; ++c) {
    const Line line = f(c, moments[static_cast<size_t>(c)]);
    means[c] = line.mean, factors[c] = line.factor, slopes[c] = line.slope, biases[c] = line.bias;
  }
  if (!y) return;
  parallel_for(rows, grain_for(10 + 0.2 * static_cast<double>(channels)), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      batch.affine_columns(x + r * channels, dy ? dy + r * channels : nullptr, channels, means, factors,
                           slopes, biases, y + r * channels);
  });
}

// x as rows of channels where it lies so.
ChannelView stored(ChannelView v, Layout layout) {
  return layout == Layout::Plain ? v : ChannelView{v.count(), v.channels, 1};
}

// x, dy (null forwards) and y (null where only f is of interest) are of f32, or all of bf16.
template <typename F>
void over_channels(const ChannelView& v, const ColumnScratch& at, RunContext& run, const Tensor& x,
                   const Tensor* dy, Tensor* y, const F& f) {
  if (v.outer == 0 || v.inner == 0) {
    for (int64_t c = 0; c < v.channels; ++c) f(c, Moments{std::nan(""), std::nan("")});
    return;
  }
  const auto compute = [&]<typename T>(T* to) {
    const T *from = static_cast<const T*>(x.data()),
            *cotangent = dy ? static_cast<const T*>(dy->data()) : nullptr;
    if (v.inner == 1)
      in_columns(v, at, run, from, cotangent, to, f);
    else
      channel_by_channel(v, from, cotangent, to, f);
  };
  void* to = y ? y->mutable_data() : nullptr;
  x.dtype() == DType::Float32 ? compute(static_cast<float*>(to)) : compute(static_cast<uint16_t*>(to));
}

Prepared prepare_training(PrepareContext& ctx) {
  const BatchNormalization s = batch_normalization(ctx);
  if (!is_f32_or_bf16(ctx.dtype(0))) return decline("only f32 and bf16");
  for (size_t i = 1; i < 5; ++i)
    if (ctx.dtype(i) != DType::Float32) return decline("scale, bias and statistics are not of float");
  if (!s.training) return decline("statistics are given");
  const Layout layout = ctx.take(0);
  ctx.output(0, ctx.dtype(0), ctx.dims(0));
  ctx.output_layout(0, layout);
  ctx.output(1, DType::Float32, ctx.dims(3));
  ctx.output(2, DType::Float32, ctx.dims(3));
  ctx.may_share(0, 0);
  const ChannelView view = stored(s.view, layout);
  ScratchPlan scratch(ctx);
  const ColumnScratch at = view.inner == 1 ? ColumnScratch(ctx, scratch, view) : ColumnScratch();
  return [=](RunContext& run) {
    const float *scale = run.in<float>(1), *bias = run.in<float>(2), *means = run.in<float>(3),
                *variances = run.in<float>(4);
    float *to_mean = run.wants(1) ? run.out<float>(1) : nullptr,
          *to_variance = run.wants(2) ? run.out<float>(2) : nullptr;
    over_channels(view, at, run, run.input(0), nullptr, &run.output(0), [&](int64_t c, const Moments& m) {
      const auto blend = [&](float before, double now) {
        return static_cast<float>(static_cast<double>(before) * s.momentum + now * (1 - s.momentum));
      };
      if (to_mean) to_mean[c] = blend(means[c], m.mean);
      if (to_variance) to_variance[c] = blend(variances[c], m.variance);
      const double factor = static_cast<double>(scale[c]) / std::sqrt(m.variance + s.epsilon);
      return Line{static_cast<float>(m.mean), static_cast<float>(factor), 0, bias[c]};
    });
  };
}

ChannelView backward_view(PrepareContext& ctx) {
  const Dims& x = ctx.dims(1);
  ctx.expect(!x.empty(), "rank of input 'X'", "at least 1", "0");
  ctx.expect(ctx.dims(0) == x, "dims of input 'dY'", to_string(x), to_string(ctx.dims(0)));
  ChannelView v{x[0], x.size() > 1 ? x[1] : 1, 1};
  for (size_t i = 2; i < x.size(); ++i) v.inner = checked_mul(v.inner, x[i], "size");
  ctx.expect(ctx.dims(2) == Dims{v.channels}, "dims of input 'scale'", to_string(Dims{v.channels}),
             to_string(ctx.dims(2)));
  for (size_t i = 0; i < 3; ++i)
    ctx.expect(is_float(ctx.dtype(i)), "dtype of input " + std::to_string(i), "a float type",
               dtype_name(ctx.dtype(i)));
  ctx.expect(ctx.dtype(0) == ctx.dtype(1), "dtype of input 'dY'", dtype_name(ctx.dtype(1)),
             dtype_name(ctx.dtype(0)));
  if (ctx.wants(0)) ctx.output(0, ctx.dtype(1), x);
  ctx.output(1, ctx.dtype(2), ctx.dims(2));
  ctx.output(2, ctx.dtype(2), ctx.dims(2));
  return v;
}

Prepared prepare_backward(PrepareContext& ctx) {
  if (!is_f32_or_bf16(ctx.dtype(1))) return decline("only f32 and bf16");
  if (ctx.dtype(2) != DType::Float32) return decline("scale is not of float");
  ChannelView view = backward_view(ctx);
  // In the order of x, which is that of the convolution before it.
  const Layout layout = ctx.take(1);
  ctx.want(0, layout);
  ctx.output_layout(0, layout);
  ctx.may_share(0, 0);
  view = stored(view, layout);
  ScratchPlan scratch(ctx);
  const ColumnScratch at = view.inner == 1 ? ColumnScratch(ctx, scratch, view) : ColumnScratch();
  const double epsilon = static_cast<double>(ctx.attributes<BatchNormalizationBackwardAttributes>().epsilon);
  return [=](RunContext& run) {
    const float* scale = run.in<float>(2);
    float *to_scale = run.wants(1) ? run.out<float>(1) : nullptr,
          *to_bias = run.wants(2) ? run.out<float>(2) : nullptr;
    const double count = static_cast<double>(view.count());
    over_channels(view, at, run, run.input(1), &run.input(0), run.wants(0) ? &run.output(0) : nullptr,
                  [&](int64_t c, const Moments& m) {
                    const double inverse = 1 / std::sqrt(m.variance + epsilon);
                    const double factor = static_cast<double>(scale[c]) * inverse;
                    if (to_scale) to_scale[c] = static_cast<float>(m.product * inverse);
                    if (to_bias) to_bias[c] = static_cast<float>(m.sum);
                    const double slope = -factor * inverse * inverse * m.product / count;
                    return Line{static_cast<float>(m.mean), static_cast<float>(factor),
                                static_cast<float>(slope), static_cast<float>(-factor * m.sum / count)};
                  });
  };
}

Prepared prepare_backward_ref(PrepareContext& ctx) {
  const ChannelView v = backward_view(ctx);
  const double epsilon = static_cast<double>(ctx.attributes<BatchNormalizationBackwardAttributes>().epsilon);
  return [v, epsilon](RunContext& run) {
    using Doubles = std::vector<double>;
    Doubles dy = run.input(0).to_doubles();
    const Doubles x = run.input(1).to_doubles(), scale = run.input(2).to_doubles();
    Doubles to_scale(scale.size()), to_bias(scale.size());
    const double count = static_cast<double>(v.count());
    for (int64_t c = 0; c < v.channels; ++c) {
      const auto each = [&](auto f) {
        for (int64_t n = 0; n < v.outer; ++n)
          for (int64_t i = 0; i < v.inner; ++i) f(static_cast<size_t>((n * v.channels + c) * v.inner + i));
      };
      Moments m;
      each([&](size_t i) { m.mean += x[i] / count; });
      each([&](size_t i) { m.variance += (x[i] - m.mean) * (x[i] - m.mean) / count; });
      each([&](size_t i) { m.sum += dy[i], m.product += dy[i] * (x[i] - m.mean); });
      const double inverse = 1 / std::sqrt(m.variance + epsilon),
                   factor = scale[static_cast<size_t>(c)] * inverse;
      each([&](size_t i) {
        const double shared = m.sum + (x[i] - m.mean) * m.product * inverse * inverse;
        dy[i] = factor * (dy[i] - shared / count);
      });
      to_scale[static_cast<size_t>(c)] = m.product * inverse;
      to_bias[static_cast<size_t>(c)] = m.sum;
    }
    const Doubles* results[] = {&dy, &to_scale, &to_bias};
    for (size_t i = 0; i < 3; ++i)
      if (run.wants(i)) {
        Tensor& to = run.output(i);
        convert_floats(DType::Float64, results[i]->data(), to.dtype(), to.mutable_data(), to.size());
      }
  };
}

}  // namespace

void register_normalization_batch(KernelRegistry& r) {
  r.add_aware("BatchNormalization", "training", kFirst, prepare_training);
  r.add("BatchNormalizationBackward", "simd", kFirst, prepare_backward, kOwnDomain, LayoutRule::Aware);
  r.ref("BatchNormalizationBackward", prepare_backward_ref, kOwnDomain);
}

}  // namespace sardonyx::cpu
#endif
