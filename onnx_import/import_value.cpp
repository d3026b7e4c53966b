#include "onnx_import/import.h"
#include "onnx_import/import_tensor.h"
#include "onnx_import/parse.h"

namespace sardonyx {

namespace {

// SequenceProto and OptionalProto number the kinds of their elements alike.
using Kind = onnx::SequenceProto;

template <typename Proto>
std::string called(const char* kind, const Proto& proto) {
  return proto.name().empty() ? kind : std::string(kind) + " '" + proto.name() + "'";
}

template <typename Key, typename Keys>
std::map<Key, Value> paired(const Keys& keys, const Sequence& values, const std::string& what) {
  if (static_cast<size_t>(keys.size()) != values.items.size())
    throw ModelError(what, std::to_string(keys.size()) + " values", std::to_string(values.items.size()));
  std::map<Key, Value> items;
  for (int i = 0; i < keys.size(); ++i)
    if (!items.emplace(keys[i], values.items[static_cast<size_t>(i)]).second)
      throw ModelError(what, "distinct keys", "one key twice");
  return items;
}

}  // namespace

Value TensorReader::sequence(onnx::SequenceProto& proto) {
  Sequence result;
  const auto read_all = [&](auto* list, auto&& one) {
    for (auto& item : *list) result.items.push_back(one(item));
  };
  switch (proto.elem_type()) {
    case Kind::TENSOR:
      read_all(proto.mutable_tensor_values(), [&](auto& item) { return Value(dense(item)); });
      if (!result.items.empty()) result.element = result.items.front().tensor().dtype();
      for (const Value& item : result.items)
        if (item.tensor().dtype() != result.element)
          throw ModelError(called("sequence", proto),
                           std::string("elements of type ") + dtype_name(result.element),
                           dtype_name(item.tensor().dtype()));
      break;
    case Kind::SPARSE_TENSOR:
      read_all(proto.mutable_sparse_tensor_values(), [&](auto& item) { return Value(sparse(item)); });
      break;
    case Kind::SEQUENCE:
      read_all(proto.mutable_sequence_values(), [&](auto& item) { return sequence(item); });
      break;
    case Kind::MAP:
      read_all(proto.mutable_map_values(), [&](auto& item) { return map(item); });
      break;
    case Kind::OPTIONAL:
      read_all(proto.mutable_optional_values(), [&](auto& item) { return optional(item); });
      break;
    default:
      throw ModelError(called("sequence", proto) + " elem_type", "a kind of onnx.SequenceProto.DataType",
                       std::to_string(proto.elem_type()));
  }
  return Value(std::move(result));
}

Value TensorReader::optional(onnx::OptionalProto& proto) {
  switch (proto.elem_type()) {
    case Kind::UNDEFINED:
      return Value(Nothing{});
    case Kind::TENSOR:
      return proto.has_tensor_value() ? Value(dense(*proto.mutable_tensor_value())) : Value(Nothing{});
    case Kind::SPARSE_TENSOR:
      return proto.has_sparse_tensor_value() ? Value(sparse(*proto.mutable_sparse_tensor_value()))
                                             : Value(Nothing{});
    case Kind::SEQUENCE:
      return proto.has_sequence_value() ? sequence(*proto.mutable_sequence_value()) : Value(Nothing{});
    case Kind::MAP:
      return proto.has_map_value() ? map(*proto.mutable_map_value()) : Value(Nothing{});
    case Kind::OPTIONAL:
      return proto.has_optional_value() ? optional(*proto.mutable_optional_value()) : Value(Nothing{});
    default:
      throw ModelError(called("optional", proto) + " elem_type", "a kind of onnx.OptionalProto.DataType",
                       std::to_string(proto.elem_type()));
  }
}

Value TensorReader::map(onnx::MapProto& proto) {
  const std::string what = called("map", proto);
  const auto key = static_cast<DType>(is_valid_dtype(proto.key_type()) ? proto.key_type() : 0);
  if (key != DType::String && !is_integer(key))
    throw ModelError(what + " key_type", "an integer type or string", std::to_string(proto.key_type()));
  if (key == DType::String ? proto.keys_size() > 0 : proto.string_keys_size() > 0)
    throw ModelError(what, key == DType::String ? "string_keys" : "keys", "the other field");
  Value values;
  if (proto.has_values())
    values = sequence(*proto.mutable_values());
  else
    values = Value(Sequence{});
  Map result;
  if (key == DType::String)
    result.items = paired<std::string>(proto.string_keys(), values.sequence(), what);
  else
    result.items = paired<int64_t>(proto.keys(), values.sequence(), what);
  return Value(std::move(result));
}

namespace {
template <typename Proto>
Proto parsed(const void* data, size_t bytes, const char* kind) {
  Proto proto;
  if (!parse_message(data, bytes, proto))
    throw ModelError(kind, "a serialized message", "other or damaged bytes");
  return proto;
}
}  // namespace

Value import_value(const void* data, size_t bytes, ProtoKind kind) {
  TensorReader reader("");
  switch (kind) {
    case ProtoKind::Tensor: {
      auto proto = parsed<onnx::TensorProto>(data, bytes, "onnx.TensorProto");
      return Value(reader.dense(proto));
    }
    case ProtoKind::SparseTensor: {
      auto proto = parsed<onnx::SparseTensorProto>(data, bytes, "onnx.SparseTensorProto");
      return Value(reader.sparse(proto));
    }
    case ProtoKind::Sequence: {
      auto proto = parsed<onnx::SequenceProto>(data, bytes, "onnx.SequenceProto");
      return reader.sequence(proto);
    }
    case ProtoKind::Optional: {
      auto proto = parsed<onnx::OptionalProto>(data, bytes, "onnx.OptionalProto");
      return reader.optional(proto);
    }
    case ProtoKind::Map: {
      auto proto = parsed<onnx::MapProto>(data, bytes, "onnx.MapProto");
      return reader.map(proto);
    }
  }
  throw InputError("import_value", "a kind of ProtoKind", std::to_string(static_cast<int>(kind)));
}

}  // namespace sardonyx
