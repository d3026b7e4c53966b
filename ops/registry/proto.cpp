#include "ops/registry/proto.h"

#include <cstring>

#include "graph/shape.h"

namespace sardonyx {

onnx::TypeProto to_proto(const Type& type) {
  onnx::TypeProto proto;
  const auto fill_shape = [&](auto* tensor) {
    tensor->set_elem_type(static_cast<int32_t>(type.dtype));
    if (!type.shape) return;
    auto* shape = tensor->mutable_shape();
    for (const Dim& dim : *type.shape) {
      auto* d = shape->add_dim();
      if (dim.known())
        d->set_dim_value(dim.value);
      else if (!dim.symbol.empty())
        d->set_dim_param(dim.symbol);
    }
  };
  switch (type.kind) {
    case Type::Kind::Unknown:
      break;
    case Type::Kind::Tensor:
      fill_shape(proto.mutable_tensor_type());
      break;
    case Type::Kind::SparseTensor:
      fill_shape(proto.mutable_sparse_tensor_type());
      break;
    case Type::Kind::Sequence:
      *proto.mutable_sequence_type()->mutable_elem_type() = to_proto(*type.element);
      break;
    case Type::Kind::Optional:
      *proto.mutable_optional_type()->mutable_elem_type() = to_proto(*type.element);
      break;
    case Type::Kind::Map:
      proto.mutable_map_type()->set_key_type(static_cast<int32_t>(type.dtype));
      *proto.mutable_map_type()->mutable_value_type() = to_proto(*type.element);
      break;
  }
  return proto;
}

namespace {
template <typename Proto>
Type tensor_from(const Proto& proto, Type::Kind kind) {
  Type type;
  if (!is_valid_dtype(proto.elem_type())) return type;
  type.kind = kind;
  type.dtype = static_cast<DType>(proto.elem_type());
  if (!proto.has_shape()) return type;
  type.shape.emplace();
  for (const auto& d : proto.shape().dim()) {
    if (d.has_dim_value() && d.dim_value() >= 0)
      type.shape->push_back(Dim(d.dim_value()));
    else if (d.has_dim_param())
      type.shape->push_back(Dim(d.dim_param()));
    else
      type.shape->emplace_back();
  }
  return type;
}
}  // namespace

Type from_proto(const onnx::TypeProto& proto) {
  switch (proto.value_case()) {
    case onnx::TypeProto::kTensorType:
      return tensor_from(proto.tensor_type(), Type::Kind::Tensor);
    case onnx::TypeProto::kSparseTensorType:
      return tensor_from(proto.sparse_tensor_type(), Type::Kind::SparseTensor);
    case onnx::TypeProto::kSequenceType:
      return Type::sequence(from_proto(proto.sequence_type().elem_type()));
    case onnx::TypeProto::kOptionalType:
      return Type::optional(from_proto(proto.optional_type().elem_type()));
    case onnx::TypeProto::kMapType:
      return Type::map(static_cast<DType>(proto.map_type().key_type()),
                       from_proto(proto.map_type().value_type()));
    default:
      return {};
  }
}

int64_t packed_bytes(DType dtype, int64_t count) {
  const int64_t bits = checked_mul(count, element_bits(dtype), "bytes of a tensor");
  return bits / 8 + (bits % 8 != 0);
}

void pack_elements(DType dtype, const void* elements, int64_t count, uint8_t* packed) {
  const int bits = element_bits(dtype);
  if (bits >= 8) {
    std::memcpy(packed, elements, static_cast<size_t>(count) * element_size(dtype));
    return;
  }
  std::memset(packed, 0, static_cast<size_t>(packed_bytes(dtype, count)));
  const auto* source = static_cast<const uint8_t*>(elements);
  const unsigned mask = (1u << bits) - 1;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t bit = i * bits;
    const unsigned shifted = (source[i] & mask) << (bit % 8);
    packed[bit / 8] |= static_cast<uint8_t>(shifted);
    if (shifted >> 8) packed[bit / 8 + 1] |= static_cast<uint8_t>(shifted >> 8);
  }
}

void unpack_elements(DType dtype, const uint8_t* packed, int64_t count, void* elements) {
  const int bits = element_bits(dtype);
  if (bits >= 8) {
    std::memcpy(elements, packed, static_cast<size_t>(count) * element_size(dtype));
    return;
  }
  const unsigned mask = (1u << bits) - 1;
  const bool sign = is_signed_integer(dtype);
  auto* target = static_cast<uint8_t*>(elements);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t bit = i * bits;
    unsigned value = packed[bit / 8];
    if (bit % 8 + bits > 8) value |= static_cast<unsigned>(packed[bit / 8 + 1]) << 8;
    value = (value >> (bit % 8)) & mask;
    if (sign && (value >> (bits - 1))) value |= ~mask;
    target[i] = static_cast<uint8_t>(value);
  }
}

void to_proto(const Tensor& tensor, onnx::TensorProto& proto) {
  proto.set_data_type(static_cast<int32_t>(tensor.dtype()));
  for (const int64_t dim : tensor.dims()) proto.add_dims(dim);
  if (tensor.dtype() == DType::String) {
    for (int64_t i = 0; i < tensor.size(); ++i) proto.add_string_data(tensor.data<std::string>()[i]);
    return;
  }
  std::string* raw = proto.mutable_raw_data();
  raw->resize(static_cast<size_t>(packed_bytes(tensor.dtype(), tensor.size())));
  pack_elements(tensor.dtype(), tensor.data(), tensor.size(), reinterpret_cast<uint8_t*>(raw->data()));
}

bool to_proto(const std::string& name, const Attribute& attribute, onnx::AttributeProto& proto) {
  proto.set_name(name);
  using Proto = onnx::AttributeProto;
  struct Writer {
    onnx::AttributeProto& p;
    bool operator()(float v) const {
      p.set_type(Proto::FLOAT);
      p.set_f(v);
      return true;
    }
    bool operator()(int64_t v) const {
      p.set_type(Proto::INT);
      p.set_i(v);
      return true;
    }
    bool operator()(const std::string& v) const {
      p.set_type(Proto::STRING);
      p.set_s(v);
      return true;
    }
    bool operator()(const Value& v) const {
      if (!v.is_tensor()) return false;
      p.set_type(Proto::TENSOR);
      to_proto(v.tensor(), *p.mutable_t());
      return true;
    }
    bool operator()(const GraphPtr&) const { return false; }
    bool operator()(const Type& v) const {
      p.set_type(Proto::TYPE_PROTO);
      *p.mutable_tp() = to_proto(v);
      return true;
    }
    bool operator()(const std::vector<float>& v) const {
      p.set_type(Proto::FLOATS);
      for (float x : v) p.add_floats(x);
      return true;
    }
    bool operator()(const std::vector<int64_t>& v) const {
      p.set_type(Proto::INTS);
      for (int64_t x : v) p.add_ints(x);
      return true;
    }
    bool operator()(const std::vector<std::string>& v) const {
      p.set_type(Proto::STRINGS);
      for (const auto& x : v) p.add_strings(x);
      return true;
    }
    bool operator()(const std::vector<Tensor>& v) const {
      p.set_type(Proto::TENSORS);
      for (const auto& x : v) to_proto(x, *p.add_tensors());
      return true;
    }
    bool operator()(const std::vector<GraphPtr>&) const { return false; }
    bool operator()(const std::vector<Type>& v) const {
      p.set_type(Proto::TYPE_PROTOS);
      for (const auto& x : v) *p.add_type_protos() = to_proto(x);
      return true;
    }
  };
  return std::visit(Writer{proto}, attribute);
}

}  // namespace sardonyx
