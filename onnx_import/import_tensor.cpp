#include "onnx_import/import_tensor.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

#include "graph/shape.h"
#include "ops/registry/proto.h"

namespace sardonyx {

static_assert(std::endian::native == std::endian::little,
              "raw tensor bytes are used as they are in the file");

namespace {

// Tensors of at least this size keep the string that the parser made; smaller ones are copied.
constexpr size_t kMovedBytes = 4096;

std::string called(const std::string& kind, const std::string& name) {
  return name.empty() ? kind : kind + " '" + name + "'";
}

// The product of the dims, each of which is checked.
int64_t counted(const Dims& dims, const std::string& what) {
  for (size_t i = 0; i < dims.size(); ++i)
    if (dims[i] < 0)
      throw ModelError(what + " dim " + std::to_string(i), "at least 0", std::to_string(dims[i]));
  if (std::find(dims.begin(), dims.end(), 0) != dims.end()) return 0;
  int64_t count = 1;
  for (const int64_t dim : dims)
    if (__builtin_mul_overflow(count, dim, &count))
      throw ModelError(what + " dims " + to_string(dims), "fewer than 2^63 elements", "more");
  return count;
}

void expect_length(const std::string& what, const char* field, int64_t expected, int64_t got) {
  if (expected != got)
    throw ModelError(what + " " + field, std::to_string(expected) + " values", std::to_string(got));
}

// A bool in memory is 0 or 1: any other byte of a file counts as true.
void normalize_bools(uint8_t* data, int64_t count) {
  for (int64_t i = 0; i < count; ++i) data[i] = data[i] != 0;
}

int storage_fields(const onnx::TensorProto& proto) {
  return int{!proto.raw_data().empty()} + int{proto.float_data_size() > 0} +
         int{proto.double_data_size() > 0} + int{proto.int32_data_size() > 0} +
         int{proto.int64_data_size() > 0} + int{proto.uint64_data_size() > 0} +
         int{proto.string_data_size() > 0};
}

template <typename To, typename Field>
void narrow_into(Tensor& tensor, const Field& field) {
  To* out = tensor.mutable_data<To>();
  for (const auto value : field) *out++ = static_cast<To>(value);
}

template <typename Field>
void copy_into(Tensor& tensor, const Field& field) {
  if (!field.empty())
    std::memcpy(tensor.mutable_data(), field.data(),
                static_cast<size_t>(field.size()) * sizeof(*field.data()));
}

// int32_data holds one element an entry, except that 4- and 2-bit elements come packed, a byte an entry.
void fill_from_int32(Tensor& tensor, const google::protobuf::RepeatedField<int32_t>& field,
                     const std::string& what) {
  const DType dtype = tensor.dtype();
  const int bits = element_bits(dtype);
  if (bits == 4 || bits == 2) {
    expect_length(what, "int32_data", packed_bytes(dtype, tensor.size()), field.size());
    const std::string bytes(field.begin(), field.end());
    unpack_elements(dtype, reinterpret_cast<const uint8_t*>(bytes.data()), tensor.size(),
                    tensor.mutable_data());
    return;
  }
  expect_length(what, "int32_data", tensor.size(), field.size());
  if (dtype == DType::Int32) return copy_into(tensor, field);
  if (bits == 16) return narrow_into<uint16_t>(tensor, field);
  if (bits == 6)
    for (const int32_t value : field)
      if (value < 0 || value > 0x3f)
        throw ModelError(what + " int32_data", "values of 6 bits", std::to_string(value));
  narrow_into<uint8_t>(tensor, field);
  if (dtype == DType::Bool)
    for (int i = 0; i < field.size(); ++i) tensor.mutable_data<uint8_t>()[i] = field[i] != 0;
}

Tensor from_typed_field(onnx::TensorProto& proto, DType dtype, Dims dims, const std::string& what) {
  const int64_t count = element_count(dims);
  // Lengths first: memory is taken only in proportion to what the file holds.
  switch (dtype) {
    case DType::Float32:
      expect_length(what, "float_data", count, proto.float_data_size());
      break;
    case DType::Complex64:
      expect_length(what, "float_data", checked_mul(count, 2, "elements"), proto.float_data_size());
      break;
    case DType::Float64:
      expect_length(what, "double_data", count, proto.double_data_size());
      break;
    case DType::Complex128:
      expect_length(what, "double_data", checked_mul(count, 2, "elements"), proto.double_data_size());
      break;
    case DType::Int64:
      expect_length(what, "int64_data", count, proto.int64_data_size());
      break;
    case DType::UInt32:
    case DType::UInt64:
      expect_length(what, "uint64_data", count, proto.uint64_data_size());
      break;
    case DType::String:
      expect_length(what, "string_data", count, proto.string_data_size());
      break;
    default:
      expect_length(what, "int32_data",
                    element_bits(dtype) == 4 || element_bits(dtype) == 2 ? packed_bytes(dtype, count) : count,
                    proto.int32_data_size());
  }
  Tensor tensor(dtype, std::move(dims));
  switch (dtype) {
    case DType::Float32:
    case DType::Complex64:
      copy_into(tensor, proto.float_data());
      break;
    case DType::Float64:
    case DType::Complex128:
      copy_into(tensor, proto.double_data());
      break;
    case DType::Int64:
      copy_into(tensor, proto.int64_data());
      break;
    case DType::UInt64:
      copy_into(tensor, proto.uint64_data());
      break;
    case DType::UInt32:
      narrow_into<uint32_t>(tensor, proto.uint64_data());
      break;
    case DType::String:
      for (int i = 0; i < proto.string_data_size(); ++i)
        tensor.mutable_data<std::string>()[i] = std::move(*proto.mutable_string_data(i));
      break;
    default:
      fill_from_int32(tensor, proto.int32_data(), what);
  }
  return tensor;
}

Tensor from_raw(onnx::TensorProto& proto, DType dtype, Dims dims, int64_t count) {
  std::string& raw = *proto.mutable_raw_data();
  Tensor tensor;
  if (element_bits(dtype) < 8 || raw.size() < kMovedBytes) {
    tensor = Tensor(dtype, std::move(dims));
    unpack_elements(dtype, reinterpret_cast<const uint8_t*>(raw.data()), count, tensor.mutable_data());
  } else {
    auto* owned = new std::string(std::move(raw));
    auto buffer = std::make_shared<Buffer>(owned->data(), owned->size(), [owned](void*) { delete owned; });
    tensor = Tensor(dtype, std::move(dims), std::move(buffer));
  }
  if (dtype == DType::Bool) normalize_bools(tensor.mutable_data<uint8_t>(), count);
  return tensor;
}

// Clearing a repeated field keeps its memory; swapping it away does not.
void release_storage(onnx::TensorProto& proto) {
  const auto drop = [](auto* field) { std::decay_t<decltype(*field)>().Swap(field); };
  std::string().swap(*proto.mutable_raw_data());
  drop(proto.mutable_float_data());
  drop(proto.mutable_double_data());
  drop(proto.mutable_int32_data());
  drop(proto.mutable_int64_data());
  drop(proto.mutable_uint64_data());
  drop(proto.mutable_string_data());
}

int64_t parse_size(const std::string& text, const std::string& what) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0)
    throw ModelError(what, "a number of bytes", "'" + text + "'");
  return value;
}

}  // namespace

Tensor TensorReader::external(const onnx::TensorProto& proto, DType dtype, Dims dims, int64_t bytes,
                              const std::string& what) {
  if (dtype == DType::String) throw ModelError(what, "strings in string_data", "external data");
  const std::string* location = nullptr;
  const std::string* offset = nullptr;
  const std::string* length = nullptr;
  for (const auto& entry : proto.external_data()) {
    const std::string** slot = entry.key() == "location" ? &location
                               : entry.key() == "offset" ? &offset
                               : entry.key() == "length" ? &length
                                                         : nullptr;
    if (!slot) continue;
    if (*slot) throw ModelError(what + " external_data", "one '" + entry.key() + "'", "several");
    *slot = &entry.value();
  }
  if (!location) throw ModelError(what + " external_data", "a location", "none");
  if (length && parse_size(*length, what + " external length") != bytes)
    throw ModelError(what + " external length", std::to_string(bytes), *length);
  const auto region =
      files_.region(*location, offset ? parse_size(*offset, what + " external offset") : 0, bytes);
  const size_t width = element_size(dtype);
  if (element_bits(dtype) >= 8 && dtype != DType::Bool && region.offset % width == 0)
    return Tensor(dtype, std::move(dims), region.buffer, region.offset);
  Tensor tensor(dtype, std::move(dims));
  const auto* source = static_cast<const uint8_t*>(region.buffer->data()) + region.offset;
  unpack_elements(dtype, source, tensor.size(), tensor.mutable_data());
  if (dtype == DType::Bool) normalize_bools(tensor.mutable_data<uint8_t>(), tensor.size());
  return tensor;
}

const OutlinedBytes* TensorReader::region_of(const onnx::TensorProto& proto) const {
  const auto& fields = proto.unknown_fields();
  for (int i = regions_.empty() ? 0 : fields.field_count(); i-- > 0;)  // the last counts
    if (fields.field(i).number() == kOutlinedField &&
        fields.field(i).type() == google::protobuf::UnknownField::TYPE_VARINT &&
        fields.field(i).varint() < regions_.size())
      return &regions_[fields.field(i).varint()];
  return nullptr;
}

Tensor TensorReader::read(onnx::TensorProto& proto) {
  const std::string what = called("tensor", proto.name());
  if (!is_valid_dtype(proto.data_type()) || proto.data_type() == 0)
    throw ModelError(what + " data_type", "a type of onnx.TensorProto.DataType",
                     std::to_string(proto.data_type()));
  if (proto.has_segment()) throw UnsupportedError(what, "a whole tensor", "a segment of one");
  const auto dtype = static_cast<DType>(proto.data_type());
  Dims dims(proto.dims().begin(), proto.dims().end());
  const int64_t count = counted(dims, what);
  const int64_t bytes = dtype == DType::String ? 0 : packed_bytes(dtype, count);
  // What the elements take in memory is bounded too, before anything is allocated.
  checked_mul(count, static_cast<int64_t>(element_size(dtype)), "bytes of a tensor");

  if (proto.data_location() == onnx::TensorProto::EXTERNAL)
    return external(proto, dtype, std::move(dims), bytes, what);
  if (storage_fields(proto) > 1) throw ModelError(what, "elements in one field", "elements in several");
  Tensor tensor;
  if (const OutlinedBytes* region = region_of(proto)) {
    if (dtype == DType::String) throw ModelError(what, "strings in string_data", "raw_data");
    if (storage_fields(proto) > 0) throw ModelError(what, "elements in one field", "elements in several");
    if (static_cast<int64_t>(region->bytes) != bytes)
      throw ModelError(what + " raw_data",
                       std::to_string(bytes) + " bytes for " + dtype_name(dtype) + to_string(dims),
                       std::to_string(region->bytes));
    if (element_bits(dtype) >= 8 && dtype != DType::Bool) {
      tensor = Tensor(dtype, std::move(dims), std::make_shared<Buffer>(file_, region->offset, region->bytes));
    } else {
      tensor = Tensor(dtype, std::move(dims));
      unpack_elements(dtype, static_cast<const uint8_t*>(file_->open(region->offset, region->bytes)), count,
                      tensor.mutable_data());
      if (dtype == DType::Bool) normalize_bools(tensor.mutable_data<uint8_t>(), count);
    }
  } else if (!proto.raw_data().empty()) {
    if (dtype == DType::String) throw ModelError(what, "strings in string_data", "raw_data");
    if (static_cast<int64_t>(proto.raw_data().size()) != bytes)
      throw ModelError(what + " raw_data",
                       std::to_string(bytes) + " bytes for " + dtype_name(dtype) + to_string(dims),
                       std::to_string(proto.raw_data().size()));
    tensor = from_raw(proto, dtype, std::move(dims), count);
  } else {
    tensor = from_typed_field(proto, dtype, std::move(dims), what);
  }
  release_storage(proto);
  return tensor;
}

Tensor TensorReader::dense(onnx::TensorProto& proto) {
  const auto it = read_.find(&proto);
  if (it != read_.end()) return it->second;
  return read_[&proto] = read(proto);
}

SparseTensor TensorReader::sparse(onnx::SparseTensorProto& proto) {
  const std::string what = called("sparse tensor", proto.values().name());
  SparseTensor result;
  result.dims.assign(proto.dims().begin(), proto.dims().end());
  const int64_t count = counted(result.dims, what);
  if (!proto.has_values()) throw ModelError(what, "values", "none");
  result.values = dense(*proto.mutable_values());
  if (result.values.rank() != 1)
    throw ModelError(what + " values", "rank 1", std::to_string(result.values.rank()));
  const int64_t stored = result.values.size();
  if (!proto.has_indices() && stored == 0) {
    result.indices = Tensor(DType::Int64, {0});
    return result;
  }
  result.indices = dense(*proto.mutable_indices());
  const Tensor& indices = result.indices;
  if (indices.dtype() != DType::Int64)
    throw ModelError(what + " indices", "int64", dtype_name(indices.dtype()));
  const auto rank = static_cast<int64_t>(result.dims.size());
  const Dims linear{stored}, tuples{stored, rank};
  if (indices.dims() != linear && indices.dims() != tuples)
    throw ModelError(what + " indices", "dims " + to_string(linear) + " or " + to_string(tuples),
                     to_string(indices.dims()));

  if (stored > 0 && count == 0)
    throw ModelError(what, "no values, for it has no elements", std::to_string(stored));
  const int64_t* data = indices.data<int64_t>();
  int64_t previous = -1;
  for (int64_t i = 0; i < stored; ++i) {
    int64_t position = 0;
    if (indices.rank() == 1) {
      position = data[i];
    } else {
      for (int64_t d = 0; d < rank; ++d) {
        const int64_t index = data[i * rank + d];
        const int64_t dim = result.dims[static_cast<size_t>(d)];
        if (index < 0 || index >= dim)
          throw ModelError(what + " indices", "values in [0, " + std::to_string(dim) + ")",
                           std::to_string(index));
        position = position * dim + index;
      }
    }
    if (position < 0 || position >= count)
      throw ModelError(what + " indices", "values in [0, " + std::to_string(count) + ")",
                       std::to_string(position));
    if (position <= previous)
      throw ModelError(what + " indices", "ascending order without repetition", "another order");
    previous = position;
  }
  return result;
}

Tensor TensorReader::densified(onnx::SparseTensorProto& proto) {
  const auto it = read_.find(&proto);
  if (it != read_.end()) return it->second;
  const SparseTensor source = sparse(proto);
  const auto width = static_cast<int64_t>(element_size(source.values.dtype()));
  const int64_t bytes = checked_mul(element_count(source.dims), width, "bytes of a sparse tensor");
  // A sparse tensor with one element in a thousand is an ordinary one; beyond that a file has an allowance.
  const int64_t excess = bytes - std::min<int64_t>(bytes, checked_mul(source.values.size() * width, 1000,
                                                                      "bytes of a sparse tensor"));
  if (excess > sparse_allowance_)
    throw LimitError(
        called("sparse tensor", proto.values().name()), "a dense form in proportion to its values",
        std::to_string(bytes) + " bytes for " + std::to_string(source.values.size()) + " values");
  sparse_allowance_ -= excess;
  Tensor tensor = Tensor::zeros(source.values.dtype(), source.dims);
  const Dims strides = contiguous_strides(source.dims);
  const int64_t* indices = source.indices.data<int64_t>();
  for (int64_t i = 0; i < source.values.size(); ++i) {
    int64_t position = source.indices.rank() == 1 ? indices[i] : 0;
    for (size_t d = 0; source.indices.rank() == 2 && d < strides.size(); ++d)
      position += indices[static_cast<size_t>(i) * strides.size() + d] * strides[d];
    if (tensor.dtype() == DType::String)
      tensor.mutable_data<std::string>()[position] = source.values.data<std::string>()[i];
    else
      std::memcpy(tensor.mutable_data<char>() + position * width, source.values.data<char>() + i * width,
                  static_cast<size_t>(width));
  }
  return read_[&proto] = tensor;
}

}  // namespace sardonyx
