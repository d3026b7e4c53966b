#include "ops/registry/gradient.h"

#include "ops/registry/schema.h"

namespace sardonyx {

ValueId Differentiate::out(size_t i) {
  Node& node = builder().node(id_);
  if (i >= node.outputs.size()) node.outputs.resize(i + 1, kNone);
  if (node.outputs[i] == kNone) {
    const ValueId id = builder().value();
    builder().node(id_).outputs[i] = id;
    return id;
  }
  return node.outputs[i];
}

Type Differentiate::out_type(size_t i) { return builder().graph().value(out(i)).type; }

ValueId Differentiate::zeros_like(ValueId x, DType dtype) {
  return zero_cotangent(builder(), x, Type::tensor(dtype));
}

ValueId Differentiate::cotangent_or_zeros(size_t i) {
  if (cotangent(i) != kNone) return cotangent(i);
  const DType dtype = out_type(i).dtype;
  return zeros_like(out(i), dtype == DType::Undefined ? this->dtype(0) : dtype);
}

void Differentiate::give(size_t input, ValueId cotangent) {
  if (!needs(input) || cotangent == kNone) return;
  ValueId& slot = given_.at(input);
  slot = slot == kNone ? cotangent : add_cotangents(builder(), Type(type(input)), slot, cotangent);
}

void Differentiate::give_capture(size_t i, ValueId cotangent) {
  if (!needs_capture(i) || cotangent == kNone) return;
  ValueId& slot = captures_given_.at(i);
  const Type type = builder().graph().value(node().captures[i]).type;
  slot = slot == kNone ? cotangent : add_cotangents(builder(), type, slot, cotangent);
}

void Differentiate::give_summed(size_t input, ValueId cotangent) {
  if (needs(input) && cotangent != kNone) give(input, sum_to(cotangent, out_type(0), in(input)));
}

ValueId Differentiate::sum_to(ValueId x, const Type& x_type, ValueId like) {
  const Type& type = builder().graph().value(like).type;
  if (type.shape && x_type.shape && x_type.shape->size() >= type.shape->size()) {
    const auto &from = *x_type.shape, &to = *type.shape;
    const size_t lead = from.size() - to.size();
    std::vector<int64_t> axes, kept_axes;
    bool certain = true;
    for (size_t i = 0; i < lead; ++i) axes.push_back(static_cast<int64_t>(i));
    for (size_t i = 0; i < to.size(); ++i) {
      const Dim &a = from[lead + i], &b = to[i];
      if (b.known() && b.value == 1) {
        if (!(a.known() && a.value == 1)) kept_axes.push_back(static_cast<int64_t>(lead + i));
      } else if (!(b.known() || (a.symbol == b.symbol && !b.symbol.empty()))) {
        certain = false;
      }
    }
    if (certain) {
      if (!kept_axes.empty()) x = reduce_sum(x, kept_axes);
      return axes.empty() ? x : reduce_sum(x, axes, false);
    }
  }
  return own("SumTo", {x, shape_of(like)});
}

ValueId zero_cotangent(GraphBuilder& builder, ValueId x, const Type& type) {
  const bool tensor = type.is_tensor() || !type.known();
  const Type* inner = &type;
  while (inner->element) inner = inner->element.get();
  const DType dtype = inner->dtype == DType::Undefined ? DType::Float32 : inner->dtype;
  Tensor zero = Tensor::zeros(dtype, type.kind == Type::Kind::Optional ? Dims{} : Dims{1});
  if (type.kind == Type::Kind::Optional) return builder.constant(std::move(zero));
  const Attributes value = attributes({{"value", Value(std::move(zero))}});
  if (tensor) return builder.op("ConstantOfShape", {builder.op("Shape", {x})}, value);
  const ValueId length =
      builder.op("Reshape", {builder.op("SequenceLength", {x}), builder.constant(Tensor::of<int64_t>({1}))});
  return builder.op("SplitToSequence", {builder.op("ConstantOfShape", {length}, value)},
                    attributes({{"axis", int64_t{0}}, {"keepdims", int64_t{0}}}));
}

bool carries_gradient(const Type& type) {
  if (type.is_tensor()) return is_float(type.dtype);
  if (type.kind == Type::Kind::Sequence || type.kind == Type::Kind::Optional)
    return !type.element || carries_gradient(*type.element);
  return !type.known();
}

ValueId add_cotangents(GraphBuilder& builder, const Type& type, ValueId a, ValueId b) {
  if (type.kind != Type::Kind::Sequence) return builder.op("Add", {a, b});
  GraphBuilder body("sum");
  const Type item = Type::tensor(type.element ? type.element->dtype : DType::Undefined);
  const ValueId left = body.input("a", item), right = body.input("b", item);
  body.output(body.op("Add", {left, right}));
  return builder.op("SequenceMap", {a, b}, attributes({{"body", std::move(body).build()}}));
}

bool has_gradient(const Node& node) {
  const Operator* op = OperatorRegistry::instance().find(node.domain, node.op);
  return op && op->gradient;
}

}  // namespace sardonyx
