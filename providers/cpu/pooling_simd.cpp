// Poolings over rows: the rows of a window are reduced into one, and that one along itself.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/pooling_simd.cpp"
#include <hwy/foreach_target.h>  // compiles what follows once for each instruction set
#include <hwy/highway.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "providers/cpu/pooling.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/phases-inl.h"
#include "providers/cpu/support/widen.h"

#ifndef SARDONYX_POOL_PLAN
#define SARDONYX_POOL_PLAN
namespace sardonyx::cpu {

enum class PoolOp { Max, Sum, AbsoluteSum, SquareSum };

struct PoolPlan {
  PoolOp op = PoolOp::Max;
  bool divides = false, root = false;        // Average; Lp with p = 2
  Window window;
  int64_t phase = 0;                         // elements of one phase of the reduced row
  std::vector<double> column_count;          // Average: how many columns each output column covers
  std::vector<std::vector<double>> row_count;  // and of each outer dimension
  int64_t in_plane = 0, out_plane = 0, out_rows = 0;
  size_t buffer_elements() const { return static_cast<size_t>(2 * window.stride.back() * phase); }
};

}  // namespace sardonyx::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <PoolOp kOp, class V>
HWY_INLINE V combine(V acc, V x) {
  if constexpr (kOp == PoolOp::Max) {
    if constexpr (std::is_floating_point_v<hn::TFromV<V>>)
      return hn::IfThenElse(hn::Or(hn::Gt(x, acc), hn::IsNaN(x)), x, acc);  // a NaN on either side stays
    else
      return hn::Max(acc, x);
  } else {
    return hn::Add(acc, x);
  }
}

// What an element contributes to its window.
template <PoolOp kOp, class V>
HWY_INLINE V enter(V x) {
  if constexpr (kOp == PoolOp::AbsoluteSum) return hn::Abs(x);
  else if constexpr (kOp == PoolOp::SquareSum) return hn::Mul(x, x);
  else return x;
}

template <PoolOp kOp, typename T>
constexpr T identity() {
  if constexpr (kOp != PoolOp::Max) return T{};
  else if constexpr (std::is_floating_point_v<T>) return -std::numeric_limits<T>::infinity();
  else return std::numeric_limits<T>::min();
}

// to[i] = combination of the rows, which are `n` long.
template <PoolOp kOp, typename T>
void reduce_rows(const T* const* rows, int64_t count, int64_t n, T* HWY_RESTRICT to) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    auto acc = enter<kOp>(hn::LoadU(d, rows[0] + i));
    for (int64_t r = 1; r < count; ++r) acc = combine<kOp>(acc, enter<kOp>(hn::LoadU(d, rows[r] + i)));
    hn::StoreU(acc, d, to + i);
  }
  const hn::CappedTag<T, 1> one;
  for (; i < n; ++i) {
    auto acc = enter<kOp>(hn::LoadU(one, rows[0] + i));
    for (int64_t r = 1; r < count; ++r) acc = combine<kOp>(acc, enter<kOp>(hn::LoadU(one, rows[r] + i)));
    hn::StoreU(acc, one, to + i);
  }
}

// Output rows [begin, end), counted over planes and outer dimensions together.
template <PoolOp kOp, typename T>
void pool_rows(const PoolPlan& p, const T* x, T* y, int64_t begin, int64_t end, T* buffer) {
  const Window& w = p.window;
  const size_t last = w.rank() - 1;
  const int64_t stride = w.stride[last], in = w.in[last], out = w.out[last], lead = w.pad_begin[last];
  T *line = buffer, *phases = stride == 1 ? line : buffer + stride * p.phase;
  std::fill(line, line + stride * p.phase, identity<kOp, T>());
  const Range inside = valid_range(stride * p.phase, 1, -lead, in);
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  std::vector<const T*> rows;
  Dims position(last), tap(last);
  std::vector<Range> taps(last);
  for (int64_t row = begin; row < end; ++row) {
    const T* plane = x + row / p.out_rows * p.in_plane;
    T* to = y + row * out;
    int64_t rest = row % p.out_rows;
    bool any = true;
    double count = 1;
    for (size_t i = last; i-- > 0; rest /= w.out[i]) {
      position[i] = rest % w.out[i];
      taps[i] = valid_range(w.kernel[i], w.dilation[i], position[i] * w.stride[i] - w.pad_begin[i], w.in[i]);
      tap[i] = taps[i].begin;
      any = any && taps[i].size() > 0;
      if (p.divides) count *= p.row_count[i][static_cast<size_t>(position[i])];
    }
    rows.clear();
    while (any) {
      int64_t offset = 0;
      for (size_t i = 0; i < last; ++i) offset = offset * w.in[i] + position[i] * w.stride[i] + w.offset(i, tap[i]);
      rows.push_back(plane + offset * in + inside.begin - lead);
      size_t i = last;
      while (i-- > 0) {
        if (++tap[i] < taps[i].end) break;
        tap[i] = taps[i].begin;
      }
      if (i == static_cast<size_t>(-1)) break;
    }
    if (rows.empty()) std::fill(line + inside.begin, line + inside.end, identity<kOp, T>());
    else reduce_rows<kOp>(rows.data(), static_cast<int64_t>(rows.size()), inside.size(), line + inside.begin);
    if (stride > 1) split_phases(line, stride, p.phase, phases);
    for (int64_t o = 0; o < out; o += lanes) {
      auto acc = hn::Set(d, identity<kOp, T>());
      for (int64_t k = 0; k < w.kernel[last]; ++k) {
        const int64_t column = k * w.dilation[last];
        acc = combine<kOp>(acc, hn::LoadU(d, phases + column % stride * p.phase + column / stride + o));
      }
      if constexpr (std::is_floating_point_v<T>) {
        if (p.root) acc = hn::Sqrt(acc);
      }
      if (o + lanes <= out) {
        hn::StoreU(acc, d, to + o);
      } else {
        HWY_ALIGN T tail[HWY_MAX_BYTES / sizeof(T)];
        hn::Store(acc, d, tail);
        std::copy(tail, tail + (out - o), to + o);
      }
    }
    if (p.divides)
      for (int64_t o = 0; o < out; ++o) to[o] = static_cast<T>(to[o] / static_cast<T>(count * p.column_count[static_cast<size_t>(o)]));
  }
}

void PoolF32(const PoolPlan& p, const float* x, float* y, int64_t begin, int64_t end, float* buffer) {
  switch (p.op) {
    case PoolOp::Max: return pool_rows<PoolOp::Max>(p, x, y, begin, end, buffer);
    case PoolOp::Sum: return pool_rows<PoolOp::Sum>(p, x, y, begin, end, buffer);
    case PoolOp::AbsoluteSum: return pool_rows<PoolOp::AbsoluteSum>(p, x, y, begin, end, buffer);
    case PoolOp::SquareSum: return pool_rows<PoolOp::SquareSum>(p, x, y, begin, end, buffer);
  }
}
void PoolS8(const PoolPlan& p, const int8_t* x, int8_t* y, int64_t begin, int64_t end, int8_t* buffer) {
  pool_rows<PoolOp::Max>(p, x, y, begin, end, buffer);
}
void PoolU8(const PoolPlan& p, const uint8_t* x, uint8_t* y, int64_t begin, int64_t end, uint8_t* buffer) {
  pool_rows<PoolOp::Max>(p, x, y, begin, end, buffer);
}

// One value from n neighbouring ones; sums are taken in blocks, whose sums are added in f64.
template <PoolOp kOp>
float reduce_all(const float* x, int64_t n) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), block = 64 * lanes;
  double total = 0;
  float best = identity<kOp, float>();
  const hn::CappedTag<float, 1> one;
  for (int64_t b = 0; b < n; b += block) {
    const int64_t end = std::min(n, b + block);
    auto a0 = hn::Set(d, identity<kOp, float>()), a1 = a0, a2 = a0, a3 = a0;
    int64_t i = b;
    for (; i + 4 * lanes <= end; i += 4 * lanes) {
      a0 = combine<kOp>(a0, enter<kOp>(hn::LoadU(d, x + i)));
      a1 = combine<kOp>(a1, enter<kOp>(hn::LoadU(d, x + i + lanes)));
      a2 = combine<kOp>(a2, enter<kOp>(hn::LoadU(d, x + i + 2 * lanes)));
      a3 = combine<kOp>(a3, enter<kOp>(hn::LoadU(d, x + i + 3 * lanes)));
    }
    for (; i + lanes <= end; i += lanes) a0 = combine<kOp>(a0, enter<kOp>(hn::LoadU(d, x + i)));
    a0 = combine<kOp>(combine<kOp>(a0, a1), combine<kOp>(a2, a3));
    HWY_ALIGN float parts[HWY_MAX_BYTES / sizeof(float)];
    hn::Store(a0, d, parts);
    for (int64_t l = 0; l < lanes + end - i; ++l) {
      const float part = l < lanes ? parts[l] : hn::GetLane(enter<kOp>(hn::LoadU(one, x + i + l - lanes)));
      if constexpr (kOp == PoolOp::Max) best = part > best || std::isnan(part) ? part : best;
      else total += static_cast<double>(part);
    }
  }
  if constexpr (kOp == PoolOp::Max) return best;
  return static_cast<float>(total);
}

float ReduceAll(PoolOp op, const float* x, int64_t n) {
  switch (op) {
    case PoolOp::Max: return reduce_all<PoolOp::Max>(x, n);
    case PoolOp::Sum: return reduce_all<PoolOp::Sum>(x, n);
    case PoolOp::AbsoluteSum: return reduce_all<PoolOp::AbsoluteSum>(x, n);
    default: return reduce_all<PoolOp::SquareSum>(x, n);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sardonyx::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {

namespace {

HWY_EXPORT(PoolF32);
HWY_EXPORT(PoolS8);
HWY_EXPORT(PoolU8);
HWY_EXPORT(ReduceAll);

PoolOp pool_op(const PoolShape& s) {
  if (s.kind == Pooling::Max) return PoolOp::Max;
  if (s.kind == Pooling::Average) return PoolOp::Sum;
  return s.p == 1 ? PoolOp::AbsoluteSum : PoolOp::SquareSum;
}

std::vector<double> counts(const PoolShape& s, size_t dimension) {
  std::vector<double> counts;
  for (int64_t o = 0; o < s.window.out[dimension]; ++o) counts.push_back(static_cast<double>(s.covered(dimension, o)));
  return counts;
}

template <typename T, typename F>
Prepared pool_with(const PoolPlan& p, int64_t planes, F rows) {
  return [p, planes, rows](RunContext& run) {
    const T* x = run.in<T>(0);
    T* y = run.out<T>(0);
    double taps = 1;
    for (const int64_t k : p.window.kernel) taps += static_cast<double>(k);
    parallel_for(planes * p.out_rows, grain_for(20 + 0.1 * taps * static_cast<double>(p.window.in.back())), [&](int64_t begin, int64_t end) {
      std::vector<T> buffer(p.buffer_elements());
      rows(p, x, y, begin, end, buffer.data());
    });
  };
}

Prepared prepare_simd(PrepareContext& ctx, PoolShape (*shape)(const PrepareContext&)) {
  const DType dtype = ctx.dtype(0);
  if (is_narrow_float(dtype)) return widened(ctx, dtype, [shape](PrepareContext& wide) { return prepare_simd(wide, shape); });
  if (dtype != DType::Float32 && dtype != DType::Int8 && dtype != DType::UInt8) return decline("only float, int8 and uint8");
  const PoolShape s = shape(ctx);
  if (dtype != DType::Float32 && s.kind != Pooling::Max) return decline("only MaxPool takes integers");
  if (ctx.wants(1)) return decline("Indices are wanted");
  if (s.kind == Pooling::Lp && s.p > 2) return decline("p is neither 1 nor 2");
  if (element_count(s.dims) == 0) return decline("an empty tensor");
  PoolPlan p;
  p.op = pool_op(s);
  p.divides = s.kind == Pooling::Average;
  p.root = s.kind == Pooling::Lp && s.p == 2;
  p.window = s.window;
  const Window& w = s.window;
  const size_t last = w.rank() - 1;
  // The row with its padding, and room to read whole vectors at its end.
  const int64_t reach = (w.out[last] - 1) * w.stride[last] + w.extent(last), room = 128;
  bool sane = reach <= 4 * w.in[last] + 1024 && w.stride[last] <= 1024;
  for (size_t i = 0; i < last; ++i) sane = sane && w.out[i] <= 4 * w.in[i] + 1024;
  if (!sane) return decline("padding or stride out of proportion to the input");
  p.phase = ceil_div(reach, w.stride[last]) + room;
  p.in_plane = element_count(w.in), p.out_plane = element_count(w.out), p.out_rows = p.out_plane / w.out[last];
  if (p.divides) {
    p.column_count = counts(s, last);
    for (size_t i = 0; i < last; ++i) p.row_count.push_back(counts(s, i));
  }
  ctx.output(0, dtype, s.dims);
  if (dtype == DType::Int8) return pool_with<int8_t>(p, s.planes, [](auto&&... a) { HWY_DYNAMIC_DISPATCH(PoolS8)(a...); });
  if (dtype == DType::UInt8) return pool_with<uint8_t>(p, s.planes, [](auto&&... a) { HWY_DYNAMIC_DISPATCH(PoolU8)(a...); });
  return pool_with<float>(p, s.planes, [](auto&&... a) { HWY_DYNAMIC_DISPATCH(PoolF32)(a...); });
}

Prepared prepare_global(PrepareContext& ctx, Pooling kind) {
  if (is_narrow_float(ctx.dtype(0))) return widened(ctx, ctx.dtype(0), [kind](PrepareContext& wide) { return prepare_global(wide, kind); });
  if (ctx.dtype(0) != DType::Float32) return decline("only f32, f16 and bf16");
  const int64_t power = kind == Pooling::Lp ? ctx.attributes<GlobalLpPoolAttributes>().p : 2;
  const PoolShape s = global_pool_shape(ctx, kind, power);
  if (s.p > 2) return decline("p is neither 1 nor 2");
  ctx.output(0, DType::Float32, s.dims);
  const int64_t n = element_count(s.window.in);
  const bool root = kind == Pooling::Lp && s.p == 2, divides = kind == Pooling::Average;
  return [op = pool_op(s), n, root, divides, planes = s.planes](RunContext& run) {
    const float* x = run.in<float>(0);
    float* y = run.out<float>(0);
    parallel_for(planes, grain_for(20 + 0.1 * static_cast<double>(n)), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const float value = HWY_DYNAMIC_DISPATCH(ReduceAll)(op, x + i * n, n);
        y[i] = root ? std::sqrt(value) : divides ? value / static_cast<float>(n) : value;
      }
    });
  };
}

}  // namespace

void register_pooling_simd(KernelRegistry& registry) {
  registry.add("MaxPool", "simd", kFirst, [](PrepareContext& ctx) { return prepare_simd(ctx, max_pool_shape); });
  registry.add("AveragePool", "simd", kFirst, [](PrepareContext& ctx) { return prepare_simd(ctx, average_pool_shape); });
  registry.add("LpPool", "simd", kFirst, [](PrepareContext& ctx) { return prepare_simd(ctx, lp_pool_shape); });
  registry.add("GlobalMaxPool", "simd", kFirst, [](PrepareContext& ctx) { return prepare_global(ctx, Pooling::Max); });
  registry.add("GlobalAveragePool", "simd", kFirst, [](PrepareContext& ctx) { return prepare_global(ctx, Pooling::Average); });
  registry.add("GlobalLpPool", "simd", kFirst, [](PrepareContext& ctx) { return prepare_global(ctx, Pooling::Lp); });
}

}  // namespace sardonyx::cpu
#endif
