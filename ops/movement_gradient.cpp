// Gradients of the operators that move elements.
#include "ops/movement.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

// Elements keep their order: dY in the dims of X.
void reshaped(Differentiate& d) {
  if (!d.needs(0)) return;
  d.give(0, d.op("Reshape", {d.cotangent(), d.shape_of(d.in(0))}, attributes({{"allowzero", int64_t{1}}})));
}

void transpose(Differentiate& d) {
  const auto* perm = d.node().attributes.find("perm");
  if (!perm) return d.give(0, d.op("Transpose", {d.cotangent()}));
  const auto& to = std::get<std::vector<int64_t>>(*perm);
  std::vector<int64_t> back(to.size());
  for (size_t i = 0; i < to.size(); ++i) back[static_cast<size_t>(to[i])] = static_cast<int64_t>(i);
  d.give(0, d.transpose(d.cotangent(), std::move(back)));
}

// The size of one axis of x, as a tensor of one dimension.
ValueId size_of(Differentiate& d, ValueId x, int64_t axis) {
  Attributes range = attributes({{"start", axis}});
  if (axis != -1) range.set("end", axis + 1);
  return d.op("Shape", {x}, std::move(range));
}

void concat(Differentiate& d) {
  const size_t count = d.node().inputs.size();
  if (count == 1) return d.give(0, d.cotangent());
  const int64_t axis = d.attributes<ConcatAttributes>().axis.value_or(0);
  std::vector<ValueId> sizes;
  for (size_t i = 0; i < count; ++i) sizes.push_back(size_of(d, d.in(i), axis));
  const ValueId split = d.op("Concat", sizes, attributes({{"axis", int64_t{0}}}));
  const auto parts = d.ops("Split", {d.cotangent(), split}, count, attributes({{"axis", axis}}));
  for (size_t i = 0; i < count; ++i) d.give(i, parts[i]);
}

void split(Differentiate& d) {
  std::vector<ValueId> parts;
  for (size_t i = 0; i < d.node().outputs.size(); ++i) parts.push_back(d.cotangent_or_zeros(i));
  d.give(0, d.op("Concat", parts, attributes({{"axis", d.attributes<SplitAttributes>().axis}})));
}

// SliceBackward(dY, shape, starts, ends, axes, steps): zeros of `shape`, and dY where Slice reads.
std::vector<ValueId> slice_backward(Compose& c) {
  const ValueId dy = c.in(0), shape = c.in(1), flat = c.ints({-1});
  const ValueId count = c.op("ReduceProd", {shape}, attributes({{"keepdims", int64_t{1}}}));
  const ValueId zero = c.scalar(DType::Int64, 0), one = c.scalar(DType::Int64, 1);
  const Attributes keep_zeros = attributes({{"allowzero", int64_t{1}}});
  const ValueId places = c.op("Range", {zero, c.op("Squeeze", {count}), one});
  std::vector<ValueId> operands = {c.op("Reshape", {places, shape}, keep_zeros)};
  for (size_t i = 2; i < c.node().inputs.size(); ++i) operands.push_back(c.in(i));
  const ValueId read = c.op("Reshape", {c.op("Slice", operands), flat});
  const ValueId zeros = c.op("Expand", {c.scalar(c.dtype(0), 0), count});
  const ValueId written =
      c.op("ScatterElements", {zeros, read, c.op("Reshape", {dy, flat})}, attributes({{"axis", int64_t{0}}}));
  return {c.op("Reshape", {written, shape}, keep_zeros)};
}

void slice(Differentiate& d) {
  std::vector<ValueId> operands = {d.cotangent(), d.shape_of(d.in(0))};
  for (size_t i = 1; i < d.node().inputs.size(); ++i)
    operands.push_back(d.has(i) && d.dtype(i) != DType::Int64 ? d.cast(d.in(i), DType::Int64) : d.in(i));
  d.give(0, d.own("SliceBackward", operands));
}

void slice_backward_gradient(Differentiate& d) {
  std::vector<ValueId> operands = {d.cotangent()};
  for (size_t i = 2; i < d.node().inputs.size(); ++i) operands.push_back(d.in(i));
  d.give(0, d.op("Slice", operands));
}

// Y in the dims [repeat, size] for every axis, summed over the repeats.
void tile(Differentiate& d) {
  const ValueId sizes = d.shape_of(d.in(0)), last = d.ints({1}), zero = d.scalar(DType::Int64, 0);
  const ValueId pairs = d.op("Concat", {d.op("Unsqueeze", {d.in(1), last}), d.op("Unsqueeze", {sizes, last})},
                             attributes({{"axis", int64_t{1}}}));
  const ValueId wide = d.op("Reshape", {d.cotangent(), d.op("Reshape", {pairs, d.ints({-1})})},
                            attributes({{"allowzero", int64_t{1}}}));
  const ValueId axes = d.op(
      "Range", {zero, d.mul(d.op("Size", {sizes}), d.scalar(DType::Int64, 2)), d.scalar(DType::Int64, 2)});
  d.give(0, d.op("ReduceSum", {wide, axes},
                 attributes({{"keepdims", int64_t{0}}, {"noop_with_empty_axes", int64_t{1}}})));
}

// The operator whose permutation of elements undoes that of the node.
Gradient undone_by(const char* op) {
  return [op](Differentiate& d) { d.give(0, d.op(op, {d.cotangent()}, d.node().attributes)); };
}

// The same operator with the operands that the node has beside its data.
void again(Differentiate& d) {
  std::vector<ValueId> operands = d.node().inputs;
  operands[0] = d.cotangent();
  d.give(0, d.op(d.node().op, operands, d.node().attributes));
}

// What was cropped away comes back as zeros, and padding is cropped: both are centered in the same way.
void center_crop_pad(Differentiate& d) {
  const auto axes = d.attributes<CenterCropPadAttributes>().axes;
  ValueId shape = d.shape_of(d.in(0));
  if (axes) shape = d.op("Gather", {shape, d.ints(*axes)});
  d.give(0, d.op("CenterCropPad", {d.cotangent(), shape}, d.node().attributes));
}

void compress(Differentiate& d) {
  const auto axis = d.attributes<CompressAttributes>().axis;
  const ValueId chosen = d.op("Reshape", {d.op("NonZero", {d.in(1)}), d.ints({-1})});
  const ValueId shape = d.shape_of(d.in(0));
  const ValueId sizes = axis ? shape : d.op("Reshape", {d.op("Size", {d.in(0)}), d.ints({1})});
  const ValueId dx =
      d.own("GatherBackward", {d.cotangent(), chosen, sizes}, attributes({{"axis", axis.value_or(0)}}));
  d.give(0, axis ? dx : d.op("Reshape", {dx, shape}, attributes({{"allowzero", int64_t{1}}})));
}

// Element i is start + i * delta; where the range ends decides only how many there are.
void range(Differentiate& d) {
  const ValueId dy = d.cotangent();
  const auto total = [&](ValueId x, size_t input) {
    const ValueId sum = d.op("ReduceSum", {x}, attributes({{"keepdims", int64_t{0}}}));
    d.give(input, d.op("Reshape", {sum, d.shape_of(d.in(input))}));
  };
  if (d.needs(0)) total(dy, 0);
  if (!d.needs(2)) return;
  const ValueId steps =
      d.op("Range", {d.scalar(DType::Int64, 0), d.op("Size", {dy}), d.scalar(DType::Int64, 1)});
  total(d.mul(dy, d.cast(steps, d.dtype(2))), 2);
}

}  // namespace

void register_movement_gradient(OperatorRegistry& r) {
  for (const char* name : {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}) r.op(name).differentiates(reshaped);
  r.op("Transpose").differentiates(transpose);
  r.op("Expand").differentiates([](Differentiate& d) { d.give_summed(0, d.cotangent()); });
  r.op("Concat").differentiates(concat);
  r.op("Split").differentiates(split);
  r.op("Slice").differentiates(slice);
  const std::string integers = "tensor(int64)";
  r.op("SliceBackward", kOwnDomain)
      .ports({{"dY"},
              {"shape", integers},
              {"starts", integers},
              {"ends", integers},
              {"axes", integers, true},
              {"steps", integers, true}},
             {{"dX", 0, -1, 1}})
      .shape_operands({1, 2, 3, 4, 5})
      .decomposes(slice_backward)
      .differentiates(slice_backward_gradient);
  r.op("Tile").differentiates(tile);
  r.op("DepthToSpace").differentiates(undone_by("SpaceToDepth"));
  r.op("SpaceToDepth").differentiates(undone_by("DepthToSpace"));
  r.op("Trilu").differentiates(again);
  r.op("ReverseSequence").differentiates(again);
  r.op("CenterCropPad").differentiates(center_crop_pad);
  r.op("Compress").differentiates(compress);
  r.op("Range").differentiates(range);
  r.op("EyeLike").gradient_is_zero();
}

}  // namespace sardonyx
