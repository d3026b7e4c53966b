// Pooling of f32 and bf16 tensors stored channels last: every window is a sum, or maximum, of rows of
// channels.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/pooling_channels_last.cpp"
#include <hwy/foreach_target.h>  // compiles what follows once for each instruction set
#include <hwy/highway.h>

#include <algorithm>

#include "providers/cpu/pooling.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/simd_bfloat16-inl.h"

#ifndef SARDONYX_ROW_POOLING
#define SARDONYX_ROW_POOLING
namespace sardonyx::cpu {

// Loops over rows of channels of f32, or of the bits of bf16.
template <typename T>
struct RowPooling {
  using Windows = void (*)(const T* const* taps, size_t count, int64_t channels, float divisor, T* to);
  Windows max, average;
  void (*mean)(const T* from, int64_t rows, int64_t stride, int64_t channels, T* to);
};

}  // namespace sardonyx::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// to[c] = the largest of taps[...][c], or their sum divided; a NaN stays. There is at least one tap.
template <bool kMax, typename T>
void pool_taps(const T* const* taps, size_t count, int64_t channels, float divisor, T* to) {
  for_vectors(channels, [=](auto d, int64_t c) HWY_ATTR {
    auto v = load_row(d, taps[0] + c);
    for (size_t t = 1; t < count; ++t) {
      const auto next = load_row(d, taps[t] + c);
      if constexpr (kMax)
        v = hn::IfThenElse(hn::Or(hn::Gt(next, v), hn::IsNaN(next)), next, v);
      else
        v = hn::Add(v, next);
    }
    store_row(kMax ? v : hn::Div(v, hn::Set(d, divisor)), d, to + c);
  });
}

// to[c] = the mean over the rows of from[row * stride + c]. Sums of up to kBlock rows are added up, so that
// long sums keep their precision.
template <typename T>
void mean_rows(const T* from, int64_t rows, int64_t stride, int64_t channels, T* to) {
  constexpr int64_t kBlock = 64;
  for_vectors(channels, [=](auto d, int64_t c) HWY_ATTR {
    auto total = hn::Zero(d);
    for (int64_t block = 0; block < rows; block += kBlock) {
      auto part = hn::Zero(d);
      for (int64_t r = block; r < std::min(rows, block + kBlock); ++r)
        part = hn::Add(part, load_row(d, from + r * stride + c));
      total = hn::Add(total, part);
    }
    store_row(hn::Div(total, hn::Set(d, static_cast<float>(rows))), d, to + c);
  });
}

template <typename T>
RowPooling<T> row_pooling() {
  return {pool_taps<true, T>, pool_taps<false, T>, mean_rows<T>};
}
RowPooling<float> FloatPooling() { return row_pooling<float>(); }
RowPooling<uint16_t> BFloatPooling() { return row_pooling<uint16_t>(); }

}  // namespace HWY_NAMESPACE
}  // namespace sardonyx::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <limits>
#include <vector>

namespace sardonyx::cpu {

namespace {

HWY_EXPORT(FloatPooling);
HWY_EXPORT(BFloatPooling);

template <typename T>
RowPooling<T> loops() {
  if constexpr (std::is_same_v<T, float>)
    return HWY_DYNAMIC_DISPATCH(FloatPooling)();
  else
    return HWY_DYNAMIC_DISPATCH(BFloatPooling)();
}

template <typename T>
T number(float value) {
  if constexpr (std::is_same_v<T, float>)
    return value;
  else
    return BFloat16(value).bits;
}

template <typename T>
void run_windows(const PoolShape& s, int64_t channels, RunContext& run) {
  const T* x = static_cast<const T*>(run.input(0).data());
  T* y = static_cast<T*>(run.output(0).mutable_data());
  const Window& w = s.window;
  const int64_t in_plane = element_count(w.in), out_plane = element_count(w.out),
                taps = element_count(w.kernel);
  const bool max = s.kind == Pooling::Max;
  const RowPooling<T> rows = loops<T>();
  const auto pool = max ? rows.max : rows.average;
  const double ns = 20 + 0.02 * static_cast<double>(channels * taps);
  parallel_for(s.planes / channels * out_plane, grain_for(ns), [&](int64_t begin, int64_t end) {
    Dims at(w.rank()), tap(w.rank());
    std::vector<const T*> inside;
    for (int64_t i = begin; i < end; ++i) {
      const T* image = x + i / out_plane * in_plane * channels;
      T* to = y + i * channels;
      for (int64_t d = static_cast<int64_t>(w.rank()) - 1, rest = i % out_plane; d >= 0; --d) {
        at[static_cast<size_t>(d)] = rest % w.out[static_cast<size_t>(d)];
        rest /= w.out[static_cast<size_t>(d)];
      }
      double divisor = 1;
      for (size_t d = 0; d < w.rank(); ++d)
        if (!max) divisor *= static_cast<double>(s.covered(d, at[d]));
      inside.clear();
      std::fill(tap.begin(), tap.end(), 0);
      do {
        int64_t place = 0;
        bool is_inside = true;
        for (size_t d = 0; d < w.rank(); ++d) {
          const int64_t p = at[d] * w.stride[d] - w.pad_begin[d] + tap[d] * w.dilation[d];
          is_inside = is_inside && p >= 0 && p < w.in[d];
          place = place * w.in[d] + p;
        }
        if (is_inside) inside.push_back(image + place * channels);
      } while (next_index(tap, w.kernel));
      if (inside.empty())  // a window of padding alone
        std::fill(to, to + channels,
                  number<T>(max            ? -std::numeric_limits<float>::infinity()
                            : divisor != 0 ? 0.0f
                                           : std::numeric_limits<float>::quiet_NaN()));
      else
        pool(inside.data(), inside.size(), channels, static_cast<float>(divisor), to);
    }
  });
}

Prepared prepare_windows(PrepareContext& ctx, PoolShape (*shape)(const PrepareContext&)) {
  if (!ctx.layouts() || ctx.layout(0) == Layout::Plain) return decline("tensors are in plain order");
  const DType dtype = ctx.dtype(0);
  if (!is_f32_or_bf16(dtype)) return decline("only f32 and bf16");
  if (ctx.wants(1)) return decline("Indices are wanted");
  const PoolShape s = shape(ctx);
  if (element_count(s.dims) == 0 || ctx.input(0).size() == 0) return decline("an empty tensor");
  ctx.want(0, Layout::ChannelsLast);
  ctx.output(0, dtype, s.dims);
  ctx.output_layout(0, Layout::ChannelsLast);
  return [s, dtype, channels = ctx.dims(0)[1]](RunContext& run) {
    dtype == DType::Float32 ? run_windows<float>(s, channels, run) : run_windows<uint16_t>(s, channels, run);
  };
}

template <typename T>
void run_global_average(int64_t batch, int64_t plane, int64_t channels, RunContext& run) {
  constexpr int64_t kSlice = 64;
  const T* x = static_cast<const T*>(run.input(0).data());
  T* y = static_cast<T*>(run.output(0).mutable_data());
  const int64_t slices = (channels + kSlice - 1) / kSlice;
  const auto mean = loops<T>().mean;
  parallel_for(batch * slices, grain_for(10 + 4.0 * static_cast<double>(plane)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   const int64_t n = i / slices, c = i % slices * kSlice;
                   mean(x + n * plane * channels + c, plane, channels, std::min(kSlice, channels - c),
                        y + n * channels + c);
                 }
               });
}

Prepared prepare_global_average(PrepareContext& ctx) {
  if (!ctx.layouts() || ctx.layout(0) == Layout::Plain) return decline("tensors are in plain order");
  const DType dtype = ctx.dtype(0);
  if (!is_f32_or_bf16(dtype)) return decline("only f32 and bf16");
  const PoolShape s = global_pool_shape(ctx, Pooling::Average);
  const int64_t channels = ctx.dims(0)[1], plane = element_count(s.window.in), batch = ctx.dims(0)[0];
  if (ctx.input(0).size() == 0) return decline("an empty tensor");
  ctx.want(0, Layout::ChannelsLast);
  ctx.output(0, dtype, s.dims);
  ctx.output_layout(0, Layout::ChannelsLast);
  return [dtype, channels, plane, batch](RunContext& run) {
    dtype == DType::Float32 ? run_global_average<float>(batch, plane, channels, run)
                            : run_global_average<uint16_t>(batch, plane, channels, run);
  };
}

}  // namespace

void register_pooling_channels_last(KernelRegistry& registry) {
  registry.add_aware("MaxPool", "channels-last", kFirst - 1,
                     [](PrepareContext& ctx) { return prepare_windows(ctx, max_pool_shape); });
  registry.add_aware("AveragePool", "channels-last", kFirst - 1,
                     [](PrepareContext& ctx) { return prepare_windows(ctx, average_pool_shape); });
  registry.add_aware("GlobalAveragePool", "channels-last", kFirst - 1, prepare_global_average);
}

}  // namespace sardonyx::cpu
#endif
