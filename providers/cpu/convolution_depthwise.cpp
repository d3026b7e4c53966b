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
  // Tiles of four rows may read and write up to three rows past the last one; they write whole pairs of
  // vectors.
  int64_t tile_row() const { return (grid.ow + 31) / 32 * 32; }
  int64_t copy_elements() const { return grid.copy_elements() + 4 * grid.row; }
  int64_t result_elements() const {
    return (grid.block_rows + 4) * std::max(grid.row, tile_row()) + PlaneGrid::kSlack;
  }
  size_t buffer_elements() const { return static_cast<size_t>(copy_elements() + result_elements()); }
};

}  // namespace sardonyx::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// to[f] = bias + sum over the taps of weight * copy[offset + f], four vectors at a time.
void filter_flat(const int64_t* offsets, const float* weights, size_t taps, const float* copy, float bias,
                 int64_t length, float* to) {
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

// What input row kRow of a tile adds to output rows 0 to 3, two vectors wide: tap i of output row r meets row
// r + i.
template <int kTaps, int kRow, class D, class V>
HWY_INLINE void add_row(D d, const float* in, const float* weights, int64_t step, V& a0, V& a1, V& a2, V& a3,
                        V& b0, V& b1, V& b2, V& b3) {
  const V v = hn::LoadU(d, in), u = hn::LoadU(d, in + hn::Lanes(d));
  if constexpr (kRow < kTaps) {
    const V w = hn::Set(d, weights[kRow * step]);
    a0 = hn::MulAdd(w, v, a0), b0 = hn::MulAdd(w, u, b0);
  }
  if constexpr (kRow >= 1 && kRow - 1 < kTaps) {
    const V w = hn::Set(d, weights[(kRow - 1) * step]);
    a1 = hn::MulAdd(w, v, a1), b1 = hn::MulAdd(w, u, b1);
  }
  if constexpr (kRow >= 2 && kRow - 2 < kTaps) {
    const V w = hn::Set(d, weights[(kRow - 2) * step]);
    a2 = hn::MulAdd(w, v, a2), b2 = hn::MulAdd(w, u, b2);
  }
  if constexpr (kRow >= 3 && kRow - 3 < kTaps) {
    const V w = hn::Set(d, weights[(kRow - 3) * step]);
    a3 = hn::MulAdd(w, v, a3), b3 = hn::MulAdd(w, u, b3);
  }
}

// Four output rows from the kTaps rows of taps that meet one row phase. Adds to `to`, or starts from the
// bias.
template <int kTaps, int... kRows>
HWY_INLINE void filter_tile(const PlaneGrid& g, const int64_t* offsets, const float* weights,
                            const float* copy, bool first, float bias, float* to, int64_t to_row,
                            std::integer_sequence<int, kRows...>) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t f = 0; f < g.ow; f += 2 * lanes) {
    float *r0 = to + f, *r1 = r0 + to_row, *r2 = r1 + to_row, *r3 = r2 + to_row;
    auto a0 = hn::Set(d, bias), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
    if (!first) {
      a0 = hn::LoadU(d, r0), a1 = hn::LoadU(d, r1), a2 = hn::LoadU(d, r2), a3 = hn::LoadU(d, r3);
      b0 = hn::LoadU(d, r0 + lanes), b1 = hn::LoadU(d, r1 + lanes), b2 = hn::LoadU(d, r2 + lanes),
      b3 = hn::LoadU(d, r3 + lanes);
    }
    for (int64_t x = 0; x < g.kw; ++x) {
      const float* in = copy + offsets[x] + f;
      (add_row<kTaps, kRows>(d, in + kRows * g.row, weights + x, g.sh * g.kw, a0, a1, a2, a3, b0, b1, b2, b3),
       ...);
    }
    hn::StoreU(a0, d, r0), hn::StoreU(a1, d, r1), hn::StoreU(a2, d, r2), hn::StoreU(a3, d, r3);
    hn::StoreU(b0, d, r0 + lanes), hn::StoreU(b1, d, r1 + lanes), hn::StoreU(b2, d, r2 + lanes),
        hn::StoreU(b3, d, r3 + lanes);
  }
}

using FilterTile = void (*)(const PlaneGrid&, const int64_t*, const float*, const float*, bool, float, float*,
                            int64_t);
template <int kTaps>
void FilterTileOf(const PlaneGrid& g, const int64_t* offsets, const float* weights, const float* copy,
                  bool first, float bias, float* to, int64_t to_row) {
  filter_tile<kTaps>(g, offsets, weights, copy, first, bias, to, to_row,
                     std::make_integer_sequence<int, kTaps + 3>());
}
constexpr FilterTile kFilterTiles[] = {nullptr,         FilterTileOf<1>, FilterTileOf<2>, FilterTileOf<3>,
                                       FilterTileOf<4>, FilterTileOf<5>, FilterTileOf<6>, FilterTileOf<7>};

// Whether tiles serve: rows not dilated, at most seven taps below each other in a phase, rows that fill most
// of the vectors.
bool tiled(const PlaneGrid& g) {
  const int64_t pair = 2 * static_cast<int64_t>(hn::Lanes(hn::ScalableTag<float>()));
  return g.dh == 1 && (g.kh + g.sh - 1) / g.sh <= 7 && g.ow * 4 >= (g.ow + pair - 1) / pair * pair * 3;
}

void filter_tiles(const DepthwisePlan& p, const float* weights, const float* copy, float bias, int64_t rows,
                  float* to) {
  const PlaneGrid& g = p.grid;
  const int64_t to_row = p.tile_row();
  for (int64_t r = 0; r < rows; r += 4) {
    for (int64_t phase = 0; phase < std::min(g.sh, g.kh); ++phase) {
      const int64_t taps = (g.kh - phase + g.sh - 1) / g.sh;
      kFilterTiles[taps](g, p.offsets.data() + phase * g.kw, weights + phase * g.kw, copy + r * g.row,
                         phase == 0, bias, to + r * to_row, to_row);
    }
  }
}

// Blocks [begin, end), counted over output planes. The buffer holds zeros when this is first called with it.
void DepthwiseBlocks(const DepthwisePlan& p, const float* x, const float* weights, const float* biases,
                     int64_t channels, int64_t multiplier, int64_t begin, int64_t end, float* y,
                     float* buffer) {
  const PlaneGrid& g = p.grid;
  float *copy = buffer, *result = copy + p.copy_elements();
  const bool tiles = tiled(g);
  const int64_t blocks = g.blocks(), result_row = tiles ? p.tile_row() : g.row;
  int64_t plane = begin / blocks, first = begin % blocks * g.block_rows, m = plane % channels;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t rows = std::min(g.block_rows, g.oh - first);
    const int64_t source = multiplier == 1 ? plane : plane / multiplier;
    fill_copy(g, x + source * g.ih * g.iw, first, rows, 0.0f, copy);
    const float *filter = weights + m * g.kh * g.kw, bias = biases ? biases[m] : 0.0f;
    if (tiles)
      filter_tiles(p, filter, copy, bias, rows, result);
    else
      filter_flat(p.offsets.data(), filter, p.offsets.size(), copy, bias, g.length(rows), result);
    float* to = y + (plane * g.oh + first) * g.ow;
    for (int64_t r = 0; r < rows; ++r) copy_row(result + r * result_row, g.ow, to + r * g.ow);
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
  const int64_t channels = s.groups * s.out_channels, tasks = s.batch * channels * grid->blocks(),
                multiplier = s.out_channels;
  const double ns = 0.05 * static_cast<double>(grid->block_rows * grid->row *
                                               (grid->kh * grid->kw + 4 * grid->sh * grid->sw));
  return [p = DepthwisePlan(*grid), channels, tasks, multiplier, ns](RunContext& run) {
    const float *x = run.in<float>(0), *weights = run.in<float>(1), *bias = run.in<float>(2);
    float* y = run.out<float>(0);
    parallel_for(tasks, grain_for(ns + 20), [&](int64_t begin, int64_t end) {
      std::vector<float> buffer(p.buffer_elements());
      HWY_DYNAMIC_DISPATCH(DepthwiseBlocks)
      (p, x, weights, bias, channels, multiplier, begin, end, y, buffer.data());
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
    ctx.expect(ctx.dims(2) == Dims{channels}, "dims of input 'bias'", to_string(Dims{channels}),
               to_string(ctx.dims(2)));
  const Dims state = {batch, channels, k - 1};
  if (ctx.has_input(3))
    ctx.expect(ctx.dims(3) == state, "dims of input 'past_state'", to_string(state), to_string(ctx.dims(3)));
  for (size_t i = 1; i < ctx.input_count(); ++i)
    ctx.expect(!ctx.has_input(i) || ctx.dtype(i) == dtype, "dtype of input " + std::to_string(i),
               dtype_name(dtype), ctx.has_input(i) ? dtype_name(ctx.dtype(i)) : "");
  if (is_narrow_float(dtype)) return widened(ctx, dtype, prepare_causal);
  ctx.expect(dtype == DType::Float32, "dtype of input 'input'", "float, float16 or bfloat16",
             dtype_name(dtype));
  ctx.output(0, dtype, ctx.dims(0));
  ctx.output(1, dtype, state);
  // One row a channel: the past state and the input, one after the other, without further padding.
  PlaneGrid grid;
  grid.iw = grid.row = grid.sub = checked_add(length, k - 1, "padded input");
  grid.inside = grid.whole = grid.some = {0, grid.iw};
  grid.ow = length, grid.kw = k, grid.block_rows = 1;
  const simd::UnaryRow silu = activation == "none" ? nullptr : simd::row(simd::Unary::Swish);
  return [=, p = DepthwisePlan(grid)](RunContext& run) {
    const float *x = run.in<float>(0), *weights = run.in<float>(1), *bias = run.in<float>(2),
                *past = run.in<float>(3);
    float *y = run.out<float>(0), *present = run.out<float>(1);
    parallel_for(batch * channels, grain_for(0.2 * static_cast<double>(length * k + 20)),
                 [&](int64_t begin, int64_t end) {
                   std::vector<float> row(static_cast<size_t>(grid.iw)), buffer(p.buffer_elements());
                   for (int64_t i = begin; i < end; ++i) {
                     for (int64_t j = 0; j < k - 1; ++j)
                       row[static_cast<size_t>(j)] = past ? past[i * (k - 1) + j] : 0.0f;
                     std::copy(x + i * length, x + (i + 1) * length, row.begin() + (k - 1));
                     const int64_t c = i % channels;
                     if (y && length > 0) {
                       HWY_DYNAMIC_DISPATCH(DepthwiseBlocks)
                       (p, row.data(), weights + c * k, bias ? bias + c : nullptr, 1, 1, 0, 1, y + i * length,
                        buffer.data());
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
