// ConvBackwardWeights with one channel a group, of images of f32 or bf16 that are channels last: every tap
// sums products of the same channels, in f32.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/convolution_depthwise_backward.cpp"
#include <hwy/foreach_target.h>  // compiles what follows once for each instruction set
#include <hwy/highway.h>

#include <vector>

#include "ops/registry/operator.h"
#include "providers/cpu/convolution.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/packed.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/simd_bfloat16-inl.h"
#include "providers/cpu/support/widen.h"

#ifndef SARDONYX_DEPTHWISE_WEIGHTS_PLAN
#define SARDONYX_DEPTHWISE_WEIGHTS_PLAN
namespace sardonyx::cpu {

struct DepthwiseWeightsPlan {
  int64_t channels, ih, iw, oh, ow, kh, kw, sh, sw, dh, dw, ph, pw;
  std::vector<Range> columns;  // of every tap of a row: the positions at which it meets the image
};

// Adds rows [begin, end) of dY, counted over images, to sums [kh * kw, channels]. Elements are f32, or the
// bits of bf16.
template <typename T>
using DepthwiseRows = void (*)(const DepthwiseWeightsPlan& p, const T* x, const T* dy, int64_t begin,
                               int64_t end, float* sums);

}  // namespace sardonyx::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE void add_to(D d, hn::Vec<D> v, float* to) {
  hn::StoreU(hn::Add(v, hn::LoadU(d, to)), d, to);
}

// Where dY, X and the sums begin, and how far their elements are apart.
template <typename T>
struct Run {
  const T *dy, *x;
  float* sums;
  int64_t count, channels, x_step, tap_step;
};

// One to four neighbouring taps over a run of positions, for one vector of channels or two.
template <int kTaps, bool kTwo, class D, typename T>
HWY_INLINE void add_run(D d, const Run<T>& r) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
  const T *dy = r.dy, *x = r.x;
  for (int64_t i = 0; i < r.count; ++i, dy += r.channels, x += r.x_step) {
    const auto v = load_row(d, dy);
    a0 = hn::MulAdd(v, load_row(d, x), a0);
    if constexpr (kTaps > 1) a1 = hn::MulAdd(v, load_row(d, x + r.tap_step), a1);
    if constexpr (kTaps > 2) a2 = hn::MulAdd(v, load_row(d, x + 2 * r.tap_step), a2);
    if constexpr (kTaps > 3) a3 = hn::MulAdd(v, load_row(d, x + 3 * r.tap_step), a3);
    if constexpr (kTwo) {
      const auto u = load_row(d, dy + lanes);
      const T* next = x + lanes;
      b0 = hn::MulAdd(u, load_row(d, next), b0);
      if constexpr (kTaps > 1) b1 = hn::MulAdd(u, load_row(d, next + r.tap_step), b1);
      if constexpr (kTaps > 2) b2 = hn::MulAdd(u, load_row(d, next + 2 * r.tap_step), b2);
      if constexpr (kTaps > 3) b3 = hn::MulAdd(u, load_row(d, next + 3 * r.tap_step), b3);
    }
  }
  float* to = r.sums;
  add_to(d, a0, to);
  if constexpr (kTaps > 1) add_to(d, a1, to + r.channels);
  if constexpr (kTaps > 2) add_to(d, a2, to + 2 * r.channels);
  if constexpr (kTaps > 3) add_to(d, a3, to + 3 * r.channels);
  if constexpr (kTwo) {
    to += lanes;
    add_to(d, b0, to);
    if constexpr (kTaps > 1) add_to(d, b1, to + r.channels);
    if constexpr (kTaps > 2) add_to(d, b2, to + 2 * r.channels);
    if constexpr (kTaps > 3) add_to(d, b3, to + 3 * r.channels);
  }
}

template <int kTaps, typename T>
void add_channels(Run<T> r) {
  if (r.count <= 0) return;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<float>()));
  int64_t left = r.channels;
  const auto advance = [&](int64_t by) { r.dy += by, r.x += by, r.sums += by, left -= by; };
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 4> four;
  const hn::CappedTag<float, 1> one;
  for (; left >= 2 * lanes; advance(2 * lanes)) add_run<kTaps, true>(d, r);
  for (; left >= lanes; advance(lanes)) add_run<kTaps, false>(d, r);
  const int64_t few = static_cast<int64_t>(hn::Lanes(four));
  for (; left >= few; advance(few)) add_run<kTaps, false>(four, r);
  for (; left > 0; advance(1)) add_run<kTaps, false>(one, r);
}

template <typename T>
constexpr void (*kAddChannels[])(Run<T>) = {nullptr, add_channels<1, T>, add_channels<2, T>,
                                            add_channels<3, T>, add_channels<4, T>};

template <typename T>
void depthwise_rows(const DepthwiseWeightsPlan& p, const T* x, const T* dy, int64_t begin, int64_t end,
                    float* sums) {
  const int64_t c = p.channels, x_step = p.sw * c, tap_step = p.dw * c;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t n = row / p.oh, oy = row % p.oh;
    const T* from = dy + row * p.ow * c;
    for (int64_t ky = 0; ky < p.kh; ++ky) {
      const int64_t iy = oy * p.sh + ky * p.dh - p.ph;
      if (iy < 0 || iy >= p.ih) continue;
      const T* line = x + (n * p.ih + iy) * p.iw * c;
      for (int64_t k = 0; k < p.kw; k += 4) {
        // Where all of these taps meet the image they run together, at the ends each by itself.
        const int64_t taps = std::min<int64_t>(4, p.kw - k);
        Range all = p.columns[static_cast<size_t>(k)];
        for (int64_t t = 1; t < taps; ++t) {
          const Range& one = p.columns[static_cast<size_t>(k + t)];
          all = {std::max(all.begin, one.begin), std::min(all.end, one.end)};
        }
        if (all.begin >= all.end) all = {0, 0};
        const auto add = [&](int64_t first_tap, int64_t count, Range range) {
          kAddChannels<T>[count]({from + range.begin * c,
                                  line + (range.begin * p.sw + first_tap * p.dw - p.pw) * c,
                                  sums + (ky * p.kw + first_tap) * c, range.size(), c, x_step, tap_step});
        };
        if (all.size() > 0) add(k, taps, all);
        for (int64_t t = k; t < k + taps; ++t) {
          const Range& one = p.columns[static_cast<size_t>(t)];
          if (all.size() == 0) {
            if (one.size() > 0) add(t, 1, one);
            continue;
          }
          if (one.begin < all.begin) add(t, 1, {one.begin, all.begin});
          if (one.end > all.end) add(t, 1, {all.end, one.end});
        }
      }
    }
  }
}

DepthwiseRows<float> FloatDepthwiseRows() { return depthwise_rows<float>; }
DepthwiseRows<uint16_t> BFloatDepthwiseRows() { return depthwise_rows<uint16_t>; }

}  // namespace HWY_NAMESPACE
}  // namespace sardonyx::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {

namespace {

HWY_EXPORT(FloatDepthwiseRows);
HWY_EXPORT(BFloatDepthwiseRows);

Prepared prepare_depthwise_weights(PrepareContext& ctx) {
  if (!ctx.layouts()) return decline("tensors are in plain order");
  if (!is_f32_or_bf16(ctx.dtype(0))) return decline("only f32 and bf16");
  const ConvShape s = conv_backward_weights_shape(ctx);
  if (s.in_channels != 1 || s.out_channels != 1 || s.groups == 1)
    return decline("more than one channel a group");
  if (s.window.rank() > 2) return decline("more than two spatial dimensions");
  if (s.empty()) return decline("an empty tensor");
  const Window& w = s.window;
  const size_t last = w.rank() - 1;
  const auto outer = [&](const Dims& list, int64_t fallback) { return last == 0 ? fallback : list[0]; };
  DepthwiseWeightsPlan p{s.groups,          outer(w.in, 1),
                         w.in[last],        outer(w.out, 1),
                         w.out[last],       outer(w.kernel, 1),
                         w.kernel[last],    outer(w.stride, 1),
                         w.stride[last],    outer(w.dilation, 1),
                         w.dilation[last],  outer(w.pad_begin, 0),
                         w.pad_begin[last], {}};
  for (int64_t k = 0; k < p.kw; ++k) p.columns.push_back(valid_range(p.ow, p.sw, w.offset(last, k), p.iw));
  const int64_t rows = s.batch * p.oh, taps = p.kh * p.kw;
  const double ns = 0.05 * static_cast<double>(p.ow * p.channels * taps) + 5 * static_cast<double>(taps);
  // Parts whose sums are added up at the end; their number does not depend on the threads.
  const int64_t parts = std::clamp<int64_t>(static_cast<int64_t>(static_cast<double>(rows) * ns / 40000), 1,
                                            std::min<int64_t>(rows, 16));
  const int64_t size = checked_mul(taps, p.channels, "weights");
  ScratchPlan scratch(ctx);
  const size_t at =
      scratch.add(static_cast<size_t>(checked_mul(checked_mul(parts, size, "sums"), 4, "sums")));
  const DType result = weights_gradient_dtype(ctx);
  const size_t ordered = result == DType::Float32 ? 0 : scratch.add(static_cast<size_t>(size) * 4);
  ctx.output(0, result, ctx.host_ints(2));
  ctx.want(0, Layout::ChannelsLast);
  ctx.want(1, Layout::ChannelsLast);
  return [=](RunContext& run) {
    float* sums = reinterpret_cast<float*>(run.scratch() + at);
    const auto add_parts = [&]<typename T>(DepthwiseRows<T> add) {
      const T *x = static_cast<const T*>(run.input(0).data()),
              *dy = static_cast<const T*>(run.input(1).data());
      parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
        for (int64_t part = begin; part < end; ++part) {
          float* own = sums + part * size;
          std::fill(own, own + size, 0.0f);
          add(p, x, dy, rows * part / parts, rows * (part + 1) / parts, own);
        }
      });
    };
    if (run.input(0).dtype() == DType::Float32)
      add_parts(HWY_DYNAMIC_DISPATCH(FloatDepthwiseRows)());
    else
      add_parts(HWY_DYNAMIC_DISPATCH(BFloatDepthwiseRows)());
    for (int64_t part = 1; part < parts; ++part)
      for (int64_t i = 0; i < size; ++i) sums[i] += sums[part * size + i];
    float* dw =
        result == DType::Float32 ? run.out<float>(0) : reinterpret_cast<float*>(run.scratch() + ordered);
    for (int64_t c = 0; c < p.channels; ++c)
      for (int64_t t = 0; t < taps; ++t) dw[c * taps + t] = sums[t * p.channels + c];
    if (result != DType::Float32)
      convert_floats(DType::Float32, dw, result, run.output(0).mutable_data(), size);
  };
}

}  // namespace

void register_convolution_depthwise_backward(KernelRegistry& registry) {
  registry.add("ConvBackwardWeights", "depthwise", kFirst - 1, prepare_depthwise_weights, kOwnDomain,
               LayoutRule::Aware);
}

}  // namespace sardonyx::cpu
#endif
