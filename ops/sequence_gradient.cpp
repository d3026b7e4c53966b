// Gradients of the operators on sequences and optionals. The cotangent of a sequence is a sequence of the
// same length, in which a scalar zero may stand for an item that nothing depends on; that of an optional is
// the cotangent of what it holds.
#include "ops/sequence.h"

#include "ops/registry/body_gradient.h"

namespace sardonyx {

namespace {

// An item of a cotangent in the shape of x.
ValueId as_wide_as(Differentiate& d, ValueId item, ValueId x) {
  return d.op("Expand", {item, d.shape_of(x)});
}

void sequence_construct(Differentiate& d) {
  for (size_t i = 0; i < d.node().inputs.size(); ++i)
    if (d.needs(i)) {
      const ValueId at = d.scalar(DType::Int64, static_cast<double>(i));
      d.give(i, as_wide_as(d, d.op("SequenceAt", {d.cotangent(), at}), d.in(i)));
    }
}

// Input i of the node, a position in a sequence of `length` items, counted from the front.
ValueId from_front(Differentiate& d, size_t i, ValueId length) {
  if (const Tensor* known = d.constant(i); known && known->size() == 1 && known->to_int64s()[0] >= 0)
    return d.in(i);
  const ValueId at = d.dtype(i) == DType::Int64 ? d.in(i) : d.cast(d.in(i), DType::Int64);
  return d.where(d.op("Less", {at, d.scalar(DType::Int64, 0)}), d.add(at, length), at);
}

ValueId one_less(Differentiate& d, ValueId x) { return d.sub(x, d.scalar(DType::Int64, 1)); }

void sequence_at(Differentiate& d) {
  const Type type = d.type(0);
  const ValueId length = d.op("SequenceLength", {d.in(0)});
  const ValueId at = from_front(d, 1, length);
  const ValueId zeros = zero_cotangent(d.builder(), d.in(0), type);
  const ValueId longer = d.op("SequenceInsert", {zeros, d.cotangent(), at});
  d.give(0, d.op("SequenceErase", {longer, d.add(at, d.scalar(DType::Int64, 1))}));
}

void sequence_insert(Differentiate& d) {
  const ValueId dy = d.cotangent();
  const ValueId last = one_less(d, d.op("SequenceLength", {dy}));
  const ValueId at = d.has(2) ? from_front(d, 2, last) : last;
  if (d.needs(0)) d.give(0, d.op("SequenceErase", {dy, at}));
  if (d.needs(1)) d.give(1, as_wide_as(d, d.op("SequenceAt", {dy, at}), d.in(1)));
}

void sequence_erase(Differentiate& d) {
  const ValueId dy = d.cotangent();
  const Type type = d.type(0);
  std::vector<ValueId> operands = {dy, d.scalar(type.element->dtype, 0)};
  if (d.has(1)) {
    const ValueId length = d.add(d.op("SequenceLength", {dy}), d.scalar(DType::Int64, 1));
    operands.push_back(from_front(d, 1, length));
  }
  d.give(0, d.op("SequenceInsert", operands));
}

// The items of dY, as wide as those of Y, one behind the other. A slice without elements stands at the end:
// there may be no items at all.
void split_to_sequence(Differentiate& d) {
  const auto a = d.attributes<SplitToSequenceAttributes>();
  const bool squeezed = !d.has(1) && a.keepdims == 0;
  const DType dtype = d.dtype(0);
  GraphBuilder body("item");
  BodyPorts ports(body, {});
  const ValueId item = ports.new_input("d", Type::tensor(dtype)),
                like = ports.new_input("y", Type::tensor(dtype));
  ValueId wide = body.op("Expand", {item, body.op("Shape", {like})});
  const auto ints = [](std::vector<int64_t> v) { return Tensor::of(v); };
  if (squeezed) wide = body.op("Unsqueeze", {wide, body.constant(ints({a.axis}))});
  const ValueId items =
      d.op("SequenceMap", {d.cotangent(), d.out()}, attributes({{"body", ports.finish({wide})}}));
  const ValueId zero = d.ints({0});
  const ValueId none = d.op("Slice", {d.in(0), zero, zero, d.ints({a.axis})});
  d.give(0,
         d.op("ConcatFromSequence", {d.op("SequenceInsert", {items, none})}, attributes({{"axis", a.axis}})));
}

void concat_from_sequence(Differentiate& d) {
  const auto a = d.attributes<ConcatFromSequenceAttributes>();
  const int64_t axis = a.axis.value_or(0);
  if (a.new_axis != 0)
    return d.give(
        0, d.op("SplitToSequence", {d.cotangent()}, attributes({{"axis", axis}, {"keepdims", int64_t{0}}})));
  GraphBuilder body("size");
  BodyPorts ports(body, {});
  const ValueId item = ports.new_input("x", Type::tensor(d.type(0).element->dtype));
  Attributes range = attributes({{"start", axis}});
  if (axis != -1) range.set("end", axis + 1);
  const ValueId size = body.op("Shape", {item}, std::move(range));
  const ValueId sizes = d.op("SequenceMap", {d.in(0)}, attributes({{"body", ports.finish({size})}}));
  const ValueId split = d.op("ConcatFromSequence", {sizes}, attributes({{"axis", int64_t{0}}}));
  d.give(0, d.op("SplitToSequence", {d.cotangent(), split}, attributes({{"axis", axis}})));
}

void optional(Differentiate& d) {
  const bool tensor = d.node().inputs.size() == 1 && d.type(0).is_tensor();
  d.give(0, tensor ? as_wide_as(d, d.cotangent(), d.in(0)) : d.cotangent());
}

}  // namespace

void register_sequence_gradient(OperatorRegistry& r) {
  r.op("SequenceConstruct").differentiates(sequence_construct);
  r.op("SequenceAt").differentiates(sequence_at);
  r.op("SequenceInsert").differentiates(sequence_insert);
  r.op("SequenceErase").differentiates(sequence_erase);
  r.op("SplitToSequence").differentiates(split_to_sequence);
  r.op("ConcatFromSequence").differentiates(concat_from_sequence);
  r.op("Optional").differentiates(optional);
  r.op("OptionalGetElement").differentiates([](Differentiate& d) { d.give(0, d.cotangent()); });
}

}  // namespace sardonyx
