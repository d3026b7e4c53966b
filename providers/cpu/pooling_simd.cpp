// Poolings of whole planes: the rows of each window are combined first, then its columns.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/pooling_simd.cpp"
#include <hwy/foreach_target.h>  // compiles what follows once for each instruction set
#include <hwy/highway.h>

#include <cmath>
#include <limits>
#include <vector>

#include "providers/cpu/pooling.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/plane_grid-inl.h"
#include "providers/cpu/support/widen.h"

#ifndef SARDONYX_POOL_PLAN
#define SARDONYX_POOL_PLAN
namespace sardonyx::cpu {

enum class PoolOp { Max, Sum, AbsoluteSum, SquareSum };

struct PoolPlan {
  PoolOp op = PoolOp::Max;
  bool divides = false, root = false;  // Average; Lp with p = 2
  PlaneGrid grid;
  std::vector<int64_t> row_offsets;     // of the taps of one column of a window, first phase
  std::vector<int64_t> column_offsets;  // of the taps of one row, in rows already combined
  std::vector<double> row_count;        // Average: how many rows each output row covers
  std::vector<float> column_count;      // and how many columns each output column does
  // Dimensions before the last two: their windows are combined into one plane of the input.
  Window outer;
  std::vector<std::vector<double>> outer_count;
  int64_t outer_in = 1, outer_out = 1;

  int64_t combined_sub() const { return grid.block_rows * grid.row; }
  int64_t combined_elements() const { return grid.sw * combined_sub() + PlaneGrid::kSlack; }
  int64_t result_elements() const { return grid.block_rows * grid.row + PlaneGrid::kSlack; }
  int64_t slice_elements() const { return outer.rank() == 0 ? 0 : grid.ih * grid.iw; }
  size_t buffer_elements() const {
    return static_cast<size_t>(grid.copy_elements() + combined_elements() + 2 * result_elements() +
                               slice_elements());
  }
  int64_t tasks_of_plane() const { return outer_out * grid.blocks(); }
};

}  // namespace sardonyx::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <PoolOp kOp, bool kNan, class V>
HWY_INLINE V combine(V acc, V x) {
  if constexpr (kOp == PoolOp::Max) {
    if constexpr (kNan && std::is_floating_point_v<hn::TFromV<V>>)
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
  if constexpr (kOp == PoolOp::AbsoluteSum)
    return hn::Abs(x);
  else if constexpr (kOp == PoolOp::SquareSum)
    return hn::Mul(x, x);
  else
    return x;
}

template <PoolOp kOp, typename T>
constexpr T identity() {
  if constexpr (kOp != PoolOp::Max)
    return T{};
  else if constexpr (std::is_floating_point_v<T>)
    return -std::numeric_limits<T>::infinity();
  else
    return std::numeric_limits<T>::min();
}

// to[f] = combination of from[offset + f] over the offsets, in whole vectors.
template <PoolOp kOp, bool kNan, typename T>
HWY_INLINE void combine_flat(const int64_t* offsets, size_t count, const T* from, int64_t length, T* to) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t f = 0; f < length; f += 2 * lanes) {
    auto a = enter<kOp>(hn::LoadU(d, from + offsets[0] + f)),
         b = enter<kOp>(hn::LoadU(d, from + offsets[0] + f + lanes));
    for (size_t t = 1; t < count; ++t) {
      const T* in = from + offsets[t] + f;
      a = combine<kOp, kNan>(a, enter<kOp>(hn::LoadU(d, in)));
      b = combine<kOp, kNan>(b, enter<kOp>(hn::LoadU(d, in + lanes)));
    }
    hn::StoreU(a, d, to + f);
    hn::StoreU(b, d, to + f + lanes);
  }
}

// to[i] = combination of rows that are n long.
template <PoolOp kOp, typename T>
void combine_rows(const std::vector<const T*>& rows, int64_t n, T* HWY_RESTRICT to) {
  const hn::ScalableTag<T> d;
  const hn::CappedTag<T, 1> one;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    auto acc = enter<kOp>(hn::LoadU(d, rows[0] + i));
    for (size_t r = 1; r < rows.size(); ++r)
      acc = combine<kOp, true>(acc, enter<kOp>(hn::LoadU(d, rows[r] + i)));
    hn::StoreU(acc, d, to + i);
  }
  for (; i < n; ++i) {
    auto acc = enter<kOp>(hn::LoadU(one, rows[0] + i));
    for (size_t r = 1; r < rows.size(); ++r)
      acc = combine<kOp, true>(acc, enter<kOp>(hn::LoadU(one, rows[r] + i)));
    hn::StoreU(acc, one, to + i);
  }
}

template <typename T>
bool has_nan(const T* x, int64_t n) {
  if constexpr (std::is_floating_point_v<T>) {
    const hn::ScalableTag<T> d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    int64_t i = 0;
    // x - x is 0 except for a NaN and for an infinity, which costs time only.
    auto any = hn::Zero(d);
    for (; i + lanes <= n; i += lanes) {
      const auto v = hn::LoadU(d, x + i);
      any = hn::Or(any, hn::Sub(v, v));
    }
    bool found = !hn::AllTrue(d, hn::Eq(any, hn::Zero(d)));
    for (; i < n; ++i) found = found || x[i] != x[i];
    return found;
  } else {
    return false;
  }
}

// Output rows [first, first + rows) of one plane.
template <PoolOp kOp, bool kNan, typename T>
void pool_block(const PoolPlan& p, const T* x, int64_t first, int64_t rows, double count, T* buffer, T* to) {
  const PlaneGrid& g = p.grid;
  T *copy = buffer, *combined = copy + g.copy_elements(), *result = combined + p.combined_elements();
  [[maybe_unused]] T* finished = result + p.result_elements();
  fill_copy(g, x, first, rows, identity<kOp, T>(), copy);
  const int64_t length = rows * g.row;
  for (int64_t q = 0; q < g.sw; ++q)
    combine_flat<kOp, kNan>(p.row_offsets.data(), p.row_offsets.size(), copy + q * g.sub, length,
                            combined + q * p.combined_sub());
  constexpr PoolOp kThen = kOp == PoolOp::Max ? PoolOp::Max : PoolOp::Sum;
  combine_flat<kThen, kNan>(p.column_offsets.data(), p.column_offsets.size(), combined, g.length(rows),
                            result);
  if constexpr (std::is_same_v<T, float>) {
    const hn::ScalableTag<T> d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    if (p.root)
      for (int64_t f = 0; f < g.length(rows); f += lanes)
        hn::StoreU(hn::Sqrt(hn::LoadU(d, result + f)), d, finished + f);
    for (int64_t r = 0; p.divides && r < rows; ++r) {
      const auto covered =
          hn::Set(d, static_cast<float>(count * p.row_count[static_cast<size_t>(first + r)]));
      for (int64_t i = 0; i < g.ow; i += lanes) {
        const auto divisor = hn::Mul(covered, hn::LoadU(d, p.column_count.data() + i));
        hn::StoreU(hn::Div(hn::LoadU(d, result + r * g.row + i), divisor), d, finished + r * g.row + i);
      }
    }
    if (p.root || p.divides) result = finished;
  }
  for (int64_t r = 0; r < rows; ++r) copy_row(result + r * g.row, g.ow, to + r * g.ow);
}

// The plane that output position `o` of the outer dimensions sees, in `slice` unless it is one of the input;
// null when its windows lie in the padding altogether.
template <PoolOp kOp, typename T>
const T* outer_slice(const PoolPlan& p, const T* x, int64_t o, double* count, T* slice) {
  const Window& w = p.outer;
  const size_t rank = w.rank();
  Dims tap(rank), position(rank);
  std::vector<Range> taps(rank);
  for (size_t i = rank; i-- > 0; o /= w.out[i]) {
    position[i] = o % w.out[i];
    taps[i] = valid_range(w.kernel[i], w.dilation[i], position[i] * w.stride[i] - w.pad_begin[i], w.in[i]);
    if (taps[i].size() == 0) return nullptr;
    tap[i] = taps[i].begin;
    if (p.divides) *count *= p.outer_count[i][static_cast<size_t>(position[i])];
  }
  std::vector<const T*> rows;
  const int64_t plane = p.grid.ih * p.grid.iw;
  while (true) {
    int64_t at = 0;
    for (size_t i = 0; i < rank; ++i) at = at * w.in[i] + position[i] * w.stride[i] + w.offset(i, tap[i]);
    rows.push_back(x + at * plane);
    size_t i = rank;
    while (i-- > 0) {
      if (++tap[i] < taps[i].end) break;
      tap[i] = taps[i].begin;
    }
    if (i == static_cast<size_t>(-1)) break;
  }
  combine_rows<kOp>(rows, plane, slice);
  return slice;
}

// Tasks [begin, end), counted over planes, outer positions and blocks. The buffer is as it was made.
template <PoolOp kOp, typename T>
void pool_tasks(const PoolPlan& p, const T* x, T* y, int64_t begin, int64_t end, T* buffer) {
  const PlaneGrid& g = p.grid;
  const int64_t blocks = g.blocks(), in_plane = p.outer_in * g.ih * g.iw;
  std::fill(buffer, buffer + g.copy_elements(), identity<kOp, T>());
  T* slice = buffer + g.copy_elements() + p.combined_elements() + 2 * p.result_elements();
  const T* seen = nullptr;
  double count = 1;
  int64_t image = begin / blocks, first = begin % blocks * g.block_rows;
  const auto next = [&] {
    first += g.block_rows;
    if (first >= g.oh) first = 0, ++image;
  };
  for (int64_t task = begin; task < end; ++task, next()) {
    const int64_t rows = std::min(g.block_rows, g.oh - first),
                  plane = p.outer_out == 1 ? image : image / p.outer_out;
    T* to = y + (image * g.oh + first) * g.ow;
    if (p.outer.rank() == 0) {
      seen = x + plane * in_plane;
    } else if (task == begin || first == 0) {
      count = 1;
      seen = outer_slice<kOp>(p, x + plane * in_plane, image % p.outer_out, &count, slice);
    }
    if (!seen) {
      const T nothing =
          p.divides ? static_cast<T>(std::numeric_limits<float>::quiet_NaN()) : identity<kOp, T>();
      std::fill(to, to + rows * g.ow, nothing);
      continue;
    }
    // What a slice holds has been entered already.
    constexpr PoolOp kThen = kOp == PoolOp::Max ? PoolOp::Max : PoolOp::Sum;
    const int64_t top = std::max<int64_t>(first * g.sh - g.ph, 0);
    const int64_t bottom = std::min(first * g.sh - g.ph + g.input_rows(rows), g.ih);
    const bool nan = kOp == PoolOp::Max && bottom > top && has_nan(seen + top * g.iw, (bottom - top) * g.iw);
    if (p.outer.rank() > 0 && nan)
      pool_block<kThen, true>(p, seen, first, rows, count, buffer, to);
    else if (p.outer.rank() > 0)
      pool_block<kThen, false>(p, seen, first, rows, count, buffer, to);
    else if (nan)
      pool_block<kOp, true>(p, seen, first, rows, count, buffer, to);
    else
      pool_block<kOp, false>(p, seen, first, rows, count, buffer, to);
  }
}

void PoolF32(const PoolPlan& p, const float* x, float* y, int64_t begin, int64_t end, float* buffer) {
  switch (p.op) {
    case PoolOp::Max:
      return pool_tasks<PoolOp::Max>(p, x, y, begin, end, buffer);
    case PoolOp::Sum:
      return pool_tasks<PoolOp::Sum>(p, x, y, begin, end, buffer);
    case PoolOp::AbsoluteSum:
      return pool_tasks<PoolOp::AbsoluteSum>(p, x, y, begin, end, buffer);
    case PoolOp::SquareSum:
      return pool_tasks<PoolOp::SquareSum>(p, x, y, begin, end, buffer);
  }
}
void PoolS8(const PoolPlan& p, const int8_t* x, int8_t* y, int64_t begin, int64_t end, int8_t* buffer) {
  pool_tasks<PoolOp::Max>(p, x, y, begin, end, buffer);
}
void PoolU8(const PoolPlan& p, const uint8_t* x, uint8_t* y, int64_t begin, int64_t end, uint8_t* buffer) {
  pool_tasks<PoolOp::Max>(p, x, y, begin, end, buffer);
}

// One value from n neighbouring ones; sums are taken in blocks, whose sums are added in f64.
template <PoolOp kOp>
float reduce_all(const float* x, int64_t n) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> one;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), block = 256 * lanes;
  double total = 0;
  float best = identity<kOp, float>();
  const auto add = [&](float part) HWY_ATTR {
    if constexpr (kOp == PoolOp::Max)
      best = part > best || std::isnan(part) ? part : best;
    else
      total += static_cast<double>(part);
  };
  int64_t i = 0;
  while (n - i >= lanes) {
    const int64_t end = i + std::min(block, n - i);
    auto a0 = hn::Set(d, identity<kOp, float>()), a1 = a0, a2 = a0, a3 = a0;
    for (; i + 4 * lanes <= end; i += 4 * lanes) {
      a0 = combine<kOp, true>(a0, enter<kOp>(hn::LoadU(d, x + i)));
      a1 = combine<kOp, true>(a1, enter<kOp>(hn::LoadU(d, x + i + lanes)));
      a2 = combine<kOp, true>(a2, enter<kOp>(hn::LoadU(d, x + i + 2 * lanes)));
      a3 = combine<kOp, true>(a3, enter<kOp>(hn::LoadU(d, x + i + 3 * lanes)));
    }
    for (; i + lanes <= end; i += lanes) a0 = combine<kOp, true>(a0, enter<kOp>(hn::LoadU(d, x + i)));
    a0 = combine<kOp, true>(combine<kOp, true>(a0, a1), combine<kOp, true>(a2, a3));
    if constexpr (kOp == PoolOp::Max) {
      HWY_ALIGN float parts[HWY_MAX_BYTES / sizeof(float)];
      hn::Store(a0, d, parts);
      for (int64_t l = 0; l < lanes; ++l) add(parts[l]);
    } else {
      add(hn::GetLane(hn::SumOfLanes(d, a0)));
    }
  }
  for (; i < n; ++i) add(hn::GetLane(enter<kOp>(hn::LoadU(one, x + i))));
  if constexpr (kOp == PoolOp::Max) return best;
  return static_cast<float>(total);
}

// y[i] for planes [begin, end) of n elements.
void ReducePlanes(PoolOp op, const float* x, int64_t n, int64_t begin, int64_t end, float* y) {
  for (int64_t i = begin; i < end; ++i) {
    const float* plane = x + i * n;
    switch (op) {
      case PoolOp::Max:
        y[i] = reduce_all<PoolOp::Max>(plane, n);
        break;
      case PoolOp::Sum:
        y[i] = reduce_all<PoolOp::Sum>(plane, n);
        break;
      case PoolOp::AbsoluteSum:
        y[i] = reduce_all<PoolOp::AbsoluteSum>(plane, n);
        break;
      case PoolOp::SquareSum:
        y[i] = reduce_all<PoolOp::SquareSum>(plane, n);
        break;
    }
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
HWY_EXPORT(ReducePlanes);

PoolOp pool_op(const PoolShape& s) {
  if (s.kind == Pooling::Max) return PoolOp::Max;
  if (s.kind == Pooling::Average) return PoolOp::Sum;
  return s.p == 1 ? PoolOp::AbsoluteSum : PoolOp::SquareSum;
}

std::vector<double> counts(const PoolShape& s, size_t dimension) {
  std::vector<double> counts;
  for (int64_t o = 0; o < s.window.out[dimension]; ++o)
    counts.push_back(static_cast<double>(s.covered(dimension, o)));
  return counts;
}

// The dimensions of a window before the last two.
Window outer_window(const Window& w) {
  const auto head = [&](const Dims& d) {
    return Dims(d.begin(), d.begin() + static_cast<std::ptrdiff_t>(w.rank() > 2 ? w.rank() - 2 : 0));
  };
  return {head(w.in),       head(w.out),       head(w.kernel), head(w.stride),
          head(w.dilation), head(w.pad_begin), head(w.pad_end)};
}

std::optional<PoolPlan> make_plan(const PoolShape& s) {
  const Window& w = s.window;
  const auto grid = PlaneGrid::make(w);
  if (!grid) return std::nullopt;
  PoolPlan p;
  p.grid = *grid;
  p.outer = outer_window(w);
  for (size_t i = 0; i < p.outer.rank(); ++i)
    if (w.out[i] > 4 * w.in[i] + 64) return std::nullopt;
  p.op = pool_op(s);
  p.divides = s.kind == Pooling::Average;
  p.root = s.kind == Pooling::Lp && s.p == 2;
  p.outer_in = element_count(p.outer.in), p.outer_out = element_count(p.outer.out);
  for (int64_t y = 0; y < grid->kh; ++y) p.row_offsets.push_back(grid->offset(y, 0));
  for (int64_t x = 0; x < grid->kw; ++x)
    p.column_offsets.push_back(x * grid->dw % grid->sw * p.combined_sub() + x * grid->dw / grid->sw);
  if (p.divides) {
    const size_t last = w.rank() - 1;
    for (const double count : counts(s, last)) p.column_count.push_back(static_cast<float>(count));
    p.column_count.resize(p.column_count.size() + PlaneGrid::kSlack, 1.0f);
    p.row_count = last == 0 ? std::vector<double>{1.0} : counts(s, last - 1);
    for (size_t i = 0; i < p.outer.rank(); ++i) p.outer_count.push_back(counts(s, i));
  }
  return p;
}

template <typename T, typename F>
Prepared pool_with(const PoolPlan& p, int64_t planes, F tasks) {
  const PlaneGrid& g = p.grid;
  const double ns =
      30 + 0.05 * static_cast<double>(g.block_rows * g.row * (g.kh + g.kw + 4 * g.sh * g.sw)) +
      (p.outer.rank() > 0 ? 0.1 * static_cast<double>(element_count(p.outer.kernel) * g.ih * g.iw) : 0.0);
  return [p, planes, tasks, ns](RunContext& run) {
    const T* x = run.in<T>(0);
    T* y = run.out<T>(0);
    parallel_for(planes * p.tasks_of_plane(), grain_for(ns), [&](int64_t begin, int64_t end) {
      std::vector<T> buffer(p.buffer_elements());
      tasks(p, x, y, begin, end, buffer.data());
    });
  };
}

Prepared prepare_simd(PrepareContext& ctx, PoolShape (*shape)(const PrepareContext&)) {
  const DType dtype = ctx.dtype(0);
  if (is_narrow_float(dtype))
    return widened(ctx, dtype, [shape](PrepareContext& wide) { return prepare_simd(wide, shape); });
  if (dtype != DType::Float32 && dtype != DType::Int8 && dtype != DType::UInt8)
    return decline("only float, int8 and uint8");
  const PoolShape s = shape(ctx);
  if (dtype != DType::Float32 && s.kind != Pooling::Max) return decline("only MaxPool takes integers");
  if (ctx.wants(1)) return decline("Indices are wanted");
  if (s.kind == Pooling::Lp && s.p > 2) return decline("p is neither 1 nor 2");
  if (element_count(s.dims) == 0 || ctx.input(0).size() == 0) return decline("an empty tensor");
  const auto plan = make_plan(s);
  if (!plan) return decline("padding or stride out of proportion to the input");
  ctx.output(0, dtype, s.dims);
  if (dtype == DType::Int8)
    return pool_with<int8_t>(*plan, s.planes, [](auto&&... a) { HWY_DYNAMIC_DISPATCH(PoolS8)(a...); });
  if (dtype == DType::UInt8)
    return pool_with<uint8_t>(*plan, s.planes, [](auto&&... a) { HWY_DYNAMIC_DISPATCH(PoolU8)(a...); });
  return pool_with<float>(*plan, s.planes, [](auto&&... a) { HWY_DYNAMIC_DISPATCH(PoolF32)(a...); });
}

Prepared prepare_global(PrepareContext& ctx, Pooling kind) {
  if (is_narrow_float(ctx.dtype(0)))
    return widened(ctx, ctx.dtype(0), [kind](PrepareContext& wide) { return prepare_global(wide, kind); });
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
    parallel_for(planes, grain_for(10 + 0.05 * static_cast<double>(n)), [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(ReducePlanes)(op, x, n, begin, end, y);
      for (int64_t i = begin; (root || divides) && i < end; ++i)
        y[i] = root ? std::sqrt(y[i]) : y[i] / static_cast<float>(n);
    });
  };
}

}  // namespace

void register_pooling_simd(KernelRegistry& registry) {
  registry.add("MaxPool", "simd", kFirst,
               [](PrepareContext& ctx) { return prepare_simd(ctx, max_pool_shape); });
  registry.add("AveragePool", "simd", kFirst,
               [](PrepareContext& ctx) { return prepare_simd(ctx, average_pool_shape); });
  registry.add("LpPool", "simd", kFirst,
               [](PrepareContext& ctx) { return prepare_simd(ctx, lp_pool_shape); });
  registry.add("GlobalMaxPool", "simd", kFirst,
               [](PrepareContext& ctx) { return prepare_global(ctx, Pooling::Max); });
  registry.add("GlobalAveragePool", "simd", kFirst,
               [](PrepareContext& ctx) { return prepare_global(ctx, Pooling::Average); });
  registry.add("GlobalLpPool", "simd", kFirst,
               [](PrepareContext& ctx) { return prepare_global(ctx, Pooling::Lp); });
}

}  // namespace sardonyx::cpu
#endif
