// Pad in its four modes; negative pads crop.
#include "ops/padding.h"

#include <algorithm>
#include <numeric>

#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/strided.h"
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
};

template <typename T>
void pad(const Plan& plan, Mode mode, const T* in, T* out, const T& constant) {
  const Axis& axis = plan.row;
  const int64_t inner = plan.inner, width = axis.out * inner;
  parallel_for(plan.rows, grain_for(5 + static_cast<double>(width * sizeof(T)) * 0.12),
               [&](int64_t begin, int64_t end) {
                 for (int64_t row = begin; row < end; ++row) {
                   int64_t source = 0, scale = 1;
                   for (size_t d = plan.outer.size(), rest = static_cast<size_t>(row); d-- > 0;) {
                     const Axis& o = plan.outer[d];
                     const int64_t position = static_cast<int64_t>(rest % static_cast<size_t>(o.out));
                     const int64_t from = o.from(position, mode);
                     rest /= static_cast<size_t>(o.out);
                     if (from < 0) {
                       source = -1;
                       break;
                     }
                     source += from * scale;
                     scale *= o.in;
                   }
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

Prepared prepare_pad(PrepareContext& ctx) {
  const Mode mode = mode_of(ctx);
  const Dims& in = ctx.dims(0);
  const Dims pads = ctx.host_ints(1);
  Dims axes(in.size());
  std::iota(axes.begin(), axes.end(), 0);
  if (ctx.has_input(3)) axes = ctx.host_ints(3);
  ctx.expect(pads.size() == 2 * axes.size(), "length of input 'pads'", std::to_string(2 * axes.size()),
             std::to_string(pads.size()));
  const DType dtype = ctx.dtype(0);
  if (ctx.has_input(2)) {
    ctx.expect(ctx.dtype(2) == dtype, "type of input 'constant_value'", dtype_name(dtype),
               dtype_name(ctx.dtype(2)));
    ctx.expect(ctx.input(2).size() == 1, "elements of input 'constant_value'", "1",
               std::to_string(ctx.input(2).size()));
  }
  Dims before(in.size(), 0), after(in.size(), 0);
  std::vector<bool> seen(in.size(), false);
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t d = static_cast<size_t>(normalize_axis(axes[i], ctx.rank(0), "value of input 'axes'"));
    ctx.expect(!seen[d], "input 'axes'", "each axis once", to_string(axes));
    seen[d] = true;
    before[d] = pads[i];
    after[d] = pads[axes.size() + i];
  }
  Dims dims = in;
  for (size_t d = 0; d < in.size(); ++d) {
    const std::string name = "pads of dim " + std::to_string(d),
                      got = std::to_string(before[d]) + " and " + std::to_string(after[d]);
    constexpr int64_t most = int64_t{1} << 61;  // no sum of three such numbers leaves int64
    ctx.expect(std::min(before[d], after[d]) > -most && std::max(before[d], after[d]) < most, name,
               "below 2^61", got);
    dims[d] = checked_add(in[d], before[d] + after[d], "dimension of Pad");
    ctx.expect(dims[d] >= 0, name, "at most " + std::to_string(in[d]) + " elements cropped", got);
  }
  if (element_count(dims) == 0) {
    ctx.output(0, dtype, std::move(dims));
    return [](RunContext&) {};
  }
  Plan plan;
  size_t last = in.size();  // the last axis that is padded
  while (last > 0 && before[last - 1] == 0 && after[last - 1] == 0) --last;
  if (last == 0) {
    ctx.alias(0, 0, in);
    return [](RunContext&) {};
  }
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
  ctx.output(0, dtype, std::move(dims));
  return [plan = std::move(plan), mode, dtype](RunContext& run) {
    visit_storage(dtype, [&]<typename T>() {
      const T* constant = run.in<T>(2);
      pad(plan, mode, run.in<T>(0), run.out<T>(0), constant ? *constant : T{});
    });
  };
}

}  // namespace

void register_padding(KernelRegistry& registry) { registry.ref("Pad", prepare_pad); }

}  // namespace sardonyx::cpu
