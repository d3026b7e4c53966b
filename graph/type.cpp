#include "graph/type.h"

namespace sardonyx {

std::string Type::to_string() const {
  switch (kind) {
    case Kind::Unknown:
      return "?";
    case Kind::Tensor:
      return std::string(dtype_name(dtype)) + (shape ? sardonyx::to_string(*shape) : "");
    case Kind::SparseTensor:
      return "sparse(" + std::string(dtype_name(dtype)) + (shape ? sardonyx::to_string(*shape) : "") + ")";
    case Kind::Sequence:
      return "seq(" + element->to_string() + ")";
    case Kind::Optional:
      return "optional(" + element->to_string() + ")";
    case Kind::Map:
      return "map(" + std::string(dtype_name(dtype)) + ", " + element->to_string() + ")";
  }
  return "?";
}

std::string Type::onnx_name() const {
  switch (kind) {
    case Kind::Unknown:
      return "unknown";
    case Kind::Tensor:
      return std::string("tensor(") + dtype_name(dtype) + ")";
    case Kind::SparseTensor:
      return std::string("sparse_tensor(") + dtype_name(dtype) + ")";
    case Kind::Sequence:
      return "seq(" + element->onnx_name() + ")";
    case Kind::Optional:
      return "optional(" + element->onnx_name() + ")";
    case Kind::Map:
      return std::string("map(") + dtype_name(dtype) + "," + element->onnx_name() + ")";
  }
  return "unknown";
}

bool Type::operator==(const Type& other) const {
  if (kind != other.kind || dtype != other.dtype || shape != other.shape) return false;
  if (!element || !other.element) return element == other.element;
  return *element == *other.element;
}

Type type_of(const Value& value) {
  if (value.is_tensor()) return Type::tensor(value.tensor().dtype(), shape_of(value.tensor().dims()));
  if (value.is_sparse()) {
    Type type = Type::tensor(value.sparse().values.dtype(), shape_of(value.sparse().dims));
    type.kind = Type::Kind::SparseTensor;
    return type;
  }
  if (value.is_sequence()) {
    const Sequence& sequence = value.sequence();
    if (sequence.items.empty())
      return Type::sequence(sequence.element == DType::Undefined ? Type{} : Type::tensor(sequence.element));
    Type element = type_of(sequence.items.front());
    for (const Value& item : sequence.items)
      if (!(type_of(item) == element)) element.shape.reset();
    return Type::sequence(element);
  }
  if (value.is_map()) {
    const auto of = [](DType key, const auto& items) {
      return Type::map(key, items.empty() ? Type{} : type_of(items.begin()->second));
    };
    const auto& items = value.map().items;
    if (const auto* ints = std::get_if<0>(&items)) return of(DType::Int64, *ints);
    return of(DType::String, std::get<1>(items));
  }
  return {};
}

}  // namespace sardonyx
