// The static type of an edge: a tensor of a dtype and perhaps a shape, or a sequence, optional or map of
// such.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "graph/shape.h"

namespace sardonyx {

struct Type {
  enum class Kind { Unknown, Tensor, SparseTensor, Sequence, Optional, Map };
  Kind kind = Kind::Unknown;
  DType dtype = DType::Undefined;       // Tensor, SparseTensor; the key dtype of a Map
  std::optional<Shape> shape;           // Tensor, SparseTensor; absent when the rank is unknown
  std::shared_ptr<const Type> element;  // Sequence, Optional; the value type of a Map

  static Type tensor(DType dtype) { return {Kind::Tensor, dtype, std::nullopt, nullptr}; }
  static Type tensor(DType dtype, Shape shape) { return {Kind::Tensor, dtype, std::move(shape), nullptr}; }
  static Type sequence(Type element) {
    return {Kind::Sequence, DType::Undefined, std::nullopt, std::make_shared<const Type>(std::move(element))};
  }
  static Type optional(Type element) {
    return {Kind::Optional, DType::Undefined, std::nullopt, std::make_shared<const Type>(std::move(element))};
  }
  static Type map(DType key, Type value) {
    return {Kind::Map, key, std::nullopt, std::make_shared<const Type>(std::move(value))};
  }

  bool known() const { return kind != Kind::Unknown; }
  bool is_tensor() const { return kind == Kind::Tensor; }
  // The rank of a tensor whose shape is known, else -1.
  int rank() const { return shape ? static_cast<int>(shape->size()) : -1; }
  // "float[batch, 3]", "seq(int64[?])", "float" when the rank is unknown.
  std::string to_string() const;
  // Whether the types inside are known too; a sequence of something unknown is not.
  bool fully_known() const { return known() && (!element || element->fully_known()); }
  // As ONNX's schemas write it, without shapes: "tensor(float)", "seq(tensor(int64))"; "unknown".
  std::string onnx_name() const;
  bool operator==(const Type& other) const;
};

// The type of a concrete value.
Type type_of(const Value& value);

}  // namespace sardonyx
