// f32 pooling of tensors stored channels last: every window is a sum, or maximum, of rows of channels.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/pooling_channels_last.cpp"
#include <hwy/foreach_target.h>  // compiles what follows once for each instruction set
#include <hwy/highway.h>

#include "providers/cpu/pooling.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/simd.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// to[c] op= from[c]; a NaN on either side stays.
template <bool kMax>
void combine_rows(const float* HWY_RESTRICT from, float* HWY_RESTRICT to, int64_t channels) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto join = [&](auto d_, int64_t c) HWY_ATTR {
    const auto a = hn::LoadU(d_, from + c), b = hn::LoadU(d_, to + c);
    if constexpr (kMax)
      hn::StoreU(hn::IfThenElse(hn::Or(hn::Gt(a, b), hn::IsNaN(a)), a, b), d_, to + c);
    else
      hn::StoreU(hn::Add(a, b), d_, to + c);
  };
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) join(d, c);
  const hn::CappedTag<float, 1> one;
  for (; c < channels; ++c) join(one, c);
}

void CombineMax(const float* from, float* to, int64_t channels) { combine_rows<true>(from, to, channels); }
void CombineSum(const float* from, float* to, int64_t channels) { combine_rows<false>(from, to, channels); }

}  // namespace HWY_NAMESPACE
}  // namespace sardonyx::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <cstring>
#include <limits>

namespace sardonyx::cpu {

namespace {

HWY_EXPORT(CombineMax);
HWY_EXPORT(CombineSum);

Prepared prepare_windows(PrepareContext& ctx, PoolShape (*shape)(const PrepareContext&)) {
  if (!ctx.layouts() || ctx.layout(0) == Layout::Plain) return decline("tensors are in plain order");
  if (ctx.dtype(0) != DType::Float32) return decline("only f32");
  if (ctx.wants(1)) return decline("Indices are wanted");
  const PoolShape s = shape(ctx);
  if (element_count(s.dims) == 0 || ctx.input(0).size() == 0) return decline("an empty tensor");
  const int64_t channels = ctx.dims(0)[1], in_plane = element_count(s.window.in),
                out_plane = element_count(s.window.out);
  ctx.want(0, Layout::ChannelsLast);
  ctx.output(0, DType::Float32, s.dims);
  ctx.output_layout(0, Layout::ChannelsLast);
  const double ns = 20 + 0.05 * static_cast<double>(channels * element_count(s.window.kernel));
  return [s, channels, in_plane, out_plane, ns](RunContext& run) {
    const float* x = run.in<float>(0);
    float* y = run.out<float>(0);
    const Window& w = s.window;
    parallel_for(s.planes / channels * out_plane, grain_for(ns), [&](int64_t begin, int64_t end) {
      Dims at(w.rank());
      for (int64_t i = begin; i < end; ++i) {
        const float* image = x + i / out_plane * in_plane * channels;
        float* to = y + i * channels;
        for (int64_t d = static_cast<int64_t>(w.rank()) - 1, rest = i % out_plane; d >= 0; --d) {
          at[static_cast<size_t>(d)] = rest % w.out[static_cast<size_t>(d)];
          rest /= w.out[static_cast<size_t>(d)];
        }
        double divisor = 1;
        for (size_t d = 0; d < w.rank(); ++d)
          if (s.kind == Pooling::Average) divisor *= static_cast<double>(s.covered(d, at[d]));
        bool first = true;
        Dims tap(w.rank(), 0);
        do {
          int64_t place = 0;
          bool inside = true;
          for (size_t d = 0; d < w.rank(); ++d) {
            const int64_t p = at[d] * w.stride[d] - w.pad_begin[d] + tap[d] * w.dilation[d];
            inside = inside && p >= 0 && p < w.in[d];
            place = place * w.in[d] + p;
          }
          if (!inside) continue;
          if (first)
            std::memcpy(to, image + place * channels, static_cast<size_t>(channels) * sizeof(float));
          else if (s.kind == Pooling::Max)
            HWY_DYNAMIC_DISPATCH(CombineMax)(image + place * channels, to, channels);
          else
            HWY_DYNAMIC_DISPATCH(CombineSum)(image + place * channels, to, channels);
          first = false;
        } while (next_index(tap, w.kernel));
        // A window of padding alone.
        if (first)
          std::fill(to, to + channels,
                    s.kind == Pooling::Max ? -std::numeric_limits<float>::infinity() : 0.0f);
        if (divisor != 1)
          for (int64_t c = 0; c < channels; ++c) to[c] = static_cast<float>(to[c] / divisor);
      }
    });
  };
}

constexpr int64_t kBlock = 64, kSlice = 64;

// Sums of up to kBlock rows are added up, so that long sums keep their precision.
Prepared prepare_global_average(PrepareContext& ctx) {
  if (!ctx.layouts() || ctx.layout(0) == Layout::Plain) return decline("tensors are in plain order");
  if (ctx.dtype(0) != DType::Float32) return decline("only f32");
  const PoolShape s = global_pool_shape(ctx, Pooling::Average);
  const int64_t channels = ctx.dims(0)[1], plane = element_count(s.window.in), batch = ctx.dims(0)[0];
  if (ctx.input(0).size() == 0) return decline("an empty tensor");
  ctx.want(0, Layout::ChannelsLast);
  ctx.output(0, DType::Float32, s.dims);
  ctx.output_layout(0, Layout::ChannelsLast);
  return [channels, plane, batch](RunContext& run) {
    const float* x = run.in<float>(0);
    float* y = run.out<float>(0);
    const int64_t slices = (channels + kSlice - 1) / kSlice;
    parallel_for(batch * slices, grain_for(10 + 4.0 * static_cast<double>(plane)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) {
                     const int64_t n = i / slices, c = i % slices * kSlice,
                                   width = std::min<int64_t>(kSlice, channels - c);
                     const float* from = x + n * plane * channels + c;
                     float total[kSlice] = {}, part[kSlice];
                     for (int64_t block = 0; block < plane; block += kBlock) {
                       std::fill(part, part + width, 0.0f);
                       for (int64_t p = block; p < std::min<int64_t>(plane, block + kBlock); ++p)
                         HWY_DYNAMIC_DISPATCH(CombineSum)(from + p * channels, part, width);
                       for (int64_t k = 0; k < width; ++k) total[k] += part[k];
                     }
                     for (int64_t k = 0; k < width; ++k)
                       y[n * channels + c + k] = total[k] / static_cast<float>(plane);
                   }
                 });
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
