// The gradient of Pad, and PadBackward(dY, pads, shape of X, axes), its transpose in the modes that repeat
// elements.
#include "ops/padding.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

std::vector<ValueId> pad_operands(ValueId x, ValueId pads, ValueId value, ValueId axes) {
  std::vector<ValueId> operands = {x, pads};
  if (value != kNone || axes != kNone) operands.push_back(value);
  if (axes != kNone) operands.push_back(axes);
  return operands;
}

// The places that Pad reads are those that a tensor of places has after the same Pad.
std::vector<ValueId> pad_backward(Compose& c) {
  const ValueId dy = c.in(0), pads = c.in(1), shape = c.in(2), axes = c.has(3) ? c.in(3) : kNone;
  if (c.attributes<PadAttributes>().mode == "constant")
    return {c.op("Pad", pad_operands(dy, c.op("Neg", {pads}), kNone, axes))};
  const Attributes exact = attributes({{"allowzero", int64_t{1}}});
  const ValueId size = c.op("ReduceProd", {shape}, attributes({{"keepdims", int64_t{0}}}));
  const ValueId zero = c.scalar(DType::Int64, 0), one = c.scalar(DType::Int64, 1), flat = c.ints({-1});
  const ValueId places = c.op("Reshape", {c.op("Range", {zero, size, one}), shape}, exact);
  const ValueId read = c.op("Pad", pad_operands(places, pads, kNone, axes), c.node().attributes);
  const ValueId zeros = c.op("Expand", {c.scalar(c.dtype(0), 0), c.op("Reshape", {size, flat})});
  const ValueId sums =
      c.op("ScatterElements", {zeros, c.op("Reshape", {read, flat}), c.op("Reshape", {dy, flat})},
           attributes({{"axis", int64_t{0}}, {"reduction", std::string("add")}}));
  return {c.op("Reshape", {sums, shape}, exact)};
}

void pad(Differentiate& d) {
  const ValueId dy = d.cotangent(), x = d.in(0), pads = d.in(1), axes = d.has(3) ? d.in(3) : kNone;
  const auto a = d.attributes<PadAttributes>();
  if (a.mode != "constant") {
    if (!d.needs(0)) return;
    std::vector<ValueId> operands = {dy, pads, d.shape_of(x)};
    if (axes != kNone) operands.push_back(axes);
    d.give(0, d.own("PadBackward", operands, attributes({{"mode", a.mode}})));
    return;
  }
  if (d.needs(0)) d.give(0, d.op("Pad", pad_operands(dy, d.neg(pads), kNone, axes)));
  if (d.needs(2)) {
    const ValueId copied =
        d.op("ConstantOfShape", {d.shape_of(x)}, attributes({{"value", Value(Tensor::of<bool>({false}))}}));
    const ValueId yes = d.builder().constant(Tensor::of<bool>({true}, {}));
    const ValueId constants = d.op("Pad", pad_operands(copied, pads, yes, axes));
    const ValueId sum =
        d.op("ReduceSum", {d.where_else_zero(constants, dy)}, attributes({{"keepdims", int64_t{0}}}));
    d.give(2, d.op("Reshape", {sum, d.shape_of(d.in(2))}));
  }
}

void repeated(Differentiate& d) {
  const ValueId axes = d.has(3) ? d.in(3) : kNone;
  d.give(0, d.op("Pad", pad_operands(d.cotangent(), d.in(1), kNone, axes), d.node().attributes));
}

}  // namespace

void register_padding_gradient(OperatorRegistry& r) {
  r.op("PadBackward", kOwnDomain)
      .ports({{"dY"}, {"pads", "tensor(int64)"}, {"shape", "tensor(int64)"}, {"axes", "tensor(int64)", true}},
             {{"dX", 0, -1, 2}})
      .attributes<PadAttributes>()
      .shape_operands({1, 2, 3})
      .decomposes(pad_backward)
      .differentiates(repeated);
  r.op("Pad").differentiates(pad);
}

}  // namespace sardonyx
