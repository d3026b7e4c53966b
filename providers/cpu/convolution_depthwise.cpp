// f32 convolution with one input channel a group, in one or two spatial dimensions, on ONNX's own layout; and
// CausalConvWithState, which is one.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/convolution_depthwise.cpp"
#include <hwy/foreach_target.h>  // compiles what follows once for each instruction set
#include <hwy/highway.h>

#include <vector>

#include "providers/cpu/convolution.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/plane_grid-inl.h"
#include "providers/cpu/support/simd.h"
#include "providers/cpu/support/widen.h"

#ifndef SARDONYX_DEPTHWISE_PLAN
#define SARDONYX_DEPTHWISE_PLAN
namespace sardonyx::cpu {

struct DepthwisePlan {
  PlaneGrid grid;
  std::vector<int64_t> offsets;  // of every tap

  explicit DepthwisePlan(const PlaneGrid& g) : grid(g) {
    for (int64_t y = 0; y < g.kh; ++y)
      for (int64_t x = 0; x < g.kw; ++x) offsets.push_back(g.offset(y, x));
  }
  int64_t result_elements() const { return grid.block_rows * grid.row + PlaneGrid::kSlack; }
  size_t buffer_elements() const { return static_cast<size_t>(grid.copy_elements() + result_elements()); }
};

}  // namespace sardonyx::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// to[f] = bias + sum over the taps of weight * copy[offset + f], four vectors at a time.
void filter_flat(const int64_t* offsets, const float* weights, size_t taps, const float* copy, float bias, int64_t length, float* to) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t f = 0; f < length; f += 4 * lanes) {
    auto a0 = hn::Set(d, bias), a1 = a0, a2 = a0, a3 = a0;
    for (size_t t = 0; t < taps; ++t) {
      const float* in = copy + offsets[t] + f;
      const auto weight = hn::Set(d, weights[t]);
      a0 = hn::MulAdd(weight, hn::LoadU(d, in), a0);
      a1 = hn::MulAdd(weight, hn::LoadU(d, in + lanes), a1);
      a2 = hn::MulAdd(weight, hn::LoadU(d, in + 2 * lanes), a2);
      a3 = hn::MulAdd(weight, hn::LoadU(d, in + 3 * lanes), a3);
    }
    hn::StoreU(a0, d, to + f), hn::StoreU(a1, d, to + f + lanes);
    hn::StoreU(a2, d, to + f + 2 * lanes), hn::StoreU(a3, d, to + f + 3 * lanes);
  }
}

// Blocks [begin, end), counted over output planes. The buffer holds zeros when this is first called with it.
void DepthwiseBlocks(const DepthwisePlan& p, const float* x, const float* weights, const float* biases, int64_t channels,
                     int64_t multiplier, int64_t begin, int64_t end, float* y, float* buffer) {
  const PlaneGrid& g = p.grid;
  float *copy = buffer, *result = copy + g.copy_elements();
  const int64_t blocks = g.blocks();
  int64_t plane = begin / blocks, first = begin % blocks * g.block_rows, m = plane % channels;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t rows = std::min(g.block_rows, g.oh - first);
    const int64_t source = multiplier == 1 ? plane : plane / multiplier;
    fill_copy(g, x + source * g.ih * g.iw, first, rows, 0.0f, copy);
    filter_flat(p.offsets.data(), weights + m * g.kh * g.kw, p.offsets.size(), copy, biases ? biases[m] : 0.0f, g.length(rows), result);
    float* to = y + (plane * g.oh + first) * g.ow;
    for (int64_t r = 0; r < rows; ++r) copy_row(result + r * g.row, g.ow, to + r * g.ow);
    first += g.block_rows;
    if (first < g.oh) continue;
    first = 0;
    ++plane;
    if (++m == channels) m = 0;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sardonyx::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {

namespace {

HWY_EXPORT(DepthwiseBlocks);

Prepared prepare_depthwise(PrepareContext& ctx) {
  if (ctx.dtype(0) != DType::Float32) return decline("only f32");
  const ConvShape s = conv_shape(ctx);
  if (s.in_channels != 1 || s.groups == 1) return decline("more than one input channel a group");
  if (s.window.rank() > 2) return decline("more than two spatial dimensions");
  if (s.empty()) return decline("an empty tensor");
  const auto grid = PlaneGrid::make(s.window);
  if (!grid) return decline("padding or stride out of proportion to the input");
  ctx.output(0, DType::Float32, s.y_dims());
  const int64_t channels = s.groups * s.out_channels, tasks = s.batch * channels * grid->blocks(), multiplier = s.out_channels;
  const double ns = 0.05 * static_cast<double>(grid->block_rows * grid->row * (grid->kh * grid->kw + 4 * grid->sh * grid->sw));
  return [p = DepthwisePlan(*grid), channels, tasks, multiplier, ns](RunContext& run) {
    const float *x = run.in<float>(0), *weights = run.in<float>(1), *bias = run.in<float>(2);
    float* y = run.out<float>(0);
    parallel_for(tasks, grain_for(ns + 20), [&](int64_t begin, int64_t end) {
      std::vector<float> buffer(p.buffer_elements());
      HWY_DYNAMIC_DISPATCH(DepthwiseBlocks)(p, x, weights, bias, channels, multiplier, begin, end, y, buffer.data());
    });
  };
}

Prepared prepare_causal(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  const std::string activation = ctx.attributes<CausalConvWithStateAttributes>().activation;
  ctx.expect(activation == "none" || activation == "silu" || activation == "swish", "attribute 'activation'",
             "none, silu or swish", activation);
  ctx.expect(ctx.rank(0) == 3, "rank of input 'input'", "3", std::to_string(ctx.rank(0)));
  const int64_t batch = ctx.dims(0)[0], channels = ctx.dims(0)[1], length = ctx.dims(0)[2];
  const Dims& w = ctx.dims(1);
  ctx.expect(w.size() == 3 && w[0] == channels && w[1] == 1 && w[2] >= 1, "dims of input 'weight'",
             "[" + std::to_string(channels) + ", 1, k]", to_string(w));
  const int64_t k = w[2];
  if (ctx.has_input(2))
    ctx.expect(ctx.dims(2) == Dims{channels}, "dims of input 'bias'", to_string(Dims{channels}), to_string(ctx.dims(2)));
  const Dims state = {batch, channels, k - 1};
  if (ctx.has_input(3))
    ctx.expect(ctx.dims(3) == state, "dims of input 'past_state'", to_string(state), to_string(ctx.dims(3)));
  for (size_t i = 1; i < ctx.input_count(); ++i)
    ctx.expect(!ctx.has_input(i) || ctx.dtype(i) == dtype, "dtype of input " + std::to_string(i), dtype_name(dtype),
               ctx.has_input(i) ? dtype_name(ctx.dtype(i)) : "");
  if (is_narrow_float(dtype)) return widened(ctx, dtype, prepare_causal);
  ctx.expect(dtype == DType::Float32, "dtype of input 'input'", "float, float16 or bfloat16", dtype_name(dtype));
  ctx.output(0, dtype, ctx.dims(0));
  ctx.output(1, dtype, state);
  // One row a channel: the past state and the input, one after the other, without further padding.
  PlaneGrid grid;
  grid.iw = grid.row = grid.sub = checked_add(length, k - 1, "padded input");
  grid.inside = grid.whole = grid.some = {0, grid.iw};
  grid.ow = length, grid.kw = k, grid.block_rows = 1;
  const simd::UnaryRow silu = activation == "none" ? nullptr : simd::row(simd::Unary::Swish);
  return [=, p = DepthwisePlan(grid)](RunContext& run) {
    const float *x = run.in<float>(0), *weights = run.in<float>(1), *bias = run.in<float>(2), *past = run.in<float>(3);
    float *y = run.out<float>(0), *present = run.out<float>(1);
    parallel_for(batch * channels, grain_for(0.2 * static_cast<double>(length * k + 20)), [&](int64_t begin, int64_t end) {
      std::vector<float> row(static_cast<size_t>(grid.iw)), buffer(p.buffer_elements());
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t j = 0; j < k - 1; ++j) row[static_cast<size_t>(j)] = past ? past[i * (k - 1) + j] : 0.0f;
        std::copy(x + i * length, x + (i + 1) * length, row.begin() + (k - 1));
        const int64_t c = i % channels;
        if (y && length > 0) {
          HWY_DYNAMIC_DISPATCH(DepthwiseBlocks)(p, row.data(), weights + c * k, bias ? bias + c : nullptr, 1, 1, 0, 1, y + i * length, buffer.data());
          if (silu) silu(y + i * length, y + i * length, length, 1.0f, 0.0f);
        }
        if (present) std::copy(row.end() - (k - 1), row.end(), present + i * (k - 1));
      }
    });
  };
}

}  // namespace

void register_convolution_depthwise(KernelRegistry& registry) {
  registry.add("Conv", "depthwise", kFirst, prepare_depthwise);
  registry.ref("CausalConvWithState", prepare_causal);
}

}  // namespace sardonyx::cpu
#endif
