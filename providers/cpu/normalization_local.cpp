// LpNormalization and LRN of f32.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/normalization_local.cpp"
#include <hwy/foreach_target.h>  // compiles what follows once for each instruction set
#include <hwy/highway.h>

#include <cmath>

#include "providers/cpu/normalization.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/rows-inl.h"
#include "providers/cpu/support/widen.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// y = x / norm, or 0 where the norm is 0.
template <class V>
HWY_INLINE V quotient(V x, V norm) {
  const hn::DFromV<V> d;
  return hn::IfThenElse(hn::Eq(norm, hn::Zero(d)), hn::Zero(d), hn::Div(x, norm));
}

void LpRow(const float* x, int64_t n, int64_t p, float* y) {
  double norm = 0;
  if (p == 1)
    norm = sum_of(x, n, [](auto, auto v) HWY_ATTR { return hn::Abs(v); });
  else
    norm = std::sqrt(sum_of(x, n, [](auto, auto v) HWY_ATTR { return hn::Mul(v, v); }));
  const float divisor = static_cast<float>(norm);
  map_row(x, n, y, [divisor](auto d, auto v, int64_t) HWY_ATTR { return quotient(v, hn::Set(d, divisor)); });
}

// Columns [begin, end) of x seen as [n, inner], each normalized by itself.
template <class D>
HWY_INLINE void lp_columns(D d, const float* x, int64_t n, int64_t inner, int64_t p, float* y) {
  auto a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0;
  const auto term = [p](auto v) HWY_ATTR { return p == 1 ? hn::Abs(v) : hn::Mul(v, v); };
  int64_t j = 0;
  for (; j + 4 <= n; j += 4) {
    a0 = hn::Add(a0, term(hn::LoadU(d, x + j * inner)));
    a1 = hn::Add(a1, term(hn::LoadU(d, x + (j + 1) * inner)));
    a2 = hn::Add(a2, term(hn::LoadU(d, x + (j + 2) * inner)));
    a3 = hn::Add(a3, term(hn::LoadU(d, x + (j + 3) * inner)));
  }
  for (; j < n; ++j) a0 = hn::Add(a0, term(hn::LoadU(d, x + j * inner)));
  auto norm = hn::Add(hn::Add(a0, a1), hn::Add(a2, a3));
  if (p == 2) norm = hn::Sqrt(norm);
  for (j = 0; j < n; ++j) hn::StoreU(quotient(hn::LoadU(d, x + j * inner), norm), d, y + j * inner);
}

void LpColumns(const float* x, int64_t n, int64_t inner, int64_t p, int64_t begin, int64_t end, float* y) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = begin;
  for (; i + lanes <= end; i += lanes) lp_columns(d, x + i, n, inner, p, y + i);
  const hn::CappedTag<float, 1> one;
  for (; i < end; ++i) lp_columns(one, x + i, n, inner, p, y + i);
}

// y = x * (bias + scale * s)^-beta over one channel, where s is the sum of squares over `channels` of them
// from `first` on.
template <class D>
HWY_INLINE auto local_factor(D d, const LocalResponse& r, const float* first, int64_t channels) {
  auto sum = hn::Zero(d);
  for (int64_t k = 0; k < channels; ++k) {
    const auto v = hn::LoadU(d, first + k * r.inner);
    sum = hn::MulAdd(v, v, sum);
  }
  return hn::MulAdd(hn::Set(d, r.scale), sum, hn::Set(d, r.bias));
}

void LocalResponseChannel(const LocalResponse& r, const float* x, const float* first, int64_t channels,
                          float* y) {
  if (r.beta == 0.75f) {
    map_row(x, r.inner, y, [&](auto d, auto v, int64_t i) HWY_ATTR {
      const auto root = hn::Sqrt(local_factor(d, r, first + i, channels));
      return hn::Div(v, hn::Mul(root, hn::Sqrt(root)));
    });
  } else {
    for (int64_t i = 0; i < r.inner; ++i) {
      const float factor = hn::GetLane(local_factor(hn::CappedTag<float, 1>(), r, first + i, channels));
      y[i] = x[i] / std::pow(factor, r.beta);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sardonyx::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {

namespace {

HWY_EXPORT(LpRow);
HWY_EXPORT(LpColumns);
HWY_EXPORT(LocalResponseChannel);

Prepared prepare_lp(PrepareContext& ctx) {
  const LpNormalization s = lp_normalization(ctx);
  if (is_narrow_float(ctx.dtype(0))) return widened(ctx, ctx.dtype(0), prepare_lp);
  if (ctx.dtype(0) != DType::Float32) return decline("only f32, f16 and bf16");
  ctx.output(0, DType::Float32, ctx.dims(0));
  ctx.may_share(0, 0);
  return [s](RunContext& run) {
    const float* x = run.in<float>(0);
    float* y = run.out<float>(0);
    const double ns = 10 + 0.2 * static_cast<double>(s.n);
    if (s.inner == 1) {
      parallel_for(s.outer, grain_for(ns), [&](int64_t begin, int64_t end) {
        for (int64_t o = begin; o < end; ++o) HWY_DYNAMIC_DISPATCH(LpRow)(x + o * s.n, s.n, s.p, y + o * s.n);
      });
      return;
    }
    constexpr int64_t kColumns = 64;
    const int64_t blocks = (s.inner + kColumns - 1) / kColumns, plane = s.n * s.inner;
    parallel_for(s.outer * blocks, grain_for(ns * kColumns), [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const int64_t first = b % blocks * kColumns;
        HWY_DYNAMIC_DISPATCH(LpColumns)
        (x + b / blocks * plane, s.n, s.inner, s.p, first, std::min(s.inner, first + kColumns),
         y + b / blocks * plane);
      }
    });
  };
}

Prepared prepare_local_response(PrepareContext& ctx) {
  const LocalResponse s = local_response(ctx);
  if (is_narrow_float(ctx.dtype(0))) return widened(ctx, ctx.dtype(0), prepare_local_response);
  if (ctx.dtype(0) != DType::Float32) return decline("only f32, f16 and bf16");
  ctx.output(0, DType::Float32, ctx.dims(0));
  return [s](RunContext& run) {
    const float* x = run.in<float>(0);
    float* y = run.out<float>(0);
    const double ns = 5 + 0.2 * static_cast<double>(s.inner) *
                              static_cast<double>(s.before + s.after + (s.beta == 0.75f ? 2 : 40));
    parallel_for(s.outer * s.channels, grain_for(ns), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t c = i % s.channels, low = std::max<int64_t>(0, c - s.before),
                      high = std::min(s.channels - 1, c + s.after);
        HWY_DYNAMIC_DISPATCH(LocalResponseChannel)
        (s, x + i * s.inner, x + (i - c + low) * s.inner, high - low + 1, y + i * s.inner);
      }
    });
  };
}

}  // namespace

void register_normalization_local(KernelRegistry& registry) {
  registry.add("LpNormalization", "simd", kFirst, prepare_lp);
  registry.add("LRN", "simd", kFirst, prepare_local_response);
}

}  // namespace sardonyx::cpu
#endif
