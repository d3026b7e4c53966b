// Reduce*: f32 through vectorised loops, every other dtype through plain blocked loops.
#include "ops/reduction.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/simd_reduce.h"
#include "providers/cpu/support/widen.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {
namespace {

enum class Reduce { Sum, Mean, Max, Min, Prod, L1, L2, SumSquare, LogSum, LogSumExp };

// The loops of a reduction. Adjacent dimensions of one kind are merged, dimensions of 1 dropped. A "lane"
// is the kept dimension whose outputs are computed together: the innermost one when it is kept, else the
// last kept one. A "run" is the reduced dimension walked innermost.
struct Loops {
  int64_t outputs = 1, count = 1;  // outputs; elements reduced into each
  bool inner_reduced = false;      // the innermost dimension is reduced: a run is contiguous
  int64_t lanes = 1, lane_stride = 1;
  int64_t run = 1, run_stride = 1;
  Dims kept, kept_strides;         // the other kept dimensions
  Dims reduced, reduced_strides;   // the other reduced dimensions
  int64_t groups = 1, passes = 1;  // products of the two
};

int64_t offset_of(int64_t index, const Dims& dims, const Dims& strides) {
  int64_t offset = 0;
  for (size_t i = dims.size(); i-- > 0;) {
    offset += index % dims[i] * strides[i];
    index /= dims[i];
  }
  return offset;
}

Loops make_loops(const Dims& dims, const std::vector<bool>& reduce) {
  struct Axis {
    int64_t dim, stride;
    bool reduced;
  };
  std::vector<Axis> axes;
  const Dims strides = contiguous_strides(dims);
  Loops loops;
  for (size_t i = 0; i < dims.size(); ++i) {
    (reduce[i] ? loops.count : loops.outputs) *= dims[i];
    if (dims[i] == 1) continue;
    if (!axes.empty() && axes.back().reduced == reduce[i]) {
      axes.back().dim *= dims[i];
      axes.back().stride = strides[i];
    } else {
      axes.push_back({dims[i], strides[i], reduce[i]});
    }
  }
  loops.inner_reduced = !axes.empty() && axes.back().reduced;
  bool lane_found = false, run_found = false;
  for (size_t i = axes.size(); i-- > 0;) {
    const Axis& a = axes[i];
    if (a.reduced && !run_found) {
      loops.run = a.dim, loops.run_stride = a.stride, run_found = true;
    } else if (!a.reduced && !lane_found) {
      loops.lanes = a.dim, loops.lane_stride = a.stride, lane_found = true;
    } else if (a.reduced) {
      loops.reduced.insert(loops.reduced.begin(), a.dim);
      loops.reduced_strides.insert(loops.reduced_strides.begin(), a.stride);
      loops.passes *= a.dim;
    } else {
      loops.kept.insert(loops.kept.begin(), a.dim);
      loops.kept_strides.insert(loops.kept_strides.begin(), a.stride);
      loops.groups *= a.dim;
    }
  }
  return loops;
}

// Declares the output and says which axes go.
Loops prepare_loops(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<ReduceAttributes>();
  const Dims& dims = ctx.dims(0);
  const int rank = ctx.rank(0);
  std::vector<int64_t> axes;
  if (ctx.has_input(1)) {
    if (ctx.rank(1) > 1)
      ctx.fail("input 'axes'", "a one-dimensional tensor", "rank " + std::to_string(ctx.rank(1)));
    axes = ctx.host_ints(1);
  }
  std::vector<bool> reduce(dims.size(), axes.empty() && attributes.noop_with_empty_axes == 0);
  for (int64_t axis : axes) reduce[static_cast<size_t>(normalize_axis(axis, rank, "input 'axes'"))] = true;
  Dims out;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (!reduce[i])
      out.push_back(dims[i]);
    else if (attributes.keepdims != 0)
      out.push_back(1);
  }
  ctx.output(0, ctx.dtype(0), out);
  return make_loops(dims, reduce);
}

// ---- f32

SimdReduce simd_op(Reduce op) {
  switch (op) {
    case Reduce::Max:
    case Reduce::LogSumExp:
      return SimdReduce::Max;
    case Reduce::Min:
      return SimdReduce::Min;
    case Reduce::Prod:
      return SimdReduce::Prod;
    case Reduce::L1:
      return SimdReduce::SumAbs;
    case Reduce::L2:
    case Reduce::SumSquare:
      return SimdReduce::SumSquare;
    default:
      return SimdReduce::Sum;
  }
}

double identity(SimdReduce op) {
  if (op == SimdReduce::Max) return -std::numeric_limits<double>::infinity();
  if (op == SimdReduce::Min) return std::numeric_limits<double>::infinity();
  return op == SimdReduce::Prod ? 1 : 0;
}

void join(SimdReduce op, double& acc, double other) {
  if (op == SimdReduce::Max)
    acc = std::isnan(acc) || acc >= other ? acc : other;
  else if (op == SimdReduce::Min)
    acc = std::isnan(acc) || acc <= other ? acc : other;
  else if (op == SimdReduce::Prod)
    acc *= other;
  else
    acc += other;
}

// `share`: one over the number of elements.
float finish(Reduce op, double acc, double share) {
  switch (op) {
    case Reduce::Mean:
      return static_cast<float>(acc * share);
    case Reduce::L2:
      return static_cast<float>(std::sqrt(acc));
    case Reduce::LogSum:
      return static_cast<float>(std::log(acc));
    default:
      return static_cast<float>(acc);
  }
}

constexpr int64_t kChunk = 256;  // outputs accumulated together; at most kReduceColumns
static_assert(kChunk <= kReduceColumns);

// A range of the reduced elements: passes [pass, pass_end) and, within each, [run, run_end).
struct Part {
  int64_t pass, pass_end, run, run_end;
};

// acc[i] = acc[i] op the elements of output lane i < n, over one part.
void accumulate(const Loops& l, SimdReduce op, const float* x, int64_t n, const Part& part, double* acc) {
  const int64_t run = part.run_end - part.run;
  for (int64_t pass = part.pass; pass < part.pass_end; ++pass) {
    const float* p = x + offset_of(pass, l.reduced, l.reduced_strides) + part.run * l.run_stride;
    if (l.inner_reduced) {
      simd_reduce_rows(op, p, n, l.lane_stride, run, acc);
    } else if (n == l.lanes && n <= 32 && l.run_stride == n && run >= 128 / n) {
      // Narrow rows that follow each other: several are taken as one wide row, and folded at the end.
      const int64_t fold = 64 / n, wide = fold * n, rows = run / fold;
      double sums[64];
      std::fill(sums, sums + wide, identity(op));
      simd_reduce_columns(op, p, rows, wide, wide, sums);
      for (int64_t i = 0; i < wide; ++i) join(op, acc[i % n], sums[i]);
      simd_reduce_columns(op, p + rows * wide, run - rows * fold, n, n, acc);
    } else {
      simd_reduce_columns(op, p, run, l.run_stride, n, acc);
    }
  }
}

void accumulate_exp(const Loops& l, const float* x, int64_t n, const float* shift, double* acc) {
  for (int64_t pass = 0; pass < l.passes; ++pass) {
    const float* p = x + offset_of(pass, l.reduced, l.reduced_strides);
    if (l.inner_reduced)
      simd_sum_exp_rows(p, n, l.lane_stride, l.run, shift, acc);
    else
      simd_sum_exp_columns(p, l.run, l.run_stride, n, shift, acc);
  }
}

Prepared prepare_f32(PrepareContext& ctx, Reduce op) {
  if (ctx.dtype(0) != DType::Float32) return decline("only float");
  const Loops l = prepare_loops(ctx);
  if (l.outputs == 0) return [](RunContext&) {};
  if (l.count == 0) {
    const float value = op == Reduce::LogSumExp ? -std::numeric_limits<float>::infinity()
                                                : finish(op, identity(simd_op(op)), INFINITY);
    return [n = l.outputs, value](RunContext& run) { std::fill_n(run.out<float>(0), n, value); };
  }
  const SimdReduce inner = simd_op(op);
  const double share = 1 / static_cast<double>(l.count);
  const int64_t wanted = std::max<int64_t>(1, 32768 / l.count);
  const int64_t chunk = std::min({l.lanes, kChunk, l.inner_reduced ? wanted : kChunk});
  const int64_t chunks = (l.lanes + chunk - 1) / chunk;
  const int64_t items = l.groups * chunks;
  const double item_ns =
      static_cast<double>(chunk) * static_cast<double>(l.count) * (op == Reduce::LogSumExp ? 0.6 : 0.12);
  const auto out_at = [](const Loops&, int64_t group, int64_t chunk_index, int64_t size, int64_t lanes) {
    return group * lanes + chunk_index * size;
  };

  // Few outputs of many elements each: the elements are split among the threads.
  int64_t parts = 1;
  if (items < ctx.threads() && op != Reduce::LogSumExp)
    parts = std::min<int64_t>(ctx.threads(), static_cast<int64_t>(item_ns / 20000));
  if (parts > 1) {
    const bool by_pass = l.passes >= l.run;
    const int64_t split = by_pass ? l.passes : l.run;
    parts = std::min(parts, split);
    ctx.scratch(static_cast<size_t>(parts * l.outputs) * sizeof(double));
    return [=](RunContext& run) {
      const float* x = run.in<float>(0);
      float* y = run.out<float>(0);
      double* sums = reinterpret_cast<double*>(run.scratch());
      std::fill_n(sums, parts * l.outputs, identity(inner));
      parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; ++p) {
          const int64_t from = split * p / parts, to = split * (p + 1) / parts;
          const Part part = by_pass ? Part{from, to, 0, l.run} : Part{0, l.passes, from, to};
          for (int64_t item = 0; item < items; ++item) {
            const int64_t group = item / chunks, c = item % chunks;
            accumulate(l, inner, x + offset_of(group, l.kept, l.kept_strides) + c * chunk * l.lane_stride,
                       std::min(chunk, l.lanes - c * chunk), part,
                       sums + p * l.outputs + out_at(l, group, c, chunk, l.lanes));
          }
        }
      });
      for (int64_t p = 1; p < parts; ++p)
        for (int64_t i = 0; i < l.outputs; ++i) join(inner, sums[i], sums[p * l.outputs + i]);
      for (int64_t i = 0; i < l.outputs; ++i) y[i] = finish(op, sums[i], share);
    };
  }
  return [=](RunContext& run) {
    const float* x = run.in<float>(0);
    float* y = run.out<float>(0);
    parallel_for(items, grain_for(item_ns), [&](int64_t begin, int64_t end) {
      double acc[kChunk];
      float shift[kChunk];
      for (int64_t item = begin; item < end; ++item) {
        const int64_t group = item / chunks, c = item % chunks;
        const float* from = x + offset_of(group, l.kept, l.kept_strides) + c * chunk * l.lane_stride;
        float* to = y + out_at(l, group, c, chunk, l.lanes);
        const int64_t n = std::min(chunk, l.lanes - c * chunk);
        std::fill_n(acc, n, identity(inner));
        accumulate(l, inner, from, n, Part{0, l.passes, 0, l.run}, acc);
        if (op == Reduce::LogSumExp) {
          for (int64_t i = 0; i < n; ++i) shift[i] = static_cast<float>(acc[i]);
          std::fill_n(acc, n, 0.0);
          accumulate_exp(l, from, n, shift, acc);
          for (int64_t i = 0; i < n; ++i)
            to[i] = std::isfinite(shift[i]) ? static_cast<float>(shift[i] + std::log(acc[i])) : shift[i];
        } else {
          for (int64_t i = 0; i < n; ++i) to[i] = finish(op, acc[i], share);
        }
      }
    });
  };
}

// ---- every dtype

// Wide enough for sums of means, and the type itself where wrapping is the rule.
template <typename T>
using Wide = std::conditional_t<std::is_floating_point_v<T>, T,
                                std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>>;

template <typename A>
A wrap_add(A a, A b) {
  if constexpr (std::is_integral_v<A>)
    return static_cast<A>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  else
    return a + b;
}
template <typename A>
A wrap_mul(A a, A b) {
  if constexpr (std::is_integral_v<A>)
    return static_cast<A>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
  else
    return a * b;
}

template <typename A>
bool is_nan(A a) {
  if constexpr (std::is_floating_point_v<A>)
    return std::isnan(a);
  else
    return false;
}

template <Reduce kOp, typename T, typename A>
A first() {
  if constexpr (kOp == Reduce::Prod)
    return A(1);
  else if constexpr (kOp == Reduce::Max)
    return std::is_floating_point_v<T> ? -std::numeric_limits<A>::infinity()
                                       : static_cast<A>(std::numeric_limits<T>::lowest());
  else if constexpr (kOp == Reduce::Min)
    return std::is_floating_point_v<T> ? std::numeric_limits<A>::infinity()
                                       : static_cast<A>(std::numeric_limits<T>::max());
  else
    return A(0);
}

template <Reduce kOp, typename A>
A meet(A acc, A value) {
  if constexpr (kOp == Reduce::Prod)
    return wrap_mul(acc, value);
  else if constexpr (kOp == Reduce::Max)
    return is_nan(acc) || acc >= value ? acc : value;
  else if constexpr (kOp == Reduce::Min)
    return is_nan(acc) || acc <= value ? acc : value;
  else
    return wrap_add(acc, value);
}

template <Reduce kOp, typename A>
A contribution(A value) {
  if constexpr (kOp == Reduce::L1)
    return value < A(0) ? wrap_mul(value, A(-1)) : value;
  else if constexpr (kOp == Reduce::L2 || kOp == Reduce::SumSquare)
    return wrap_mul(value, value);
  else
    return value;
}

template <Reduce kOp, typename T, typename A>
T result(A acc, int64_t count) {
  if constexpr (kOp == Reduce::Mean) {
    if constexpr (std::is_integral_v<A>)
      return count == 0 ? T(0) : static_cast<T>(acc / static_cast<A>(count));
    else
      return static_cast<T>(acc / static_cast<A>(count));
  } else if constexpr (kOp == Reduce::L2) {
    return static_cast<T>(std::sqrt(static_cast<std::conditional_t<std::is_integral_v<A>, double, A>>(acc)));
  } else if constexpr (kOp == Reduce::LogSum) {
    return static_cast<T>(std::log(acc));
  } else {
    return static_cast<T>(acc);
  }
}

template <Reduce kOp, typename T>
void reduce_plain(const Loops& l, const T* x, T* y) {
  using A = Wide<T>;
  constexpr Reduce kPass = kOp == Reduce::LogSumExp ? Reduce::Max : kOp;
  const int64_t chunk = std::min<int64_t>(l.lanes, l.inner_reduced ? 1 : 64),
                chunks = (l.lanes + chunk - 1) / chunk;
  const auto walk = [&l](const T* from, int64_t n, A* acc, auto step, auto start) {
    for (int64_t pass = 0; pass < l.passes; ++pass) {
      const T* p = from + offset_of(pass, l.reduced, l.reduced_strides);
      // Blocks of 1,024 are summed apart, so that long sums keep their precision.
      for (int64_t r0 = 0; r0 < l.run; r0 += 1024) {
        A block[64];
        std::fill_n(block, n, start);
        for (int64_t r = r0; r < std::min(l.run, r0 + 1024); ++r)
          for (int64_t i = 0; i < n; ++i)
            block[i] = step(block[i], static_cast<A>(p[r * l.run_stride + i * l.lane_stride]), i);
        for (int64_t i = 0; i < n; ++i)
          acc[i] = meet < kOp == Reduce::LogSumExp ? Reduce::Sum : kOp > (acc[i], block[i]);
      }
    }
  };
  const auto walk_max = [&l](const T* from, int64_t n, A* acc) {
    for (int64_t pass = 0; pass < l.passes; ++pass) {
      const T* p = from + offset_of(pass, l.reduced, l.reduced_strides);
      for (int64_t r = 0; r < l.run; ++r)
        for (int64_t i = 0; i < n; ++i)
          acc[i] = meet<Reduce::Max>(acc[i], static_cast<A>(p[r * l.run_stride + i * l.lane_stride]));
    }
  };
  parallel_for(l.groups * chunks, grain_for(static_cast<double>(chunk * std::max<int64_t>(l.count, 1))),
               [&](int64_t begin, int64_t end) {
                 for (int64_t item = begin; item < end; ++item) {
                   const int64_t group = item / chunks, c = item % chunks,
                                 n = std::min(chunk, l.lanes - c * chunk);
                   const T* from = x + offset_of(group, l.kept, l.kept_strides) + c * chunk * l.lane_stride;
                   T* to = y + group * l.lanes + c * chunk;
                   A acc[64];
                   std::fill_n(acc, n, first<kPass, T, A>());
                   if constexpr (kOp == Reduce::LogSumExp) {
                     A top[64];
                     walk_max(from, n, acc);
                     std::copy_n(acc, n, top);
                     std::fill_n(acc, n, A(0));
                     walk(
                         from, n, acc,
                         [&top](A sum, A value, int64_t i) { return sum + std::exp(value - top[i]); }, A(0));
                     for (int64_t i = 0; i < n; ++i)
                       to[i] = std::isfinite(top[i]) ? top[i] + std::log(acc[i]) : top[i];
                   } else {
                     walk(
                         from, n, acc,
                         [](A sum, A value, int64_t) { return meet<kOp>(sum, contribution<kOp>(value)); },
                         first<kOp, T, A>());
                     for (int64_t i = 0; i < n; ++i) to[i] = result<kOp, T>(acc[i], l.count);
                   }
                 }
               });
}

template <Reduce kOp>
Prepared prepare_ref(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (dtype == DType::Float16 || dtype == DType::BFloat16)
    return widened(ctx, dtype, [](PrepareContext& wide) { return prepare_f32(wide, kOp); });
  const Loops l = prepare_loops(ctx);
  Prepared prepared = decline(std::string("no kernel for ") + dtype_name(dtype));
  const auto take = [&]<typename T>() {
    prepared = [l](RunContext& run) {
      if (l.outputs == 0) return;
      // A bool is held as a byte of 0 or 1.
      reduce_plain<kOp, T>(l, static_cast<const T*>(run.input(0).data()),
                           static_cast<T*>(run.output(0).mutable_data()));
    };
  };
  if constexpr (kOp == Reduce::LogSum || kOp == Reduce::LogSumExp) {
    visit<Types<double>>(dtype, take);
  } else {
    if (dtype == DType::Bool && (kOp == Reduce::Max || kOp == Reduce::Min)) {
      prepared = [l](RunContext& run) {
        const auto* x = static_cast<const uint8_t*>(run.input(0).data());
        auto* y = static_cast<uint8_t*>(run.output(0).mutable_data());
        if (l.outputs == 0) return;
        if (l.count == 0) return static_cast<void>(std::fill_n(y, l.outputs, kOp == Reduce::Max ? 0 : 1));
        reduce_plain<kOp, uint8_t>(l, x, y);
      };
      return prepared;
    }
    visit<Join<Types<double>, Ints>>(dtype, take);
  }
  return prepared;
}

template <Reduce kOp>
void add(KernelRegistry& registry, const char* name) {
  registry.add(name, "simd", kFirst, [](PrepareContext& ctx) { return prepare_f32(ctx, kOp); });
  registry.ref(name, prepare_ref<kOp>);
}

}  // namespace

void register_reduction(KernelRegistry& registry) {
  add<Reduce::Sum>(registry, "ReduceSum");
  add<Reduce::Mean>(registry, "ReduceMean");
  add<Reduce::Max>(registry, "ReduceMax");
  add<Reduce::Min>(registry, "ReduceMin");
  add<Reduce::Prod>(registry, "ReduceProd");
  add<Reduce::L1>(registry, "ReduceL1");
  add<Reduce::L2>(registry, "ReduceL2");
  add<Reduce::SumSquare>(registry, "ReduceSumSquare");
  add<Reduce::LogSum>(registry, "ReduceLogSum");
  add<Reduce::LogSumExp>(registry, "ReduceLogSumExp");
}

}  // namespace sardonyx::cpu
