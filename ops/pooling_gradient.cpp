// Gradients of the poolings. MaxPoolBackward(dY, X) gives all of an element of dY to the first largest
// element of its window, AveragePoolBackward(dY, shape of X) an equal share to each, and so does
// GlobalAveragePoolBackward.
#include "ops/convolution_gradient.h"
#include "ops/pooling.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

const std::vector<int64_t>& kernel_of(const PoolAttributes& a) {
  if (!a.kernel_shape) throw ModelError("attribute 'kernel_shape'", "a list", "none");
  return *a.kernel_shape;
}

GridSpec grid_of(const PoolAttributes& a) {
  return GridSpec(kernel_of(a).size(), a.auto_pad, a.strides, a.dilations, a.pads);
}

ValueId joined(Compose& c, std::vector<ValueId> dims) {
  return c.op("Concat", std::move(dims), attributes({{"axis", int64_t{0}}}));
}

ValueId reshaped(Compose& c, ValueId x, ValueId dims) {
  return c.op("Reshape", {x, dims}, attributes({{"allowzero", int64_t{1}}}));
}

ValueId flat(Compose& c, ValueId x) { return c.op("Reshape", {x, c.ints({-1})}); }

// Every element of dY added to all elements of an image of `shape` that its window covers.
ValueId spread(Compose& c, ValueId dy, ValueId shape, const GridSpec& grid,
               const std::vector<int64_t>& kernel) {
  const int64_t rank = static_cast<int64_t>(grid.rank());
  const ValueId in = c.op("Slice", {shape, c.ints({2}), c.ints({rank + 2})}), out = dims_from(c, dy, 2);
  const ValueId planes = c.op("ReduceProd", {c.op("Slice", {shape, c.ints({0}), c.ints({2})})},
                              attributes({{"keepdims", int64_t{1}}}));
  std::vector<int64_t> ones = {1, 1};
  ones.insert(ones.end(), kernel.begin(), kernel.end());
  const ValueId taps = c.op("Expand", {c.scalar(c.dtype(0), 1), c.ints(std::move(ones))});
  const ValueId begin = pads_begin(c, grid, in, out, c.ints(kernel));
  const ValueId image =
      fold_windows(c, reshaped(c, dy, joined(c, {planes, c.ints({1}), out})), taps, in, begin, grid, 1);
  return reshaped(c, image, shape);
}

// How many elements each position's mean is of, in a shape that broadcasts to dY.
ValueId counts(Compose& c, ValueId dy, ValueId shape, const GridSpec& grid,
               const std::vector<int64_t>& kernel, const AveragePoolAttributes& a) {
  const int64_t rank = static_cast<int64_t>(grid.rank());
  bool unpadded = true;
  for (const int64_t pad : grid.pads) unpadded = unpadded && pad == 0;
  if (a.ceil_mode == 0 && !grid.same() && (unpadded || a.count_include_pad != 0)) {
    double count = 1;
    for (const int64_t k : kernel) count *= static_cast<double>(k);
    return c.scalar(c.dtype(0), count);
  }
  const ValueId in = c.op("Slice", {shape, c.ints({2}), c.ints({rank + 2})}), out = dims_from(c, dy, 2);
  const ValueId begin = pads_begin(c, grid, in, out, c.ints(kernel));
  ValueId limit = in;
  if (a.count_include_pad != 0 && grid.same())
    limit = c.sub(c.op("Max", {spanned(c, grid, out, c.ints(kernel)), in}), begin);
  else if (a.count_include_pad != 0)
    limit = c.add(in, c.ints(std::vector<int64_t>(grid.pads.begin() + rank, grid.pads.end())));
  const ValueId zero = c.scalar(DType::Int64, 0), one = c.scalar(DType::Int64, 1);
  const auto element = [&](ValueId list, int64_t i) {
    return c.op("Gather", {list, c.scalar(DType::Int64, static_cast<double>(i))});
  };
  ValueId product = kNone;
  for (int64_t i = 0; i < rank; ++i) {
    const size_t axis = static_cast<size_t>(i);
    const ValueId first = c.sub(c.mul(c.op("Range", {zero, element(out, i), one}),
                                      c.scalar(DType::Int64, static_cast<double>(grid.strides[axis]))),
                                element(begin, i));
    std::vector<int64_t> offsets;
    for (int64_t k = 0; k < kernel[axis]; ++k) offsets.push_back(k * grid.dilations[axis]);
    const ValueId at = c.add(c.op("Unsqueeze", {first, c.ints({1})}), c.ints(std::move(offsets)));
    ValueId inside = c.op("Less", {at, element(limit, i)});
    if (a.count_include_pad == 0) inside = c.op("And", {inside, c.op("GreaterOrEqual", {at, zero})});
    std::vector<int64_t> dims(static_cast<size_t>(rank - i), 1);
    dims[0] = -1;
    const ValueId count =
        c.op("Reshape", {c.reduce_sum(c.cast(inside, c.dtype(0)), {1}, false), c.ints(std::move(dims))});
    product = product == kNone ? count : c.mul(product, count);
  }
  return product;
}

std::vector<ValueId> average_pool_backward(Compose& c) {
  const auto a = c.attributes<AveragePoolAttributes>();
  const GridSpec grid = grid_of(a);
  const ValueId share = c.div(c.in(0), counts(c, c.in(0), c.in(1), grid, kernel_of(a), a));
  return {spread(c, share, c.in(1), grid, kernel_of(a))};
}

// Places in the flattened input; -1 for a window that lies in the padding throughout.
ValueId places(Compose& c, ValueId x, Attributes a) {
  a.set("storage_order", int64_t{0});
  return c.ops("MaxPool", {x}, 2, std::move(a))[1];
}

std::vector<ValueId> max_pool_backward(Compose& c) {
  const ValueId x = c.in(1), at = places(c, x, c.node().attributes), none = c.scalar(DType::Int64, 0);
  const ValueId zero = c.scalar(c.dtype(0), 0), empty = c.op("Less", {at, none});
  const ValueId zeros = c.op("Expand", {zero, c.op("Reshape", {c.op("Size", {x}), c.ints({1})})});
  const ValueId sums = c.op(
      "ScatterElements", {zeros, flat(c, c.where(empty, none, at)), flat(c, c.where(empty, zero, c.in(0)))},
      attributes({{"reduction", std::string("add")}}));
  return {reshaped(c, sums, c.shape_of(x))};
}

void max_pool_backward_gradient(Differentiate& d) {
  if (!d.needs(0)) return;
  const ValueId at = places(d, d.in(1), d.node().attributes), none = d.scalar(DType::Int64, 0);
  const ValueId empty = d.op("Less", {at, none}), zero = d.scalar(d.dtype(0), 0);
  const ValueId read = d.op("Gather", {flat(d, d.cotangent()), d.where(empty, none, at)});
  d.give(0, d.where(empty, zero, read));
}

void max_pool(Differentiate& d) {
  Attributes a = d.node().attributes;
  a.erase("storage_order");
  d.give(0, d.own("MaxPoolBackward", {d.cotangent(), d.in(0)}, std::move(a)));
}

// The first of the largest elements of a plane gets all of it.
void global_max_pool(Differentiate& d) {
  const ValueId x = d.in(0);
  const ValueId lead = d.op("Shape", {x}, attributes({{"end", int64_t{2}}})), any = d.ints({-1});
  const ValueId rows = d.op("Reshape", {x, joined(d, {lead, any})});
  const ValueId best = d.op("ArgMax", {rows}, attributes({{"axis", int64_t{2}}}));
  const ValueId zero = d.scalar(DType::Int64, 0), one = d.scalar(DType::Int64, 1);
  const ValueId length = d.op("Squeeze", {dim_of(d, rows, 2), d.ints({0})});
  const ValueId hit = d.op("Equal", {d.op("Range", {zero, length, one}), best});
  const ValueId dy = d.op("Reshape", {d.cotangent(), joined(d, {lead, d.ints({1})})});
  d.give(0, reshaped(d, d.where_else_zero(hit, dy), d.shape_of(x)));
}

std::vector<ValueId> global_average_pool_backward(Compose& c) {
  const ValueId dims = c.in(1), spatial = c.op("Slice", {dims, c.ints({2}), c.shape_of(dims)});
  const ValueId count = c.op("ReduceProd", {spatial}, attributes({{"keepdims", int64_t{0}}}));
  return {c.op("Expand", {c.div(c.in(0), c.cast(count, c.dtype(0))), dims})};
}

// dY / Y^(p - 1); zero where Y is.
ValueId over_power(Differentiate& d, int64_t p) {
  if (p == 1) return d.cotangent();
  const ValueId y = d.out(), zero = d.scalar(d.dtype(0), 0);
  const ValueId power = p == 2 ? y : d.op("Pow", {y, d.scalar(d.dtype(0), static_cast<double>(p - 1))});
  return d.where(d.op("Equal", {y, zero}), zero, d.div(d.cotangent(), power));
}

// The derivative of |x|^p / p.
ValueId power_slope(Differentiate& d, int64_t p) {
  const ValueId x = d.in(0);
  if (p == 2) return x;
  const ValueId sign = d.op("Sign", {x});
  if (p == 1) return sign;
  return d.mul(sign, d.op("Pow", {d.op("Abs", {x}), d.scalar(d.dtype(0), static_cast<double>(p - 1))}));
}

void lp_pool(Differentiate& d) {
  const auto a = d.attributes<LpPoolAttributes>();
  const ValueId sums = spread(d, over_power(d, a.p), d.shape_of(d.in(0)), grid_of(a), kernel_of(a));
  d.give(0, d.mul(sums, power_slope(d, a.p)));
}

void global_lp_pool(Differentiate& d) {
  const int64_t p = d.attributes<GlobalLpPoolAttributes>().p;
  d.give(0, d.mul(over_power(d, p), power_slope(d, p)));
}

// Elements of dY at the places that were written to; an output_shape adds zeros behind the image that the
// places are counted in.
void max_unpool(Differentiate& d) {
  const auto a = d.attributes<MaxUnpoolAttributes>();
  ValueId dy = d.cotangent();
  if (d.has(2)) {
    if (!a.kernel_shape) throw ModelError("attribute 'kernel_shape'", "a list", "none");
    const GridSpec grid(a.kernel_shape->size(), "NOTSET", a.strides, std::nullopt, a.pads);
    const ValueId x = d.in(0);
    std::vector<int64_t> cut = *a.kernel_shape, axes;
    for (size_t i = 0; i < grid.rank(); ++i) {
      cut[i] -= grid.strides[i] + grid.pads[i] + grid.pads[i + grid.rank()];
      axes.push_back(static_cast<int64_t>(i) + 2);
    }
    const ValueId image = d.add(d.mul(dims_from(d, x, 2), d.ints(grid.strides)), d.ints(std::move(cut)));
    dy = d.op("Slice", {dy, d.ints(std::vector<int64_t>(grid.rank(), 0)), image, d.ints(std::move(axes))});
  }
  d.give(0, d.op("Gather", {flat(d, dy), d.in(1)}));
}

}  // namespace

void register_pooling_gradient(OperatorRegistry& r) {
  r.op("MaxPoolBackward", kOwnDomain)
      .ports({{"dY"}, {"X"}}, {{"dX", 0, 1}})
      .attributes<PoolAttributes>()
      .decomposes(max_pool_backward)
      .narrows(Narrow::Between)
      .differentiates(max_pool_backward_gradient);
  r.op("AveragePoolBackward", kOwnDomain)
      .ports({{"dY"}, {"shape", "tensor(int64)"}}, {{"dX", 0, -1, 1}})
      .attributes<AveragePoolAttributes>()
      .shape_operands({1})
      .decomposes(average_pool_backward)
      .narrows(Narrow::Between)
      .differentiates(
          [](Differentiate& d) { d.give(0, d.op("AveragePool", {d.cotangent()}, d.node().attributes)); });
  r.op("GlobalAveragePoolBackward", kOwnDomain)
      .ports({{"dY"}, {"shape", "tensor(int64)"}}, {{"dX", 0, -1, 1}})
      .shape_operands({1})
      .decomposes(global_average_pool_backward)
      .narrows(Narrow::Between)
      .differentiates([](Differentiate& d) { d.give(0, d.op("GlobalAveragePool", {d.cotangent()})); });
  r.op("MaxPool").differentiates(max_pool);
  r.op("AveragePool").differentiates([](Differentiate& d) {
    d.give(0, d.own("AveragePoolBackward", {d.cotangent(), d.shape_of(d.in(0))}, d.node().attributes));
  });
  r.op("GlobalMaxPool").differentiates(global_max_pool);
  r.op("GlobalAveragePool").differentiates([](Differentiate& d) {
    d.give(0, d.own("GlobalAveragePoolBackward", {d.cotangent(), d.shape_of(d.in(0))}));
  });
  r.op("LpPool").differentiates(lp_pool);
  r.op("GlobalLpPool").differentiates(global_lp_pool);
  r.op("MaxUnpool").differentiates(max_unpool);
}

}  // namespace sardonyx
