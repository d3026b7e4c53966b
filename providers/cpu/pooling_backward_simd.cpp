// MaxPoolBackward and AveragePoolBackward of f32 or bf16 images of one or two spatial dimensions, channels
// last: a task is an image and some of its channels.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/pooling_backward_simd.cpp"
#include <hwy/foreach_target.h>  // compiles what follows once for each instruction set
#include <hwy/highway.h>

#include <algorithm>
#include <vector>

#include "ops/registry/operator.h"
#include "providers/cpu/pooling_backward.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/simd_bfloat16-inl.h"

#ifndef SARDONYX_POOL_BACKWARD_PLAN
#define SARDONYX_POOL_BACKWARD_PLAN
namespace sardonyx::cpu {

struct PoolBackwardPlan {
  int64_t channels, ih, iw, oh, ow;
  // Of every position along an axis: the first element that its window meets, and how many.
  struct Span {
    int64_t first, count;
    float share;  // 1 / elements that the mean counts
  };
  std::vector<Span> rows, columns;
  int64_t row_step, column_step;  // between elements of a window, in elements of X
};

// Channels [begin, end) of one image of f32, or of the bits of bf16; x is null for the mean.
template <typename T>
using SpreadWindows = void (*)(const PoolBackwardPlan& p, const T* x, const T* dy, int64_t begin, int64_t end,
                               T* dx);

}  // namespace sardonyx::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D, typename T>
HWY_INLINE void spread_max(D d, const PoolBackwardPlan::Span& row, const PoolBackwardPlan::Span& column,
                           int64_t row_step, int64_t column_step, const T* x, const T* dy, T* dx) {
  const hn::RebindToSigned<D> di;
  auto best = load_row(d, x);
  auto chosen = hn::Zero(di);
  int32_t tap = 0;
  for (int64_t r = 0; r < row.count; ++r) {
    for (int64_t c = 0; c < column.count; ++c, ++tap) {
      const auto v = load_row(d, x + r * row_step + c * column_step);
      // Larger, or the first NaN.
      const auto better = hn::AndNot(hn::IsNaN(best), hn::Not(hn::Le(v, best)));
      best = hn::IfThenElse(better, v, best);
      chosen = hn::IfThenElse(hn::RebindMask(di, better), hn::Set(di, tap), chosen);
    }
  }
  const auto share = load_row(d, dy);
  tap = 0;
  for (int64_t r = 0; r < row.count; ++r) {
    for (int64_t c = 0; c < column.count; ++c, ++tap) {
      T* to = dx + r * row_step + c * column_step;
      const auto hit = hn::RebindMask(d, hn::Eq(chosen, hn::Set(di, tap)));
      store_row(hn::Add(load_row(d, to), hn::IfThenElseZero(hit, share)), d, to);
    }
  }
}

template <class D, typename T>
HWY_INLINE void spread_average(D d, const PoolBackwardPlan::Span& row, const PoolBackwardPlan::Span& column,
                               int64_t row_step, int64_t column_step, const T* dy, T* dx) {
  const auto share = hn::Mul(load_row(d, dy), hn::Set(d, row.share * column.share));
  for (int64_t r = 0; r < row.count; ++r) {
    for (int64_t c = 0; c < column.count; ++c) {
      T* to = dx + r * row_step + c * column_step;
      store_row(hn::Add(load_row(d, to), share), d, to);
    }
  }
}

template <typename T>
void spread_windows(const PoolBackwardPlan& p, const T* x, const T* dy, int64_t begin, int64_t end, T* dx) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> one;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < p.ih * p.iw; ++i)
    std::fill(dx + i * p.channels + begin, dx + i * p.channels + end, T(0));
  for (int64_t oy = 0; oy < p.oh; ++oy) {
    const auto& row = p.rows[static_cast<size_t>(oy)];
    if (row.count == 0) continue;
    for (int64_t ox = 0; ox < p.ow; ++ox) {
      const auto& column = p.columns[static_cast<size_t>(ox)];
      if (column.count == 0) continue;
      const int64_t at = (row.first * p.iw + column.first) * p.channels;
      const T* from = dy + (oy * p.ow + ox) * p.channels;
      int64_t c = begin;
      for (; c + lanes <= end; c += lanes) {
        if (x)
          spread_max(d, row, column, p.row_step, p.column_step, x + at + c, from + c, dx + at + c);
        else
          spread_average(d, row, column, p.row_step, p.column_step, from + c, dx + at + c);
      }
      for (; c < end; ++c) {
        if (x)
          spread_max(one, row, column, p.row_step, p.column_step, x + at + c, from + c, dx + at + c);
        else
          spread_average(one, row, column, p.row_step, p.column_step, from + c, dx + at + c);
      }
    }
  }
}

SpreadWindows<float> FloatWindows() { return spread_windows<float>; }
SpreadWindows<uint16_t> BFloatWindows() { return spread_windows<uint16_t>; }

}  // namespace HWY_NAMESPACE
}  // namespace sardonyx::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {

namespace {

HWY_EXPORT(FloatWindows);
HWY_EXPORT(BFloatWindows);

std::vector<PoolBackwardPlan::Span> spans(const PoolShape& s, size_t i) {
  const Window& w = s.window;
  std::vector<PoolBackwardPlan::Span> result;
  for (int64_t o = 0; o < w.out[i]; ++o) {
    const Range taps = valid_range(w.kernel[i], w.dilation[i], o * w.stride[i] - w.pad_begin[i], w.in[i]);
    const float share = s.kind == Pooling::Average ? 1.0f / static_cast<float>(s.covered(i, o)) : 1.0f;
    result.push_back({o * w.stride[i] + w.offset(i, taps.begin), taps.size(), share});
  }
  return result;
}

Prepared prepare(PrepareContext& ctx, PoolShape (*shape)(const PrepareContext&)) {
  if (!ctx.layouts()) return decline("tensors are in plain order");
  const DType dtype = ctx.dtype(0);
  if (!is_f32_or_bf16(dtype)) return decline("only f32 and bf16");
  const PoolShape s = shape(ctx);
  const Window& w = s.window;
  if (w.rank() > 2) return decline("more than two spatial dimensions");
  const bool maximum = s.kind == Pooling::Max;
  const size_t last = w.rank() - 1;
  const int64_t batch = s.dims[0], channels = s.dims[1];
  PoolBackwardPlan p;
  p.channels = channels;
  p.ih = last == 0 ? 1 : w.in[0], p.oh = last == 0 ? 1 : w.out[0];
  p.iw = w.in[last], p.ow = w.out[last];
  p.rows = last == 0 ? std::vector<PoolBackwardPlan::Span>{{0, 1, 1.0f}} : spans(s, 0);
  p.columns = spans(s, last);
  p.row_step = (last == 0 ? 0 : w.dilation[0]) * p.iw * channels;
  p.column_step = w.dilation[last] * channels;
  Dims dims = {batch, channels};
  dims.insert(dims.end(), w.in.begin(), w.in.end());
  ctx.output(0, dtype, dims);
  ctx.output_layout(0, Layout::ChannelsLast);
  ctx.want(0, Layout::ChannelsLast);
  if (maximum) ctx.want(1, Layout::ChannelsLast);
  constexpr int64_t kChannels = 64;
  const int64_t blocks = (channels + kChannels - 1) / kChannels;
  const double ns = 0.1 * static_cast<double>(p.oh * p.ow * element_count(w.kernel) + p.ih * p.iw) *
                    static_cast<double>(std::min(channels, kChannels));
  return [=](RunContext& run) {
    const auto compute = [&]<typename T>(SpreadWindows<T> spread) {
      const T *dy = static_cast<const T*>(run.input(0).data()),
              *x = maximum ? static_cast<const T*>(run.input(1).data()) : nullptr;
      T* dx = static_cast<T*>(run.output(0).mutable_data());
      const int64_t in = p.ih * p.iw * channels, out = p.oh * p.ow * channels;
      parallel_for(batch * blocks, grain_for(ns + 20), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t n = i / blocks, first = i % blocks * kChannels;
          spread(p, x ? x + n * in : nullptr, dy + n * out, first, std::min(channels, first + kChannels),
                 dx + n * in);
        }
      });
    };
    if (dtype == DType::Float32)
      compute(HWY_DYNAMIC_DISPATCH(FloatWindows)());
    else
      compute(HWY_DYNAMIC_DISPATCH(BFloatWindows)());
  };
}

}  // namespace

void register_pooling_backward_simd(KernelRegistry& registry) {
  registry.add(
      "MaxPoolBackward", "simd", kFirst,
      [](PrepareContext& ctx) { return prepare(ctx, max_pool_backward_shape); }, kOwnDomain,
      LayoutRule::Aware);
  registry.add(
      "AveragePoolBackward", "simd", kFirst,
      [](PrepareContext& ctx) { return prepare(ctx, average_pool_backward_shape); }, kOwnDomain,
      LayoutRule::Aware);
}

}  // namespace sardonyx::cpu
#endif
