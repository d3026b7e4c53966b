// Gradients of RoiAlign and MaxRoiPool by the image; as in PyTorch, nothing flows to the regions.
// RoiAlignBackward(dY, rois, batch_indices, shape of X, X) needs X where the mode is max,
// MaxRoiPoolBackward(dY, X, rois) everywhere.
#include "ops/pooling.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

using Ints = std::vector<int64_t>;

DType wide(DType dtype) { return dtype == DType::Float64 ? dtype : DType::Float32; }
ValueId widened(Compose& c, ValueId x, DType dtype) {
  return wide(dtype) == dtype ? x : c.cast(x, wide(dtype));
}
ValueId narrowed(Compose& c, ValueId x, DType dtype) { return wide(dtype) == dtype ? x : c.cast(x, dtype); }

ValueId joined(Compose& c, std::vector<ValueId> parts) {
  return c.op("Concat", std::move(parts), attributes({{"axis", int64_t{0}}}));
}
ValueId reshaped(Compose& c, ValueId x, ValueId dims) {
  return c.op("Reshape", {x, dims}, attributes({{"allowzero", int64_t{1}}}));
}
ValueId wrapped(Compose& c, ValueId x, Ints axes) { return c.op("Unsqueeze", {x, c.ints(std::move(axes))}); }
ValueId element(Compose& c, ValueId list, int64_t i) {
  return c.op("Gather", {list, c.scalar(DType::Int64, static_cast<double>(i))});
}
ValueId column(Compose& c, ValueId table, int64_t i) {
  return c.op("Gather", {table, c.scalar(DType::Int64, static_cast<double>(i))},
              attributes({{"axis", int64_t{1}}}));
}
ValueId range(Compose& c, ValueId count) {
  return c.op("Range", {c.scalar(DType::Int64, 0), count, c.scalar(DType::Int64, 1)});
}

// Images of the regions [regions, channels, elements], each added to its own in a tensor of `dims`.
ValueId gathered(Compose& c, ValueId parts, ValueId batch, ValueId dims, DType dtype) {
  const ValueId image = wrapped(c, range(c, element(c, dims, 0)), {1});
  const ValueId belongs = c.cast(c.op("Equal", {image, wrapped(c, batch, {0})}), dtype);
  const ValueId rows = c.op("Flatten", {parts}, attributes({{"axis", int64_t{1}}}));
  return reshaped(c, c.op("MatMul", {belongs, rows}), dims);
}

// The samples of all bins of one axis, [regions, bins, samples].
struct Samples {
  ValueId at;              // where, between the first and the last element
  ValueId exists, inside;  // whether the region has so many, and whether the image has the element
  ValueId count;           // samples of a bin of each region: [regions]
  ValueId size;            // elements of the axis, an int64 scalar
};

Samples make_samples(Compose& c, const RoiAlignAttributes& a, ValueId begin, ValueId end, int64_t bins,
                     ValueId size, DType dtype) {
  const auto n = [&](double v) { return c.scalar(dtype, v); };
  const ValueId scale = n(static_cast<double>(a.spatial_scale));
  const bool half_pixel = a.coordinate_transformation_mode == "half_pixel";
  const ValueId start = half_pixel ? c.sub(c.mul(begin, scale), n(0.5)) : c.mul(begin, scale);
  ValueId extent = c.mul(c.sub(end, begin), scale);
  if (!half_pixel) extent = c.op("Max", {extent, n(1)});
  const ValueId bin = c.div(extent, n(static_cast<double>(bins)));
  Samples s;
  s.size = size;
  s.count = a.sampling_ratio > 0 ? c.op("Expand", {n(static_cast<double>(a.sampling_ratio)), c.shape_of(bin)})
                                 : c.op("Ceil", {bin});
  const ValueId most = c.op("ReduceMax", {joined(c, {s.count, c.op("Reshape", {n(1), c.ints({1})})})},
                            attributes({{"keepdims", int64_t{0}}}));
  const ValueId i = c.cast(range(c, c.cast(most, DType::Int64)), dtype);
  const ValueId bins_first =
      wrapped(c,
              c.add(wrapped(c, start, {1}),
                    c.mul(wrapped(c, bin, {1}),
                          c.cast(range(c, c.scalar(DType::Int64, static_cast<double>(bins))), dtype))),
              {2});
  const ValueId counts = wrapped(c, s.count, {1, 2});
  const ValueId at = c.add(bins_first, c.div(c.mul(c.add(i, n(0.5)), wrapped(c, bin, {1, 2})), counts));
  const ValueId limit = c.cast(size, dtype);
  s.exists = c.op("And", {c.op("Less", {i, counts}), c.op("Equal", {at, at})});
  s.inside = c.op("And", {c.op("GreaterOrEqual", {at, n(-1)}), c.op("LessOrEqual", {at, limit})});
  s.at = c.op("Clip", {c.where(c.op("And", {s.exists, s.inside}), at, n(0)), n(0), c.sub(limit, n(1))});
  return s;
}

// The weights of every element in the sums of the bins: [regions, bins, elements].
ValueId bin_weights(Compose& c, const Samples& s, DType dtype) {
  const ValueId distance = c.op("Abs", {c.sub(wrapped(c, s.at, {3}), c.cast(range(c, s.size), dtype))});
  const ValueId zero = c.scalar(dtype, 0);
  const ValueId tent = c.op("Max", {c.sub(c.scalar(dtype, 1), distance), zero});
  return c.reduce_sum(c.where(wrapped(c, c.op("And", {s.exists, s.inside}), {3}), tent, zero), {2}, false);
}

// The two elements that each sample reads: [regions, bins, 2 samples].
struct Reads {
  ValueId index, weight, exists, inside;
};
Reads make_reads(Compose& c, const Samples& s, DType dtype) {
  const ValueId low = c.op("Floor", {s.at}), fraction = c.sub(s.at, low), one = c.scalar(dtype, 1);
  const ValueId last = c.sub(c.cast(s.size, dtype), one);
  const Attributes axis = attributes({{"axis", int64_t{2}}});
  const auto both = [&](ValueId x, ValueId y) { return c.op("Concat", {x, y}, axis); };
  return {c.cast(both(low, c.op("Min", {c.add(low, one), last})), DType::Int64),
          both(c.sub(one, fraction), fraction), both(s.exists, s.exists), both(s.inside, s.inside)};
}

// Of all weighted elements of a bin, the first largest: where it is among the elements of the region's image,
// and its weight, [regions, channels, bins].
struct Largest {
  ValueId planes;  // the images of the regions, [regions, channels, elements]
  ValueId place, weight;
};
Largest largest_read(Compose& c, const Reads& rows, const Reads& columns, ValueId x, ValueId bins,
                     ValueId batch, ValueId width, DType dtype) {
  // [regions, 1, rows of bins, columns of bins, reads of rows, reads of columns]
  const auto down = [&](ValueId v) { return wrapped(c, v, {1, 3, 5}); };
  const auto across = [&](ValueId v) { return wrapped(c, v, {1, 2, 4}); };
  const ValueId zero = c.scalar(dtype, 0);
  const ValueId exists = c.op("And", {down(rows.exists), across(columns.exists)}),
                inside = c.op("And", {exists, c.op("And", {down(rows.inside), across(columns.inside)})});
  const ValueId index = c.add(c.mul(down(rows.index), width), across(columns.index));
  const ValueId weight = c.where(inside, c.mul(down(rows.weight), across(columns.weight)), zero);
  const ValueId planes = c.op("Gather", {x, batch});
  const ValueId lead = c.op("Shape", {planes}, attributes({{"end", int64_t{2}}})), rest = c.ints({-1});
  const auto of_channels = [&](ValueId v) {
    const ValueId dims = c.op("Shape", {v}, attributes({{"start", int64_t{2}}}));
    return c.op("Expand", {v, joined(c, {lead, dims})});
  };
  const Attributes elements = attributes({{"axis", int64_t{2}}}), last = attributes({{"axis", int64_t{-1}}});
  const ValueId places = of_channels(index), weights = of_channels(weight);
  const ValueId read =
      c.op("GatherElements", {planes, c.op("Reshape", {places, joined(c, {lead, rest})})}, elements);
  const ValueId values = c.where(inside, c.mul(c.op("Reshape", {read, c.shape_of(places)}), weights), zero);
  const ValueId lowest = c.scalar(dtype, -std::numeric_limits<double>::infinity());
  const ValueId of_bin = joined(c, {lead, bins, rest});
  const auto listed = [&](ValueId v) { return c.op("Reshape", {v, of_bin}); };
  const ValueId best = c.op("ArgMax", {listed(c.where(exists, values, lowest))}, last);
  const ValueId one_each = joined(c, {lead, rest});
  const auto chosen = [&](ValueId v) {
    return c.op("Reshape", {c.op("GatherElements", {listed(v), best}, last), one_each});
  };
  return {planes, chosen(places), chosen(weights)};
}

// What RoiAlignBackward reads, f32 at least.
struct Regions {
  ValueId batch, dims, height, width;
  Samples rows, columns;
  Regions(Compose& c, const RoiAlignAttributes& a, DType given)
      : batch(c.in(2)), dims(c.in(3)), height(element(c, dims, 2)), width(element(c, dims, 3)) {
    const DType dtype = wide(given);
    const ValueId rois = widened(c, c.in(1), given);
    rows = make_samples(c, a, column(c, rois, 1), column(c, rois, 3), a.output_height, height, dtype);
    columns = make_samples(c, a, column(c, rois, 0), column(c, rois, 2), a.output_width, width, dtype);
  }
  // Images as [images, channels, elements].
  ValueId planes(Compose& c, ValueId images) const {
    return reshaped(c, images,
                    joined(c, {c.op("Slice", {dims, c.ints({0}), c.ints({2})}),
                               c.op("Reshape", {c.mul(height, width), c.ints({1})})}));
  }
  Largest largest(Compose& c, ValueId x, ValueId dy, DType dtype) const {
    const ValueId bins = c.op("Shape", {dy}, attributes({{"start", int64_t{2}}}));
    return largest_read(c, make_reads(c, rows, dtype), make_reads(c, columns, dtype), planes(c, x), bins,
                        batch, width, dtype);
  }
};

std::vector<ValueId> roi_align_backward(Compose& c) {
  const auto a = c.attributes<RoiAlignAttributes>();
  const DType given = c.dtype(0), dtype = wide(given);
  const ValueId dy = widened(c, c.in(0), given);
  const Regions r(c, a, given);
  ValueId parts;
  if (a.mode == "max") {
    const Largest largest = r.largest(c, widened(c, c.in(4), given), dy, dtype);
    const ValueId share = c.mul(c.op("Reshape", {dy, c.shape_of(largest.weight)}), largest.weight);
    parts = c.op("ScatterElements",
                 {c.op("Expand", {c.scalar(dtype, 0), c.shape_of(largest.planes)}), largest.place, share},
                 attributes({{"axis", int64_t{2}}, {"reduction", std::string("add")}}));
  } else {
    const ValueId count = c.op("Max", {c.mul(r.rows.count, r.columns.count), c.scalar(dtype, 1)});
    const ValueId share = c.div(dy, wrapped(c, count, {1, 2, 3}));
    const ValueId down = wrapped(c, c.transpose(bin_weights(c, r.rows, dtype), {0, 2, 1}), {1}),
                  across = wrapped(c, bin_weights(c, r.columns, dtype), {1});
    parts = c.op("MatMul", {c.op("MatMul", {down, share}), across});
  }
  return {narrowed(c, gathered(c, parts, r.batch, r.dims, dtype), given)};
}

// The elements of one axis that belong to each bin: [regions, bins, elements].
ValueId bin_mask(Compose& c, ValueId begin, ValueId end, double scale, int64_t bins, ValueId size,
                 DType dtype) {
  const auto n = [&](double v) { return c.scalar(dtype, v); };
  // Halves are rounded away from zero.
  const auto rounded = [&](ValueId x) {
    const ValueId scaled = c.mul(x, n(scale));
    return c.mul(c.op("Sign", {scaled}), c.op("Floor", {c.add(c.op("Abs", {scaled}), n(0.5))}));
  };
  const ValueId start = rounded(begin);
  const ValueId extent = c.op("Max", {c.add(c.sub(rounded(end), start), n(1)), n(1)});
  const ValueId step = wrapped(c, c.div(extent, n(static_cast<double>(bins))), {1});
  const ValueId i = c.cast(range(c, c.scalar(DType::Int64, static_cast<double>(bins))), dtype);
  const ValueId origin = wrapped(c, start, {1});
  const ValueId from = c.add(c.op("Floor", {c.mul(i, step)}), origin),
                to = c.add(c.op("Ceil", {c.mul(c.add(i, n(1)), step)}), origin);
  const ValueId at = c.cast(range(c, size), dtype);
  return c.op("And",
              {c.op("GreaterOrEqual", {at, wrapped(c, from, {2})}), c.op("Less", {at, wrapped(c, to, {2})})});
}

std::vector<ValueId> max_roi_pool_backward(Compose& c) {
  const auto a = c.attributes<MaxRoiPoolAttributes>();
  if (!a.pooled_shape || a.pooled_shape->size() != 2)
    throw ModelError("attribute 'pooled_shape'", "two values");
  const DType given = c.dtype(0), dtype = wide(given);
  const ValueId dy = widened(c, c.in(0), given), x = widened(c, c.in(1), given);
  const ValueId rois = c.cast(c.in(2), DType::Float64), dims = c.shape_of(x);
  const double scale = static_cast<double>(a.spatial_scale);
  const ValueId batch = c.cast(column(c, rois, 0), DType::Int64);
  const ValueId down = bin_mask(c, column(c, rois, 2), column(c, rois, 4), scale, a.pooled_shape->at(0),
                                element(c, dims, 2), DType::Float64),
                across = bin_mask(c, column(c, rois, 1), column(c, rois, 3), scale, a.pooled_shape->at(1),
                                  element(c, dims, 3), DType::Float64);
  // [regions, channels, rows of bins, columns of bins, elements]
  const ValueId mask = c.op("And", {wrapped(c, down, {1, 3, 5}), wrapped(c, across, {1, 2, 4})});
  const ValueId zero = c.scalar(dtype, 0), lowest = c.scalar(dtype, -std::numeric_limits<double>::infinity());
  const ValueId values = c.where(mask, wrapped(c, c.op("Gather", {x, batch}), {2, 3}), lowest);
  const Attributes last = attributes({{"axis", int64_t{-1}}});
  const ValueId listed = c.op("Reshape", {values, joined(c, {c.shape_of(dy), c.ints({-1})})});
  const ValueId best = c.op("ArgMax", {listed}, last);
  const ValueId hit = c.op(
      "Equal", {range(c, c.op("Squeeze",
                              {c.op("Shape", {listed}, attributes({{"start", int64_t{-1}}})), c.ints({0})})),
                best});
  const ValueId some = c.op("Greater", {c.op("GatherElements", {listed, best}, last), lowest});
  const ValueId share = c.where(c.op("And", {hit, some}), wrapped(c, dy, {4}), zero);
  return {narrowed(c, gathered(c, c.reduce_sum(share, {2, 3}, false), batch, dims, dtype), given)};
}

void roi_align(Differentiate& d) {
  if (!d.needs(0)) return;
  std::vector<ValueId> operands = {d.cotangent(), d.in(1), d.in(2), d.shape_of(d.in(0))};
  if (d.attributes<RoiAlignAttributes>().mode == "max") operands.push_back(d.in(0));
  d.give(0, d.own("RoiAlignBackward", std::move(operands), d.node().attributes));
}

// The average is linear in the image. The largest of a bin is one element of it times a number, whichever it
// is of what the image has there: linear in dY, and nothing flows to the image.
void roi_align_backward_gradient(Differentiate& d) {
  const auto a = d.attributes<RoiAlignAttributes>();
  if (a.mode != "max") {
    d.give(0, d.op("RoiAlign", {d.cotangent(), d.in(1), d.in(2)}, d.node().attributes));
    return;
  }
  if (!d.needs(0)) return;
  const DType given = d.dtype(0), dtype = wide(given);
  const Regions r(d, a, given);
  const Largest largest = r.largest(d, widened(d, d.in(4), given), d.in(0), dtype);
  const ValueId images = d.op("Gather", {r.planes(d, widened(d, d.cotangent(), given)), r.batch});
  const ValueId read = d.op("GatherElements", {images, largest.place}, attributes({{"axis", int64_t{2}}}));
  d.give(0, narrowed(d, reshaped(d, d.mul(read, largest.weight), d.shape_of(d.in(0))), given));
}

}  // namespace

void register_pooling_roi_gradient(OperatorRegistry& r) {
  r.op("RoiAlignBackward", kOwnDomain)
      .ports({{"dY"},
              {"rois"},
              {"batch_indices", "tensor(int64)"},
              {"shape", "tensor(int64)"},
              {"X", "T", true}},
             {{"dX", 0, -1, 3}})
      .attributes<RoiAlignAttributes>()
      .shape_operands({3})
      .decomposes(roi_align_backward)
      .differentiates(roi_align_backward_gradient);
  r.op("MaxRoiPoolBackward", kOwnDomain)
      .ports({{"dY"}, {"X"}, {"rois"}}, {{"dX", 0, 1}})
      .attributes<MaxRoiPoolAttributes>()
      .decomposes(max_roi_pool_backward);
  r.op("RoiAlign").differentiates(roi_align);
  r.op("MaxRoiPool").differentiates([](Differentiate& d) {
    d.give(0, d.own("MaxRoiPoolBackward", {d.cotangent(), d.in(0), d.in(1)}, d.node().attributes));
  });
}

}  // namespace sardonyx
