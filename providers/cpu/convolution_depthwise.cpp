// f32 convolution with one input channel a group, in one or two spatial dimensions, on ONNX's own layout; and
// CausalConvWithState, which is one.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/convolution_depthwise.cpp"
#include <hwy/foreach_target.h>  // compiles what follows once for each instruction set
#include <hwy/highway.h>

#include <cstring>
#include <vector>

#include "providers/cpu/convolution.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/phases-inl.h"
#include "providers/cpu/support/simd.h"
#include "providers/cpu/support/widen.h"

#ifndef SARDONYX_DEPTHWISE_PLAN
#define SARDONYX_DEPTHWISE_PLAN
namespace sardonyx::cpu {

// Rows of the input are copied with their padding and split by column modulo the stride, so that the elements
// that one tap meets along an output row are neighbours.
struct DepthwisePlan {
  int64_t ih, iw, oh, ow, kh, kw, sh, sw, dh, dw, ph, pw;
  int64_t phase = 0;       // floats of one phase of one row, rounded up so that whole vectors may be read
  int64_t block_rows = 0;  // output rows that one task computes
  int64_t input_rows(int64_t rows) const { return (rows - 1) * sh + (kh - 1) * dh + 1; }
  // One row before it is split, and the rows of a block.
  size_t buffer_floats() const { return static_cast<size_t>((input_rows(block_rows) + 1) * sw * phase); }
};

}  // namespace sardonyx::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;

// One input row into its phases: phases[p * phase + j] = row[j * sw + p - pw], 0 outside. `line` holds sw * phase floats.
void split_row(const DepthwisePlan& p, const float* row, float* line, float* phases) {
  float* padded = p.sw == 1 ? phases : line;
  const Range r = valid_range(p.sw * p.phase, 1, -p.pw, p.iw);
  std::fill(padded, padded + r.begin, 0.0f);
  std::copy(row + r.begin - p.pw, row + r.end - p.pw, padded + r.begin);
  std::fill(padded + r.end, padded + p.sw * p.phase, 0.0f);
  if (p.sw > 1) split_phases(line, p.sw, p.phase, phases);
}

template <int kVectors>
HWY_INLINE void filter_columns(const DepthwisePlan& p, const float* rows, Range taps, const float* weights, float bias,
                               float* out) {
  const D d;
  const size_t lanes = hn::Lanes(d);
  auto a0 = hn::Set(d, bias), a1 = a0, a2 = a0, a3 = a0;
  const float* row = rows;
  for (int64_t y = taps.begin; y < taps.end; ++y, row += p.dh * p.sw * p.phase) {
    for (int64_t x = 0; x < p.kw; ++x) {
      const auto weight = hn::Set(d, weights[y * p.kw + x]);
      const int64_t column = x * p.dw;
      const float* in = row + (column % p.sw) * p.phase + column / p.sw;
      a0 = hn::MulAdd(weight, hn::LoadU(d, in), a0);
      if (kVectors > 1) a1 = hn::MulAdd(weight, hn::LoadU(d, in + lanes), a1);
      if (kVectors > 2) a2 = hn::MulAdd(weight, hn::LoadU(d, in + 2 * lanes), a2);
      if (kVectors > 3) a3 = hn::MulAdd(weight, hn::LoadU(d, in + 3 * lanes), a3);
    }
  }
  hn::StoreU(a0, d, out);
  if (kVectors > 1) hn::StoreU(a1, d, out + lanes);
  if (kVectors > 2) hn::StoreU(a2, d, out + 2 * lanes);
  if (kVectors > 3) hn::StoreU(a3, d, out + 3 * lanes);
}

// Output rows [begin, end) of one plane.
void DepthwiseRows(const DepthwisePlan& p, const float* x, const float* weights, float bias, float* y, int64_t begin,
                   int64_t end, float* buffer) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t first = begin * p.sh - p.ph, row_floats = p.sw * p.phase;
  float* rows_of_block = buffer + row_floats;
  for (int64_t i = 0; i < p.input_rows(end - begin); ++i)
    if (first + i >= 0 && first + i < p.ih) split_row(p, x + (first + i) * p.iw, buffer, rows_of_block + i * row_floats);
  HWY_ALIGN float tail[4 * HWY_MAX_BYTES / sizeof(float)];
  for (int64_t o = begin; o < end; ++o) {
    const int64_t top = o * p.sh - p.ph;
    const Range taps = valid_range(p.kh, p.dh, top, p.ih);
    const float* rows = rows_of_block + (top + taps.begin * p.dh - first) * row_floats;
    float* out = y + o * p.ow;
    int64_t column = 0;
    for (; column + 4 * lanes <= p.ow; column += 4 * lanes)
      filter_columns<4>(p, rows + column, taps, weights, bias, out + column);
    if (column == p.ow) continue;
    const int64_t left = p.ow - column;
    if (left > 3 * lanes) filter_columns<4>(p, rows + column, taps, weights, bias, tail);
    else if (left > 2 * lanes) filter_columns<3>(p, rows + column, taps, weights, bias, tail);
    else if (left > lanes) filter_columns<2>(p, rows + column, taps, weights, bias, tail);
    else filter_columns<1>(p, rows + column, taps, weights, bias, tail);
    std::memcpy(out + column, tail, static_cast<size_t>(left) * sizeof(float));
  }
}

int64_t FloatLanes() { return static_cast<int64_t>(hn::Lanes(D())); }

}  // namespace HWY_NAMESPACE
}  // namespace sardonyx::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {

namespace {

HWY_EXPORT(DepthwiseRows);
HWY_EXPORT(FloatLanes);

constexpr int64_t kBufferFloats = 32 * 1024;  // stays in the L2 cache

// False when padding or stride would make the copied rows far larger than the input.
bool complete_plan(DepthwisePlan& p) {
  const int64_t lanes = HWY_DYNAMIC_DISPATCH(FloatLanes)();
  if (p.sw > 64 || p.pw > p.iw + 64 || p.ow > 4 * p.iw + 64) return false;
  p.phase = (p.ow + 4 * lanes) / lanes * lanes + (p.kw - 1) * p.dw / p.sw;
  if (p.phase > 4 * p.iw + 1024 || p.sh > p.ih + p.kh || (p.kh - 1) * p.dh > 2 * p.ih + 64) return false;
  p.block_rows = std::max<int64_t>(1, std::min(p.oh, (kBufferFloats / (p.sw * p.phase) - (p.kh - 1) * p.dh - 1) / p.sh + 1));
  return true;
}

void depthwise(const DepthwisePlan& p, int64_t planes, int64_t channels, int64_t multiplier, const float* x,
               const float* weights, const float* bias, float* y) {
  const int64_t blocks = (p.oh + p.block_rows - 1) / p.block_rows;
  const auto rows = HWY_DYNAMIC_DISPATCH(DepthwiseRows);
  const double ns = 0.1 * static_cast<double>(p.block_rows * p.ow * (p.kh * p.kw + 4));
  parallel_for(planes * blocks, grain_for(ns), [&](int64_t begin, int64_t end) {
    std::vector<float> buffer(p.buffer_floats());
    for (int64_t task = begin; task < end; ++task) {
      const int64_t plane = task / blocks, block = task % blocks, m = plane % channels;
      rows(p, x + plane / multiplier * p.ih * p.iw, weights + m * p.kh * p.kw, bias ? bias[m] : 0.0f,
           y + plane * p.oh * p.ow, block * p.block_rows, std::min(p.oh, (block + 1) * p.block_rows), buffer.data());
    }
  });
}

Prepared prepare_depthwise(PrepareContext& ctx) {
  if (ctx.dtype(0) != DType::Float32) return decline("only f32");
  const ConvShape s = conv_shape(ctx);
  const Window& w = s.window;
  if (s.in_channels != 1 || s.groups == 1) return decline("more than one input channel a group");
  if (w.rank() > 2) return decline("more than two spatial dimensions");
  if (s.empty()) return decline("an empty tensor");
  const size_t last = w.rank() - 1;
  DepthwisePlan p{1, w.in[last], 1, w.out[last], 1, w.kernel[last], 1, w.stride[last], 1, w.dilation[last], 0, w.pad_begin[last]};
  if (w.rank() == 2) {
    p.ih = w.in[0], p.oh = w.out[0], p.kh = w.kernel[0], p.sh = w.stride[0], p.dh = w.dilation[0], p.ph = w.pad_begin[0];
  }
  if (!complete_plan(p)) return decline("padding or stride out of proportion to the input");
  ctx.output(0, DType::Float32, s.y_dims());
  const int64_t channels = s.groups * s.out_channels, planes = s.batch * channels, multiplier = s.out_channels;
  return [=](RunContext& run) {
    depthwise(p, planes, channels, multiplier, run.in<float>(0), run.in<float>(1), run.in<float>(2), run.out<float>(0));
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
  DepthwisePlan p{1, checked_add(length, k - 1, "padded input"), 1, length, 1, k, 1, 1, 1, 1, 0, 0};
  const int64_t lanes = HWY_DYNAMIC_DISPATCH(FloatLanes)();
  p.phase = (p.ow + 4 * lanes) / lanes * lanes + k - 1;
  p.block_rows = 1;
  const simd::UnaryRow silu = activation == "none" ? nullptr : simd::row(simd::Unary::Swish);
  return [=](RunContext& run) {
    const float *x = run.in<float>(0), *weights = run.in<float>(1), *bias = run.in<float>(2), *past = run.in<float>(3);
    float *y = run.out<float>(0), *present = run.out<float>(1);
    parallel_for(batch * channels, grain_for(0.2 * static_cast<double>(length * k + 20)), [&](int64_t begin, int64_t end) {
      std::vector<float> row(static_cast<size_t>(p.iw)), buffer(p.buffer_floats());
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t j = 0; j < k - 1; ++j) row[static_cast<size_t>(j)] = past ? past[i * (k - 1) + j] : 0.0f;
        std::copy(x + i * length, x + (i + 1) * length, row.begin() + (k - 1));
        const int64_t c = i % channels;
        if (y && length > 0) {
          HWY_DYNAMIC_DISPATCH(DepthwiseRows)(p, row.data(), weights + c * k, bias ? bias[c] : 0.0f, y + i * length, 0, 1, buffer.data());
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
