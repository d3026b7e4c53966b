// Pad in its four modes; negative pads crop.
#include "ops/padding.h"

#include <algorithm>
#include <numeric>

#include "ops/registry/operator.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/strided.h"
#include "providers/cpu/support/widen.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

namespace {

enum class Mode { Constant, Reflect, Edge, Wrap };

Mode mode_of(PrepareContext& ctx) {
  const std::string name = ctx.attributes<PadAttributes>().mode;
  if (name == "constant") return Mode::Constant;
  if (name == "reflect") return Mode::Reflect;
  if (name == "edge") return Mode::Edge;
  if (name == "wrap") return Mode::Wrap;
  ctx.fail("attribute 'mode'", "constant, reflect, edge or wrap", name);
}

int64_t floor_mod(int64_t a, int64_t n) { return (a % n + n) % n; }

// One dimension of the output and where its elements come from.
struct Axis {
  int64_t in = 1, out = 1;
  int64_t before = 0;
  int64_t low = 0,
          kept = 1;  // what negative pads leave of the axis; the other modes look at no more than that
  int64_t first = 0, last = 1;  // [first, last) of the output is copied as it is

  // The source of output position o; -1 for the constant.
  int64_t from(int64_t o, Mode mode) const {
    int64_t i = o - before - low;
    if (i >= 0 && i < kept) return i + low;
    switch (mode) {
      case Mode::Constant:
        return -1;
      case Mode::Edge:
        return low + std::clamp<int64_t>(i, 0, kept - 1);
      case Mode::Wrap:
        return low + floor_mod(i, kept);
      case Mode::Reflect:
        break;
    }
    if (kept == 1) return low;
    i = i < 0 ? -i : 2 * (kept - 1) - i;  // the usual case: mirrored once
    if (i >= 0 && i < kept) return low + i;
    i = floor_mod(i, 2 * (kept - 1));
    return low + (i < kept ? i : 2 * (kept - 1) - i);
  }
};

Axis make_axis(PrepareContext& ctx, Mode mode, size_t d, int64_t in, int64_t before, int64_t after) {
  Axis axis;
  axis.in = in;
  axis.out = in + before + after;
  axis.before = before;
  axis.low = std::min(std::max<int64_t>(-before, 0), in);
  axis.kept = std::max(in + std::min<int64_t>(after, 0), axis.low) - axis.low;
  ctx.expect(mode == Mode::Constant || axis.kept > 0, "mode of dim " + std::to_string(d),
             "constant, for an axis without elements");
  axis.first = std::clamp<int64_t>(before, 0, axis.out);
  axis.last = std::clamp<int64_t>(before + axis.low + axis.kept, axis.first, axis.out);
  return axis;
}

// Rows of the last padded axis; what follows it is one block of `inner` elements.
struct Plan {
  std::vector<Axis> outer;
  Axis row;
  int64_t rows = 1, inner = 1;
  Dims dims;               // of the output
  bool unchanged = false;  // nothing is padded

  // The row of the input that a row of the output is made of; -1 for the constant.
  int64_t source(int64_t row_of_output, Mode mode) const {
    int64_t result = 0, scale = 1;
    for (size_t d = outer.size(), rest = static_cast<size_t>(row_of_output); d-- > 0;) {
      const Axis& o = outer[d];
      const int64_t from = o.from(static_cast<int64_t>(rest % static_cast<size_t>(o.out)), mode);
      rest /= static_cast<size_t>(o.out);
      if (from < 0) return -1;
      result += from * scale;
      scale *= o.in;
    }
    return result;
  }
};

template <typename T>
void pad(const Plan& plan, Mode mode, const T* in, T* out, const T& constant) {
  const Axis& axis = plan.row;
  const int64_t inner = plan.inner, width = axis.out * inner;
  parallel_for(plan.rows, grain_for(5 + static_cast<double>(width * sizeof(T)) * 0.12),
               [&](int64_t begin, int64_t end) {
                 for (int64_t row = begin; row < end; ++row) {
                   const int64_t source = plan.source(row, mode);
                   T* to = out + row * width;
                   if (source < 0) {
                     std::fill(to, to + width, constant);
                     continue;
                   }
                   const T* line = in + source * axis.in * inner;
                   auto edge = [&](int64_t first, int64_t last) {
                     for (int64_t o = first; o < last; ++o) {
                       const int64_t from = axis.from(o, mode);
                       if (inner == 1)
                         to[o] = from < 0 ? constant : line[from];
                       else if (from < 0)
                         std::fill(to + o * inner, to + (o + 1) * inner, constant);
                       else
                         std::copy(line + from * inner, line + (from + 1) * inner, to + o * inner);
                     }
                   };
                   edge(0, axis.first);
                   if (axis.first < axis.last)
                     std::copy(line + (axis.first - axis.before) * inner,
                               line + (axis.last - axis.before) * inner, to + axis.first * inner);
                   edge(axis.last, axis.out);
                 }
               });
}

// Of an input of dims `in`; the operands are inputs of the kernel.
Plan make_plan(PrepareContext& ctx, Mode mode, const Dims& in, size_t pads_at, size_t axes_at) {
  const int rank = static_cast<int>(in.size());
  const Dims pads = ctx.host_ints(pads_at);
  Dims axes(in.size());
  std::iota(axes.begin(), axes.end(), 0);
  if (ctx.has_input(axes_at)) axes = ctx.host_ints(axes_at);
  ctx.expect(pads.size() == 2 * axes.size(), "length of input 'pads'", std::to_string(2 * axes.size()),
             std::to_string(pads.size()));
  Dims before(in.size(), 0), after(in.size(), 0);
  std::vector<bool> seen(in.size(), false);
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t d = static_cast<size_t>(normalize_axis(axes[i], rank, "value of input 'axes'"));
    ctx.expect(!seen[d], "input 'axes'", "each axis once", to_string(axes));
    seen[d] = true;
    before[d] = pads[i];
    after[d] = pads[axes.size() + i];
  }
  Plan plan;
  plan.dims = in;
  for (size_t d = 0; d < in.size(); ++d) {
    const std::string name = "pads of dim " + std::to_string(d),
                      got = std::to_string(before[d]) + " and " + std::to_string(after[d]);
    constexpr int64_t most = int64_t{1} << 61;  // no sum of three such numbers leaves int64
    ctx.expect(std::min(before[d], after[d]) > -most && std::max(before[d], after[d]) < most, name,
               "below 2^61", got);
    plan.dims[d] = checked_add(in[d], before[d] + after[d], "dimension of Pad");
    ctx.expect(plan.dims[d] >= 0, name, "at most " + std::to_string(in[d]) + " elements cropped", got);
  }
  if (element_count(plan.dims) == 0) return plan;
  size_t last = in.size();  // the last axis that is padded
  while (last > 0 && before[last - 1] == 0 && after[last - 1] == 0) --last;
  plan.unchanged = last == 0;
  for (size_t d = 0; d < in.size(); ++d) {
    if (d >= last) {
      plan.inner = checked_mul(plan.inner, in[d], "elements of Pad");
      continue;
    }
    Axis axis = make_axis(ctx, mode, d, in[d], before[d], after[d]);
    if (d + 1 < last) {
      plan.rows = checked_mul(plan.rows, axis.out, "elements of Pad");
      plan.outer.push_back(std::move(axis));
    } else {
      plan.row = std::move(axis);
    }
  }
  return plan;
}

Prepared prepare_pad(PrepareContext& ctx) {
  const Mode mode = mode_of(ctx);
  const DType dtype = ctx.dtype(0);
  if (ctx.has_input(2)) {
    ctx.expect(ctx.dtype(2) == dtype, "type of input 'constant_value'", dtype_name(dtype),
               dtype_name(ctx.dtype(2)));
    ctx.expect(ctx.input(2).size() == 1, "elements of input 'constant_value'", "1",
               std::to_string(ctx.input(2).size()));
  }
  Plan plan = make_plan(ctx, mode, ctx.dims(0), 1, 3);
  if (plan.unchanged) {
    ctx.alias(0, 0, ctx.dims(0));
    return [](RunContext&) {};
  }
  ctx.output(0, dtype, plan.dims);
  if (element_count(plan.dims) == 0) return [](RunContext&) {};
  return [plan = std::move(plan), mode, dtype](RunContext& run) {
    visit_storage(dtype, [&]<typename T>() {
      const T* constant = run.in<T>(2);
      pad(plan, mode, run.in<T>(0), run.out<T>(0), constant ? *constant : T{});
    });
  };
}

// Every element of dY added to the one that it is a copy of. Rows of the axes in front that are not padded
// have no sources in common.
template <typename T>
void pad_backward(const Plan& plan, Mode mode, const T* dy, T* dx) {
  const Axis& axis = plan.row;
  int64_t parts = 1, in = axis.in;
  bool padded = false;
  for (const Axis& o : plan.outer) {
    padded = padded || o.in != o.out || o.before != 0;
    (padded ? in : parts) *= o.in;
  }
  const int64_t inner = plan.inner, width = axis.out * inner, size = in * inner, rows = plan.rows / parts;
  parallel_for(parts, grain_for(static_cast<double>(rows * width) * 0.5 + 10),
               [&](int64_t begin, int64_t end) {
                 std::fill(dx + begin * size, dx + end * size, T(0));
                 for (int64_t row = begin * rows; row < end * rows; ++row) {
                   const int64_t source = plan.source(row, mode);
                   if (source < 0) continue;
                   T* line = dx + source * axis.in * inner;
                   const T* from = dy + row * width;
                   for (int64_t o = 0; o < axis.out; ++o) {
                     const int64_t to = axis.from(o, mode);
                     if (to < 0) continue;
                     for (int64_t i = 0; i < inner; ++i) line[to * inner + i] += from[o * inner + i];
                   }
                 }
               });
}

Prepared prepare_pad_backward(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (is_narrow_float(dtype)) return widened(ctx, dtype, prepare_pad_backward);
  ctx.expect(dtype == DType::Float32 || dtype == DType::Float64, "dtype of input 'dY'", "a float type",
             dtype_name(dtype));
  const Mode mode = mode_of(ctx);
  const Dims x = ctx.host_ints(2);
  for (const int64_t dim : x) ctx.expect(dim >= 0, "input 'shape'", "dims of at least 0", to_string(x));
  Plan plan = make_plan(ctx, mode, x, 1, 3);
  ctx.expect(ctx.dims(0) == plan.dims, "dims of input 'dY'", to_string(plan.dims), to_string(ctx.dims(0)));
  if (plan.unchanged) {
    ctx.alias(0, 0, x);
    return [](RunContext&) {};
  }
  ctx.output(0, dtype, x);
  return [plan = std::move(plan), mode, dtype, empty = element_count(plan.dims) == 0](RunContext& run) {
    visit<Floats>(dtype, [&]<typename T>() {
      T* dx = run.out<T>(0);
      if (empty)
        std::fill(dx, dx + run.output(0).size(), T(0));
      else
        pad_backward(plan, mode, run.in<T>(0), dx);
    });
  };
}

}  // namespace

void register_padding(KernelRegistry& registry) {
  registry.ref("Pad", prepare_pad);
  registry.ref("PadBackward", prepare_pad_backward, kOwnDomain);
}

}  // namespace sardonyx::cpu
