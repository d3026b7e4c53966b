// SoftmaxBackward and LogSoftmaxBackward: vector loops on f32, plain ones on f64, 16-bit floats in f32.
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS HWY_SSSE3
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/softmax_backward.cpp"
#include <hwy/foreach_target.h>  // compiles what follows once for each instruction set
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "graph/shape.h"
#include "ops/registry/operator.h"
#include "ops/softmax.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/simd_math-inl.h"
#include "providers/cpu/support/widen.h"
#include "providers/kernel.h"

#ifndef SARDONYX_SOFTMAX_TILE
#define SARDONYX_SOFTMAX_TILE
namespace sardonyx::cpu::simd {
inline constexpr int64_t kSoftmaxTile = 256;  // columns that are taken together
}
#endif

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::simd::HWY_NAMESPACE {

// What is summed along the axis, and what becomes of it: (dy - sum(dy y)) y, or dy - sum(dy) exp(y).
HWY_INLINE V term(bool log, V dy, V y) { return log ? dy : hn::Mul(dy, y); }
HWY_INLINE V result(bool log, V dy, V y, V sum) {
  return log ? hn::NegMulAdd(exp(y), sum, dy) : hn::Mul(hn::Sub(dy, sum), y);
}

// The first n lanes at p; zeros in the others.
HWY_INLINE V load(const float* p, int64_t n) {
  const D d;
  if (n >= static_cast<int64_t>(hn::Lanes(d))) return hn::LoadU(d, p);
  HWY_ALIGN float buffer[hn::MaxLanes(d)] = {};
  std::copy_n(p, n, buffer);
  return hn::Load(d, buffer);
}
HWY_INLINE void store(V v, float* p, int64_t n) {
  const D d;
  if (n >= static_cast<int64_t>(hn::Lanes(d))) return hn::StoreU(v, d, p);
  HWY_ALIGN float buffer[hn::MaxLanes(d)];
  hn::Store(v, d, buffer);
  std::copy_n(buffer, n, p);
}

// At most this many terms are added in one lane.
constexpr int64_t kTerms = 256;

// Rows of n neighbours. dx may be dy or y.
void SoftmaxBackwardRows(const float* dy, const float* y, float* dx, int64_t rows, int64_t n, bool log) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < rows; ++r, dy += n, y += n, dx += n) {
    double total = 0;
    for (int64_t block = 0; block < n; block += kTerms * lanes) {
      const int64_t end = std::min(n, block + kTerms * lanes);
      V a = hn::Zero(d), b = a, c = a, e = a;
      int64_t i = block;
      for (; i + 4 * lanes <= end; i += 4 * lanes) {
        a = hn::Add(a, term(log, hn::LoadU(d, dy + i), hn::LoadU(d, y + i)));
        b = hn::Add(b, term(log, hn::LoadU(d, dy + i + lanes), hn::LoadU(d, y + i + lanes)));
        c = hn::Add(c, term(log, hn::LoadU(d, dy + i + 2 * lanes), hn::LoadU(d, y + i + 2 * lanes)));
        e = hn::Add(e, term(log, hn::LoadU(d, dy + i + 3 * lanes), hn::LoadU(d, y + i + 3 * lanes)));
      }
      for (; i < end; i += lanes) a = hn::Add(a, term(log, load(dy + i, end - i), load(y + i, end - i)));
      total += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a, b), hn::Add(c, e)))));
    }
    const V sum = hn::Set(d, static_cast<float>(total));
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
      hn::StoreU(result(log, hn::LoadU(d, dy + i), hn::LoadU(d, y + i), sum), d, dx + i);
    if (i < n) store(result(log, load(dy + i, n - i), load(y + i, n - i), sum), dx + i, n - i);
  }
}

// `columns` columns, at most kSoftmaxTile, of n elements that lie `stride` apart.
void SoftmaxBackwardColumns(const float* dy, const float* y, float* dx, int64_t n, int64_t stride,
                            int64_t columns, bool log) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN float sums[kSoftmaxTile + hn::MaxLanes(d)] = {}, parts[kSoftmaxTile + hn::MaxLanes(d)];
  for (int64_t block = 0; block < n; block += kTerms) {
    std::fill_n(parts, columns + lanes, 0.0f);
    for (int64_t i = block; i < std::min(n, block + kTerms); ++i) {
      const float *from_dy = dy + i * stride, *from_y = y + i * stride;
      for (int64_t c = 0; c < columns; c += lanes) {
        const V v = term(log, load(from_dy + c, columns - c), load(from_y + c, columns - c));
        hn::StoreU(hn::Add(hn::LoadU(d, parts + c), v), d, parts + c);
      }
    }
    for (int64_t c = 0; c < columns; c += lanes)
      hn::StoreU(hn::Add(hn::LoadU(d, sums + c), hn::LoadU(d, parts + c)), d, sums + c);
  }
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < columns; c += lanes) {
      const int64_t at = i * stride + c, some = columns - c;
      store(result(log, load(dy + at, some), load(y + at, some), hn::LoadU(d, sums + c)), dx + at, some);
    }
}

}  // namespace sardonyx::cpu::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {

namespace simd {
namespace {
HWY_EXPORT(SoftmaxBackwardRows);
HWY_EXPORT(SoftmaxBackwardColumns);
}  // namespace
}  // namespace simd

namespace {

// The tensors seen as [outer, n, inner] with the axis in the middle.
struct View {
  int64_t outer = 1, n = 1, inner = 1;
};

View prepare_view(PrepareContext& ctx) {
  const Dims& dims = ctx.dims(1);
  ctx.expect(ctx.dims(0) == dims, "dims of input 'dY'", to_string(dims), to_string(ctx.dims(0)));
  ctx.expect(ctx.dtype(0) == ctx.dtype(1), "dtype of input 'dY'", dtype_name(ctx.dtype(1)),
             dtype_name(ctx.dtype(0)));
  const int64_t axis = ctx.attributes<SoftmaxAttributes>().axis;
  View view;
  if (!dims.empty() || (axis != -1 && axis != 0)) {
    const size_t at = static_cast<size_t>(normalize_axis(axis, ctx.rank(1)));
    for (size_t i = 0; i < dims.size(); ++i) (i < at ? view.outer : i == at ? view.n : view.inner) *= dims[i];
  }
  ctx.output(0, ctx.dtype(1), dims);
  ctx.may_share(0, 0);
  return view;
}

template <bool kLog>
Prepared prepare_simd(PrepareContext& ctx) {
  if (is_float(ctx.dtype(1)) && is_narrow_float(ctx.dtype(1)))
    return widened(ctx, ctx.dtype(1), prepare_simd<kLog>);
  if (ctx.dtype(1) != DType::Float32) return decline("only float, float16 and bfloat16");
  const View v = prepare_view(ctx);
  const int64_t width = std::min(v.inner, simd::kSoftmaxTile),
                tiles = width == 0 ? 0 : (v.inner + width - 1) / width;
  const double ns = 0.4 * static_cast<double>(v.n * width) + 10;
  return [=](RunContext& run) {
    const float *dy = run.in<float>(0), *y = run.in<float>(1);
    float* dx = run.out<float>(0);
    if (v.n == 0) return;
    parallel_for(v.outer * tiles, grain_for(ns), [&](int64_t begin, int64_t end) {
      using namespace simd;
      if (v.inner == 1) {
        const int64_t at = begin * v.n;
        HWY_DYNAMIC_DISPATCH(SoftmaxBackwardRows)(dy + at, y + at, dx + at, end - begin, v.n, kLog);
        return;
      }
      for (int64_t item = begin; item < end; ++item) {
        const int64_t column = item % tiles * width, at = item / tiles * v.n * v.inner + column;
        HWY_DYNAMIC_DISPATCH(SoftmaxBackwardColumns)
        (dy + at, y + at, dx + at, v.n, v.inner, std::min(width, v.inner - column), kLog);
      }
    });
  };
}

template <bool kLog>
Prepared prepare_ref(PrepareContext& ctx) {
  if (ctx.dtype(1) != DType::Float64) return prepare_simd<kLog>(ctx);
  const View v = prepare_view(ctx);
  return [v](RunContext& run) {
    const double *dy = run.in<double>(0), *y = run.in<double>(1);
    double* dx = run.out<double>(0);
    for (int64_t line = 0; line < v.outer * v.inner; ++line) {
      const int64_t first = line / v.inner * v.n * v.inner + line % v.inner;
      const int64_t end = first + v.n * v.inner;
      double sum = 0;
      for (int64_t i = first; i < end; i += v.inner) sum += kLog ? dy[i] : dy[i] * y[i];
      for (int64_t i = first; i < end; i += v.inner)
        dx[i] = kLog ? dy[i] - sum * std::exp(y[i]) : (dy[i] - sum) * y[i];
    }
  };
}

}  // namespace

void register_softmax_backward(KernelRegistry& r) {
  r.add("SoftmaxBackward", "simd", kFirst, prepare_simd<false>, kOwnDomain);
  r.ref("SoftmaxBackward", prepare_ref<false>, kOwnDomain);
  r.add("LogSoftmaxBackward", "simd", kFirst, prepare_simd<true>, kOwnDomain);
  r.ref("LogSoftmaxBackward", prepare_ref<true>, kOwnDomain);
}

}  // namespace sardonyx::cpu
#endif
