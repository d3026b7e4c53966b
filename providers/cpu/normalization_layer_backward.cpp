// LayerNormalizationBackward, that of RMSNormalization too: a vector loop over the rows of f32, and a plain
// one in f64 for everything else. The statistics of a row are taken again: it is in the first cache by then.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/normalization_layer_backward.cpp"
#include <hwy/foreach_target.h>  // compiles what follows once for each instruction set
#include <hwy/highway.h>

#include <cmath>
#include <vector>

#include "ops/registry/operator.h"
#include "providers/cpu/normalization.h"
#include "providers/cpu/support/packed.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/rows-inl.h"
#include "providers/cpu/support/strided_loop.h"
#include "providers/cpu/support/widen.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// One row: dx, and what it adds to the sums of dy * x^ and dy, where x^ is x normalized. dx may be dy.
void LayerRow(const float* x, const float* dy, const float* scale, int64_t n, bool centred, double epsilon,
              float* dx, float* to_scale, float* to_bias) {
  const double count = static_cast<double>(n);
  const float mean =
      centred ? static_cast<float>(sum_of(x, n, [](auto, auto v) HWY_ATTR { return v; }) / count) : 0.0f;
  const double variance = sum_of(x, n, [mean](auto d, auto v) HWY_ATTR {
    const auto difference = hn::Sub(v, hn::Set(d, mean));
    return hn::Mul(difference, difference);
  });
  const float inverse = static_cast<float>(1 / std::sqrt(variance / count + epsilon));
  // The sums of g = dy * scale and of g * x^.
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> one;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), block = 256 * lanes;
  double sum = 0, product = 0;
  int64_t i = 0;
  const auto step = [&](auto tag, auto& a, auto& b) HWY_ATTR {
    const auto normal = hn::Mul(hn::Sub(hn::LoadU(tag, x + i), hn::Set(tag, mean)), hn::Set(tag, inverse));
    const auto from = hn::LoadU(tag, dy + i);
    const auto g = hn::Mul(from, hn::LoadU(tag, scale + i));
    a = hn::Add(a, g);
    b = hn::MulAdd(g, normal, b);
    hn::StoreU(hn::MulAdd(from, normal, hn::LoadU(tag, to_scale + i)), tag, to_scale + i);
    hn::StoreU(hn::Add(from, hn::LoadU(tag, to_bias + i)), tag, to_bias + i);
  };
  while (n - i >= lanes) {
    const int64_t end = i + std::min(block, n - i);
    auto a0 = hn::Zero(d), a1 = a0, b0 = a0, b1 = a0;
    while (i + 2 * lanes <= end) {
      step(d, a0, b0), i += lanes;
      step(d, a1, b1), i += lanes;
    }
    for (; i + lanes <= end; i += lanes) step(d, a0, b0);
    sum += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, hn::Add(a0, a1))));
    product += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, hn::Add(b0, b1))));
  }
  for (; i < n; ++i) {
    auto a = hn::Zero(one), b = a;
    step(one, a, b);
    sum += static_cast<double>(hn::GetLane(a));
    product += static_cast<double>(hn::GetLane(b));
  }
  if (!dx) return;
  // (g - mean(g) - x^ mean(g x^)) / deviation
  const float shift = centred ? static_cast<float>(sum / count) * inverse : 0.0f;
  const float slope = static_cast<float>(product / count) * inverse * inverse;
  map_row(dy, n, dx, [=](auto tag, auto v, int64_t at) HWY_ATTR {
    const auto g = hn::Mul(v, hn::Mul(hn::LoadU(tag, scale + at), hn::Set(tag, inverse)));
    const auto distance = hn::Sub(hn::LoadU(tag, x + at), hn::Set(tag, mean));
    return hn::Sub(hn::NegMulAdd(distance, hn::Set(tag, slope), g), hn::Set(tag, shift));
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace sardonyx::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {

namespace {

HWY_EXPORT(LayerRow);

RowNormalization shapes(PrepareContext& ctx) {
  const bool centred = ctx.attributes<LayerNormalizationBackwardAttributes>().centred != 0;
  RowNormalization s = row_normalization(ctx, centred);
  ctx.expect(ctx.dims(3) == s.dims, "dims of input 'dY'", to_string(s.dims), to_string(ctx.dims(3)));
  ctx.expect(!ctx.wants(2) || ctx.has_input(2), "output 'dB'", "none without input 'B'");
  for (size_t i = 0; i < 4; ++i)
    if (ctx.has_input(i))
      ctx.expect(ctx.dtype(i) == ctx.dtype(0), "dtype of input " + std::to_string(i),
                 dtype_name(ctx.dtype(0)), dtype_name(ctx.dtype(i)));
  if (ctx.wants(0)) ctx.output(0, ctx.dtype(0), s.dims);
  ctx.output(1, ctx.dtype(0), ctx.dims(1));
  if (ctx.has_input(2)) ctx.output(2, ctx.dtype(0), ctx.dims(2));
  return s;
}

Prepared prepare_simd(PrepareContext& ctx) {
  if (ctx.dtype(0) != DType::Float32) return decline("only float");
  const RowNormalization s = shapes(ctx);
  if (!s.by_row(s.scale_strides) || (s.has_bias && !s.by_row(s.bias_strides)))
    return decline("scale or bias differ between rows");
  if (ctx.wants(0)) ctx.may_share(0, 3);
  // Each part of the rows has sums of its own, in f32 over some rows and in f64 over all.
  constexpr int64_t kRows = 64;
  const int64_t parts = std::clamp<int64_t>(s.rows / 16, 1, std::max(ctx.threads(), 1)), n = s.n;
  ScratchPlan scratch(ctx);
  const auto vectors = [&](size_t element) {
    const int64_t count = checked_mul(checked_mul(parts, n, "sums"), 2, "sums");
    return static_cast<size_t>(checked_mul(count, static_cast<int64_t>(element), "sums"));
  };
  const size_t floats_at = scratch.add(vectors(sizeof(float))),
               sums_at = scratch.add(vectors(sizeof(double)));
  return [=, rows = s.rows, centred = s.centred, epsilon = s.epsilon](RunContext& run) {
    const float *x = run.in<float>(0), *scale = run.in<float>(1), *dy = run.in<float>(3);
    float* dx = run.wants(0) ? run.out<float>(0) : nullptr;
    auto* floats = reinterpret_cast<float*>(run.scratch() + floats_at);
    auto* sums = reinterpret_cast<double*>(run.scratch() + sums_at);
    parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        float* block = floats + part * 2 * n;
        double* total = sums + part * 2 * n;
        std::fill_n(total, 2 * n, 0.0);
        const int64_t last = rows * (part + 1) / parts;
        for (int64_t first = rows * part / parts; first < last; first += kRows) {
          std::fill_n(block, 2 * n, 0.0f);
          for (int64_t r = first; r < std::min(last, first + kRows); ++r) HWY_DYNAMIC_DISPATCH(LayerRow)
          (x + r * n, dy + r * n, scale, n, centred, epsilon, dx ? dx + r * n : nullptr, block, block + n);
          for (int64_t i = 0; i < 2 * n; ++i) total[i] += static_cast<double>(block[i]);
        }
      }
    });
    for (size_t k = 0; k < 2; ++k) {
      if (!run.wants(1 + k)) continue;
      float* to = run.out<float>(1 + k);
      for (int64_t i = 0; i < n; ++i) {
        double sum = 0;
        for (int64_t part = 0; part < parts; ++part)
          sum += sums[(part * 2 + static_cast<int64_t>(k)) * n + i];
        to[i] = static_cast<float>(sum);
      }
    }
  };
}

Prepared prepare_ref(PrepareContext& ctx) {
  const RowNormalization s = shapes(ctx);
  return [s](RunContext& run) {
    using Doubles = std::vector<double>;
    const Doubles x = run.input(0).to_doubles(), scale = run.input(1).to_doubles(),
                  dy = run.input(3).to_doubles();
    Doubles dx(x.size()), to_scale(scale.size(), 0),
        to_bias(s.has_bias ? static_cast<size_t>(run.input(2).size()) : 0, 0);
    const StridedLoop at{s.dims, {s.scale_strides, s.bias_strides}};
    const double count = static_cast<double>(s.n);
    for (int64_t r = 0; r < s.rows; ++r) {
      const auto each = [&](auto f) {
        for (int64_t i = r * s.n; i < (r + 1) * s.n; ++i) f(static_cast<size_t>(i), i);
      };
      double mean = 0, variance = 0, sum = 0, product = 0;
      each([&](size_t i, int64_t) { mean += s.centred ? x[i] / count : 0; });
      each([&](size_t i, int64_t) { variance += (x[i] - mean) * (x[i] - mean) / count; });
      const double inverse = 1 / std::sqrt(variance + s.epsilon);
      each([&](size_t i, int64_t place) {
        const size_t k = static_cast<size_t>(at.offset(0, place));
        const double normal = (x[i] - mean) * inverse;
        dx[i] = dy[i] * scale[k];
        sum += dx[i];
        product += dx[i] * normal;
        to_scale[k] += dy[i] * normal;
        if (s.has_bias) to_bias[static_cast<size_t>(at.offset(1, place))] += dy[i];
      });
      each([&](size_t i, int64_t) {
        const double shared = (s.centred ? sum : 0) + (x[i] - mean) * inverse * product;
        dx[i] = (dx[i] - shared / count) * inverse;
      });
    }
    const auto store = [&](size_t i, const Doubles& values) {
      if (!run.wants(i)) return;
      Tensor& to = run.output(i);
      convert_floats(DType::Float64, values.data(), to.dtype(), to.mutable_data(), to.size());
    };
    store(0, dx);
    store(1, to_scale);
    if (s.has_bias) store(2, to_bias);
  };
}

}  // namespace

void register_normalization_layer_backward(KernelRegistry& r) {
  r.add("LayerNormalizationBackward", "simd", kFirst, prepare_simd, kOwnDomain);
  r.ref("LayerNormalizationBackward", prepare_ref, kOwnDomain);
}

}  // namespace sardonyx::cpu
#endif
