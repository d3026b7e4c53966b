// Gradients of GridSample and AffineGrid, and of DeformConv, which samples and multiplies. `Sample` is a
// GridSample, linear and with zeros outside, whose positions are those of the elements themselves;
// GridSampleBackward(dY, X, grid) gives the derivatives of both.
#include <algorithm>
#include <functional>

#include "ops/convolution.h"
#include "ops/registry/gradient.h"
#include "ops/resize.h"

namespace sardonyx {

namespace {

using Ints = std::vector<int64_t>;

ValueId joined(Compose& c, std::vector<ValueId> parts) {
  return c.op("Concat", std::move(parts), attributes({{"axis", int64_t{0}}}));
}

ValueId reshaped(Compose& c, ValueId x, ValueId dims) {
  return c.op("Reshape", {x, dims}, attributes({{"allowzero", int64_t{1}}}));
}

ValueId part_of(Compose& c, ValueId x, int64_t first, int64_t last) {
  return c.op("Slice", {x, c.ints({first}), c.ints({last})});
}

ValueId dims_of(Compose& c, ValueId x, int64_t first, int64_t last) {
  return c.op("Shape", {x}, attributes({{"start", first}, {"end", last}}));
}

// Arithmetic of one dtype.
struct Numbers {
  Compose& c;
  DType dtype;
  ValueId operator()(double v) const { return c.scalar(dtype, v); }
  // coefficients[0] + coefficients[1] x + ...
  ValueId polynomial(ValueId x, const std::vector<double>& coefficients) const {
    ValueId sum = (*this)(coefficients.back());
    for (size_t i = coefficients.size() - 1; i-- > 0;) sum = c.add(c.mul(sum, x), (*this)(coefficients[i]));
    return sum;
  }
};

// What one axis reads at one of its neighbours, all [images, positions].
struct Tap {
  ValueId index;          // int64 in [0, size)
  ValueId inside;         // kNone: always
  ValueId weight, slope;  // and the derivative of the weight by the position as it was given, or kNone
};

struct Axis {
  ValueId size;  // of the axis, as an int64 scalar
  std::vector<Tap> taps;
};

// x mirrored at both borders until it lies between them, and the derivative of that.
std::pair<ValueId, ValueId> reflected(const Numbers& n, ValueId x, ValueId low, ValueId high) {
  Compose& c = n.c;
  const ValueId range = c.op("Max", {c.sub(high, low), n(1)});  // less only for one element
  const ValueId below = c.op("Less", {x, low}), outside = c.op("Or", {below, c.op("Greater", {x, high})});
  const ValueId distance = c.where(below, c.sub(low, x), c.sub(x, high));
  const ValueId turns = c.op("Floor", {c.div(distance, range)}), rest = c.sub(distance, c.mul(turns, range));
  const ValueId even = c.op("Equal", {c.op("Mod", {turns, n(2)}, attributes({{"fmod", int64_t{1}}})), n(0)});
  const ValueId from_low = c.op("Equal", {below, even});
  const ValueId mirrored = c.where(from_low, c.add(low, rest), c.sub(high, rest));
  const ValueId slope = c.where(even, n(-1), n(1));
  return {c.where(outside, mirrored, x), c.where(outside, slope, n(1))};
}

// The taps of an axis of `size` elements at `given` [images, positions].
Axis make_axis(const Numbers& n, const GridSampleBackwardAttributes& a, ValueId given, ValueId size) {
  Compose& c = n.c;
  const bool aligned = a.align_corners != 0, zeros = a.padding_mode == "zeros",
             reflects = a.padding_mode == "reflection", nearest = a.mode == "nearest",
             cubic = a.mode == "cubic" || a.mode == "bicubic";
  const ValueId count = c.cast(size, n.dtype), last = c.sub(count, n(1));
  const ValueId low = aligned ? n(0) : n(-0.5), high = aligned ? last : c.sub(count, n(0.5));
  ValueId x = given, slope = n(1);
  if (a.absolute == 0) {
    slope = c.mul(aligned ? last : count, n(0.5));
    x = c.sub(c.mul(c.add(given, n(1)), slope), aligned ? n(0) : n(0.5));
  }
  // Whatever is not a number lies outside.
  x = c.where(c.op("IsNaN", {x}), n(-1e9), c.op("Clip", {x, n(-1e9), n(1e9)}));
  if (nearest) x = c.op("Round", {x});
  if (a.padding_mode == "border") {
    const ValueId outside = c.op("Or", {c.op("Less", {x, low}), c.op("Greater", {x, high})});
    x = c.where(outside, c.op("Clip", {x, n(0), last}), x);
    slope = c.where(outside, n(0), slope);
  } else if (reflects) {
    const auto [mirrored, sign] = reflected(n, x, low, high);
    x = mirrored;
    slope = c.mul(slope, sign);
  }
  const ValueId base = c.op("Floor", {x}), r = c.sub(x, base);
  Axis axis{size, {}};
  const auto tap = [&](int64_t offset, ValueId weight, ValueId weight_slope) {
    const ValueId at = offset == 0 ? base : c.add(base, n(static_cast<double>(offset)));
    const ValueId place = reflects ? c.op("Floor", {reflected(n, at, low, high).first}) : at;
    Tap t;
    t.index = c.cast(c.op("Clip", {place, n(0), c.op("Max", {last, n(0)})}), DType::Int64);
    t.inside =
        !zeros ? kNone : c.op("And", {c.op("GreaterOrEqual", {at, n(0)}), c.op("LessOrEqual", {at, last})});
    t.weight = weight;
    t.slope = weight_slope == kNone ? kNone : c.mul(weight_slope, slope);
    axis.taps.push_back(t);
  };
  if (nearest) {
    tap(0, n(1), kNone);
  } else if (cubic) {
    constexpr double k = -0.75;
    const std::vector<double> near = {1, 0, -(k + 3), k + 2}, far = {-4 * k, 8 * k, -5 * k, k};
    const std::vector<double> near_slope = {0, -2 * (k + 3), 3 * (k + 2)},
                              far_slope = {8 * k, -10 * k, 3 * k};
    const ValueId other = c.sub(n(1), r), before = c.add(r, n(1)), after = c.sub(n(2), r);
    tap(-1, n.polynomial(before, far), n.polynomial(before, far_slope));
    tap(0, n.polynomial(r, near), n.polynomial(r, near_slope));
    tap(1, n.polynomial(other, near), c.neg(n.polynomial(other, near_slope)));
    tap(2, n.polynomial(after, far), c.neg(n.polynomial(after, far_slope)));
  } else {
    tap(0, c.sub(n(1), r), n(-1));
    tap(1, r, n(1));
  }
  return axis;
}

// The axes that are sampled, outermost first; the grid [images, ..., axes] lists them innermost first.
struct Sampling {
  std::vector<Axis> axes;
  ValueId x;          // [images, channels, elements]
  ValueId positions;  // the dims of the grid without the first and the last
};

// The arithmetic of positions and sums.
DType wide(DType dtype) { return dtype == DType::Float64 ? dtype : DType::Float32; }
ValueId widened(Compose& c, ValueId x, DType dtype) {
  return wide(dtype) == dtype ? x : c.cast(x, wide(dtype));
}
ValueId narrowed(Compose& c, ValueId x, DType dtype) { return wide(dtype) == dtype ? x : c.cast(x, dtype); }

Sampling make_sampling(Compose& c, const GridSampleBackwardAttributes& a, ValueId x, ValueId grid,
                       int64_t rank, DType dtype) {
  const Numbers n{c, wide(dtype)};
  grid = widened(c, grid, dtype);
  Sampling s;
  s.positions = dims_of(c, grid, 1, -1);
  const Attributes keep = attributes({{"keepdims", int64_t{1}}});
  const ValueId size = c.op("ReduceProd", {s.positions}, keep);
  const ValueId list = reshaped(c, grid, joined(c, {dims_of(c, grid, 0, 1), size, c.ints({rank})}));
  for (int64_t d = 0; d < rank; ++d) {
    const ValueId at = c.op("Slice", {list, c.ints({rank - 1 - d}), c.ints({rank - d}), c.ints({2})});
    const ValueId extent = c.op("Squeeze", {dims_of(c, x, d + 2, d + 3), c.ints({0})});
    s.axes.push_back(make_axis(n, a, c.op("Squeeze", {at, c.ints({2})}), extent));
  }
  const ValueId plane = c.op("ReduceProd", {dims_of(c, x, 2, rank + 2)}, keep);
  s.x = reshaped(c, widened(c, x, dtype), joined(c, {dims_of(c, x, 0, 2), plane}));
  return s;
}

// One neighbour of every position: [images, 1, positions].
struct Corner {
  ValueId index, inside, weight;  // the index [images, channels, positions]
  std::vector<ValueId> slopes;    // [images, positions]: derivatives of the weight by the positions
  ValueId or_zero(Compose& c, ValueId x, ValueId zero) const {
    return inside == kNone ? x : c.where(inside, x, zero);
  }
};

void each_corner(Compose& c, const Sampling& s, const std::function<void(const Corner&)>& f) {
  std::vector<size_t> choice(s.axes.size(), 0);
  for (;;) {
    ValueId index = kNone, inside = kNone, weight = kNone;
    for (size_t d = 0; d < choice.size(); ++d) {
      const Tap& tap = s.axes[d].taps[choice[d]];
      index = d == 0 ? tap.index : c.add(c.mul(index, s.axes[d].size), tap.index);
      inside = d == 0 || tap.inside == kNone ? tap.inside : c.op("And", {inside, tap.inside});
      weight = d == 0 ? tap.weight : c.mul(weight, tap.weight);
    }
    const ValueId axis = c.ints({1});
    const auto of_channels = [&](ValueId v) { return c.op("Unsqueeze", {v, axis}); };
    Corner corner;
    corner.inside = inside == kNone ? kNone : of_channels(inside);
    // The weight of nearest is a number alone.
    corner.weight = s.axes[0].taps.size() == 1 ? weight : of_channels(weight);
    const ValueId single = of_channels(index);
    corner.index =
        c.op("Expand", {single, joined(c, {part_of(c, c.shape_of(s.x), 0, 2), dims_of(c, single, 2, 3)})});
    for (size_t d = 0; d < choice.size() && s.axes[0].taps[0].slope != kNone; ++d) {
      ValueId slope = s.axes[d].taps[choice[d]].slope;
      for (size_t e = 0; e < choice.size(); ++e)
        if (e != d) slope = c.mul(slope, s.axes[e].taps[choice[e]].weight);
      corner.slopes.push_back(slope);
    }
    f(corner);
    size_t d = 0;
    while (d < choice.size() && ++choice[d] == s.axes[d].taps.size()) choice[d++] = 0;
    if (d == choice.size()) return;
  }
}

const Attributes& along_elements() {
  static const Attributes axis = attributes({{"axis", int64_t{2}}});
  return axis;
}

int64_t sampled_rank(const Compose& c, size_t x, size_t grid) {
  const int rank = std::max(c.rank(x), c.rank(grid));
  if (rank < 3) throw ModelError("input 'X'", "a known rank of at least 3", std::to_string(rank));
  return rank - 2;
}

std::vector<ValueId> sample(Compose& c) {
  GridSampleBackwardAttributes a;
  a.absolute = 1;
  const DType dtype = c.dtype(0);
  const Sampling s = make_sampling(c, a, c.in(0), c.in(1), sampled_rank(c, 0, 1), dtype);
  const ValueId zero = c.scalar(wide(dtype), 0);
  ValueId sum = kNone;
  each_corner(c, s, [&](const Corner& corner) {
    const ValueId read = c.op("GatherElements", {s.x, corner.index}, along_elements());
    const ValueId term = corner.or_zero(c, c.mul(read, corner.weight), zero);
    sum = sum == kNone ? term : c.add(sum, term);
  });
  return {narrowed(c, reshaped(c, sum, joined(c, {dims_of(c, c.in(0), 0, 2), s.positions})), dtype)};
}

std::vector<ValueId> grid_sample_backward(Compose& c) {
  const auto a = c.attributes<GridSampleBackwardAttributes>();
  const ValueId x = c.in(1), grid = c.in(2);
  const DType dtype = c.dtype(1);
  const Sampling s = make_sampling(c, a, x, grid, sampled_rank(c, 1, 2), dtype);
  const ValueId zero = c.scalar(wide(dtype), 0);
  const ValueId count = c.op("ReduceProd", {s.positions}, attributes({{"keepdims", int64_t{1}}}));
  const ValueId dy = reshaped(c, widened(c, c.in(0), dtype), joined(c, {dims_of(c, x, 0, 2), count}));
  ValueId dx = c.op("Expand", {zero, c.shape_of(s.x)});
  Attributes add = along_elements();
  add.set("reduction", std::string("add"));
  std::vector<ValueId> sums(s.axes.size(), kNone);  // of the derivatives by the positions
  each_corner(c, s, [&](const Corner& corner) {
    if (c.wants(0)) {
      const ValueId share = c.op("Expand", {c.mul(dy, corner.weight), c.shape_of(corner.index)});
      dx = c.op("ScatterElements", {dx, corner.index, corner.or_zero(c, share, zero)}, add);
    }
    if (!c.wants(1) || corner.slopes.empty()) return;
    const ValueId read = c.op("GatherElements", {s.x, corner.index}, along_elements());
    const ValueId products = c.reduce_sum(corner.or_zero(c, c.mul(dy, read), zero), {1}, false);
    for (size_t d = 0; d < sums.size(); ++d) {
      const ValueId term = c.mul(products, corner.slopes[d]);
      sums[d] = sums[d] == kNone ? term : c.add(sums[d], term);
    }
  });
  dx = narrowed(c, reshaped(c, dx, c.shape_of(x)), dtype);
  if (!c.wants(1)) return {dx, kNone};
  if (sums[0] == kNone) return {dx, c.op("Expand", {c.scalar(dtype, 0), c.shape_of(grid)})};
  std::reverse(sums.begin(), sums.end());
  for (ValueId& sum : sums) sum = c.op("Unsqueeze", {sum, c.ints({2})});
  const ValueId dgrid = c.op("Concat", sums, attributes({{"axis", int64_t{2}}}));
  return {dx, narrowed(c, reshaped(c, dgrid, c.shape_of(grid)), dtype)};
}

void give_sample(Differentiate& d, Attributes a) {
  const DType x = d.dtype(0), grid = d.dtype(1);
  // Of one type, that of the wider of both.
  const DType common = x == grid ? x : std::max(wide(x), wide(grid));
  const auto as = [&](ValueId v, DType from, DType to) { return from == to ? v : d.cast(v, to); };
  const std::vector<ValueId> both = d.builder().ops(
      "GridSampleBackward", {as(d.cotangent(), x, common), as(d.in(0), x, common), as(d.in(1), grid, common)},
      d.needs(1) ? 2 : 1, std::move(a), kOwnDomain);
  d.give(0, as(both[0], common, x));
  if (d.needs(1)) d.give(1, as(both[1], common, grid));
}

// The grid is linear in theta: row for row theta times the positions, with a one behind each.
void affine_grid(Differentiate& d) {
  const Tensor* known = d.constant(1);
  const Type& list = d.type(1);
  const int64_t count = known                                   ? known->size()
                        : list.shape && list.shape->size() == 1 ? (*list.shape)[0].value
                                                                : -1;
  const int64_t r = count > 0 ? count - 2 : d.out_type().rank() - 2;
  if (r != 2 && r != 3) throw ModelError("input 'size'", "a known length of 4 or 5");
  const DType dtype = d.dtype(0);
  std::vector<double> unit(static_cast<size_t>(r * (r + 1)), 0);
  for (int64_t i = 0; i < r; ++i) unit[static_cast<size_t>(i * (r + 2))] = 1;
  const ValueId theta = d.cast(d.builder().constant(Tensor::of(unit, {1, r, r + 1})), dtype);
  const ValueId size = joined(d, {d.ints({1, 1}), part_of(d, d.in(1), 2, r + 2)});
  const ValueId grid =
      d.op("Reshape", {d.op("AffineGrid", {theta, size}, d.node().attributes), d.ints({-1, r})});
  const ValueId ones = d.op("Expand", {d.scalar(dtype, 1), joined(d, {dims_of(d, grid, 0, 1), d.ints({1})})});
  const ValueId base = d.op("Concat", {grid, ones}, attributes({{"axis", int64_t{1}}}));
  const ValueId dy = d.op("Reshape", {d.cotangent(), d.ints({0, -1, r})});
  d.give(0, d.op("MatMul", {d.transpose(dy, {0, 2, 1}), base}));
}

// Patches of X at the moved positions, times the mask, times the weights. Groups of offsets are images of
// their own.
std::vector<ValueId> deform_conv(Compose& c) {
  const auto a = c.attributes<DeformConvAttributes>();
  const DType dtype = c.dtype(0);
  const ValueId x = widened(c, c.in(0), dtype), w = widened(c, c.in(1), dtype),
                offset = widened(c, c.in(2), dtype);
  const int rank_x = std::max(c.rank(0), std::max(c.rank(1), c.rank(2)));
  if (rank_x < 3) throw ModelError("input 'X'", "a known rank of at least 3", std::to_string(rank_x));
  const size_t rank = static_cast<size_t>(rank_x - 2);
  const auto list = [&](const std::optional<Ints>& values, size_t size, int64_t fallback) {
    return values && !values->empty() ? *values : Ints(size, fallback);
  };
  const Ints strides = list(a.strides, rank, 1), dilations = list(a.dilations, rank, 1),
             pads = list(a.pads, 2 * rank, 0);
  const ValueId zero = c.scalar(DType::Int64, 0), one = c.scalar(DType::Int64, 1), none = c.ints({1});
  const ValueId kernel = dims_of(c, w, 2, rank_x), out = dims_of(c, offset, 2, rank_x),
                batch = dims_of(c, x, 0, 1), groups = c.ints({a.offset_group});
  const Attributes keep = attributes({{"keepdims", int64_t{1}}});
  const ValueId taps = c.op("ReduceProd", {kernel}, keep), places = c.op("ReduceProd", {out}, keep);
  const ValueId images = c.mul(batch, groups), all = c.mul(taps, places);
  // The positions without offsets, of every tap and place: [1, taps, axes, places].
  std::vector<ValueId> lists;
  for (size_t d = 0; d < rank; ++d) {
    const auto spread = [&](ValueId sizes, int64_t step, int64_t first, size_t at) {
      const ValueId size = c.op("Gather", {sizes, c.scalar(DType::Int64, static_cast<double>(d))});
      const ValueId range = c.add(c.mul(c.op("Range", {zero, size, one}), c.ints({step})), c.ints({first}));
      Ints dims(2 * rank, 1);
      dims[at] = -1;
      return c.op("Reshape", {range, c.ints(std::move(dims))});
    };
    const ValueId grid =
        c.add(spread(kernel, dilations[d], -pads[d], d), spread(out, strides[d], 0, rank + d));
    lists.push_back(
        reshaped(c, c.op("Expand", {grid, joined(c, {kernel, out})}), joined(c, {none, taps, none, places})));
  }
  const ValueId fixed = c.cast(c.op("Concat", lists, attributes({{"axis", int64_t{2}}})), wide(dtype));
  const ValueId moved =
      c.add(reshaped(c, offset, joined(c, {images, taps, c.ints({rank_x - 2}), places})), fixed);
  // To [images, taps, places, axes], innermost first.
  std::vector<ValueId> columns =
      c.ops("Split", {c.transpose(moved, {0, 1, 3, 2})}, rank,
            attributes({{"axis", int64_t{3}}, {"num_outputs", static_cast<int64_t>(rank)}}));
  std::reverse(columns.begin(), columns.end());
  ValueId positions = rank == 1 ? columns[0] : c.op("Concat", columns, attributes({{"axis", int64_t{3}}}));
  Ints thin(rank - 1, 1);
  positions = reshaped(c, positions, joined(c, {images, all, c.ints(thin), c.ints({rank_x - 2})}));
  const ValueId channels = dims_of(c, x, 1, 2);
  const ValueId planes =
      reshaped(c, x, joined(c, {images, c.div(channels, groups), dims_of(c, x, 2, rank_x)}));
  ValueId patches =
      reshaped(c, c.own("Sample", {planes, positions}), joined(c, {images, c.div(channels, groups), all}));
  if (c.has(4))
    patches = c.mul(patches, reshaped(c, widened(c, c.in(4), dtype), joined(c, {images, none, all})));
  const ValueId parts = c.ints({a.group}), depth = c.mul(c.div(channels, parts), taps),
                rows = c.div(dims_of(c, w, 0, 1), parts);
  const ValueId product = c.op("MatMul", {reshaped(c, w, joined(c, {parts, rows, depth})),
                                          reshaped(c, patches, joined(c, {batch, parts, depth, places}))});
  ValueId y = reshaped(c, product, joined(c, {batch, dims_of(c, w, 0, 1), out}));
  if (c.has(3)) {
    Ints axes(rank);
    for (size_t i = 0; i < rank; ++i) axes[i] = static_cast<int64_t>(i) + 1;
    y = c.add(y, c.op("Unsqueeze", {widened(c, c.in(3), dtype), c.ints(std::move(axes))}));
  }
  return {narrowed(c, y, dtype)};
}

}  // namespace

void register_resize_grid_gradient(OperatorRegistry& r) {
  r.op("Sample", kOwnDomain)
      .ports({{"X"}, {"positions"}}, {{"Y"}})
      .decomposes(sample)
      .differentiates([](Differentiate& d) {
        give_sample(d, attributes({{"absolute", int64_t{1}}}));
      });
  r.op("GridSampleBackward", kOwnDomain)
      .ports({{"dY"}, {"X"}, {"grid"}}, {{"dX", 0, 1}, {"dGrid", 2, 2}})
      .attributes<GridSampleBackwardAttributes>()
      .decomposes(grid_sample_backward);
  r.op("GridSample").differentiates([](Differentiate& d) { give_sample(d, d.node().attributes); });
  r.op("AffineGrid").differentiates(affine_grid);
  r.op("DeformConv").decomposes(deform_conv);
}

}  // namespace sardonyx
