// The gradient of Resize, which is linear in each axis: ResizeBackward(dY, shape of X, roi, scales, sizes).
// Regions, scales and sizes are taken as they are: nothing flows to them.
#include <numeric>

#include "ops/registry/gradient.h"
#include "ops/resize.h"

namespace sardonyx {

namespace {

using Ints = std::vector<int64_t>;
enum Operand : size_t { kDy, kDims, kRoi, kScales, kSizes };

ValueId joined(Compose& c, std::vector<ValueId> parts) {
  return c.op("Concat", std::move(parts), attributes({{"axis", int64_t{0}}}));
}

ValueId element(Compose& c, ValueId list, int64_t i) {
  return c.op("Slice", {list, c.ints({i}), c.ints({i + 1})});
}

int64_t rank_of(const Compose& c) {
  if (c.rank(kDy) >= 0) return c.rank(kDy);
  const Type& dims = c.type(kDims);
  if (!dims.shape || dims.shape->size() != 1 || !(*dims.shape)[0].known())
    throw ModelError("input 'dY'", "a known rank", "an unknown one");
  return (*dims.shape)[0].value;
}

std::optional<double> constant_element(const Compose& c, size_t input, size_t i) {
  const Tensor* values = c.constant(input);
  if (!values || static_cast<size_t>(values->size()) <= i) return std::nullopt;
  return values->to_doubles()[i];
}

bool given(const Compose& c, size_t input) {
  return c.has(input) && !(c.constant(input) && c.constant(input)->size() == 0);
}

// Whether axis `axis`, the i-th that is resized, is known to stay as it is.
bool untouched(const Compose& c, const ResizeAttributes& a, size_t i, int64_t axis) {
  if (a.coordinate_transformation_mode == "tf_crop_and_resize") return false;
  if (given(c, kScales)) return constant_element(c, kScales, i) == 1.0;
  const auto in = constant_element(c, kDims, static_cast<size_t>(axis)), out = constant_element(c, kSizes, i);
  return a.keep_aspect_ratio_policy == "stretch" && in && in == out;
}

// What Resize makes of the unit vectors along the i-th of its axes: [out, in].
ValueId axis_matrix(Compose& c, const ResizeAttributes& a, const Ints& axes, size_t i, DType dtype) {
  const int64_t count = static_cast<int64_t>(axes.size()), at = static_cast<int64_t>(i);
  const ValueId dims = c.in(kDims), in = element(c, dims, axes[i]);
  const ValueId units = c.op("EyeLike", {c.op("ConstantOfShape", {joined(c, {in, in})})},
                             attributes({{"dtype", static_cast<int64_t>(dtype)}}));
  const bool crops = a.coordinate_transformation_mode == "tf_crop_and_resize" && c.has(kRoi);
  Attributes same = c.node().attributes;
  same.set("extrapolation_value", 0.0f);
  const auto resize = [&](ValueId x, ValueId roi, ValueId scales, ValueId sizes, Ints resized) {
    same.set("axes", std::move(resized));
    std::vector<ValueId> operands = {x, roi, scales};
    if (sizes != kNone) operands.push_back(sizes);
    return c.op("Resize", std::move(operands), same);
  };
  if (given(c, kScales) || a.keep_aspect_ratio_policy == "stretch") {
    same.erase("keep_aspect_ratio_policy");
    const ValueId roi =
        crops ? joined(c, {element(c, c.in(kRoi), at), element(c, c.in(kRoi), count + at)}) : kNone;
    return given(c, kScales) ? resize(units, roi, element(c, c.in(kScales), at), kNone, {0})
                             : resize(units, roi, kNone, element(c, c.in(kSizes), at), {0});
  }
  // The scale follows from the sizes of all axes: the unit vectors are the same at each place of the others.
  std::vector<ValueId> all;
  Ints lead(axes.size(), 1), order(axes.size()), firsts;
  std::iota(order.begin(), order.end(), int64_t{0});
  lead[i] = -1;
  for (const int64_t axis : axes) all.push_back(element(c, dims, axis));
  all.push_back(in);
  const ValueId column = c.op("Reshape", {units, joined(c, {c.ints(lead), in})});
  ValueId roi = kNone;
  if (crops) {
    std::vector<ValueId> parts;
    for (int64_t k = 0; k < 2 * count; ++k)
      parts.push_back(k % count == at
                          ? element(c, c.in(kRoi), k)
                          : c.op("Reshape", {c.scalar(DType::Float64, k < count ? 0 : 1), c.ints({1})}));
    roi = joined(c, std::move(parts));
  }
  const ValueId resized =
      resize(c.op("Expand", {column, joined(c, std::move(all))}), roi, kNone, c.in(kSizes), order);
  for (int64_t k = 0; k < count; ++k)
    if (k != at) firsts.push_back(k);
  const ValueId row = firsts.empty() ? resized
                                     : c.op("Slice", {resized, c.ints(Ints(firsts.size(), 0)),
                                                      c.ints(Ints(firsts.size(), 1)), c.ints(firsts)});
  return c.op("Reshape", {row, joined(c, {c.ints({-1}), in})});
}

std::vector<ValueId> resize_backward(Compose& c) {
  const auto a = c.attributes<ResizeAttributes>();
  const int64_t rank = rank_of(c);
  Ints axes(static_cast<size_t>(rank));
  std::iota(axes.begin(), axes.end(), int64_t{0});
  if (a.axes && !a.axes->empty()) {
    axes = *a.axes;
    for (int64_t& axis : axes)
      axis = normalize_axis(axis, static_cast<int>(rank), "value of attribute 'axes'");
  }
  const DType dtype = c.dtype(kDy), wide = dtype == DType::Float64 ? dtype : DType::Float32;
  ValueId g = wide == dtype ? c.op("Identity", {c.in(kDy)}) : c.cast(c.in(kDy), wide);
  for (size_t i = 0; i < axes.size(); ++i) {
    if (untouched(c, a, i, axes[i])) continue;
    Ints swap(static_cast<size_t>(rank));
    std::iota(swap.begin(), swap.end(), int64_t{0});
    std::swap(swap[static_cast<size_t>(axes[i])], swap.back());
    const bool last = axes[i] == rank - 1;
    g = c.op("MatMul", {last ? g : c.transpose(g, swap), axis_matrix(c, a, axes, i, wide)});
    if (!last) g = c.transpose(g, swap);
  }
  return {wide == dtype ? g : c.cast(g, dtype)};
}

std::vector<ValueId> without_trailing(std::vector<ValueId> operands) {
  while (operands.back() == kNone) operands.pop_back();
  return operands;
}

void resize(Differentiate& d) {
  const auto operand = [&](size_t i) { return d.has(i) ? d.in(i) : kNone; };
  const ValueId roi = d.has(1) ? d.cast(d.in(1), DType::Float64) : kNone;
  if (!d.needs(0)) return;
  d.give(0, d.own("ResizeBackward",
                  without_trailing({d.cotangent(), d.shape_of(d.in(0)), roi, operand(2), operand(3)}),
                  d.node().attributes));
}

void resize_backward_gradient(Differentiate& d) {
  const auto operand = [&](size_t i) { return d.has(i) ? d.in(i) : kNone; };
  Attributes a = d.node().attributes;
  a.set("extrapolation_value", 0.0f);
  d.give(0,
         d.op("Resize", without_trailing({d.cotangent(), operand(kRoi), operand(kScales), operand(kSizes)}),
              std::move(a)));
}

std::vector<ValueId> upsample(Compose& c) {
  const bool nearest = c.attributes<UpsampleAttributes>().mode == "nearest";
  return {c.op("Resize", {c.in(0), kNone, c.in(1)},
               attributes({{"mode", std::string(nearest ? "nearest" : "linear")},
                           {"nearest_mode", std::string("floor")},
                           {"coordinate_transformation_mode", std::string("asymmetric")}}))};
}

}  // namespace

void register_resize_gradient(OperatorRegistry& r) {
  r.op("ResizeBackward", kOwnDomain)
      .ports({{"dY"},
              {"shape", "tensor(int64)"},
              {"roi", "tensor(double)", true},
              {"scales", "tensor(float)", true},
              {"sizes", "tensor(int64)", true}},
             {{"dX", 0, -1, 1}})
      .attributes<ResizeAttributes>()
      .shape_operands({1, 2, 3, 4})
      .decomposes(resize_backward)
      .differentiates(resize_backward_gradient);
  r.op("Resize").differentiates(resize);
  r.op("Upsample").decomposes(upsample);
}

}  // namespace sardonyx
