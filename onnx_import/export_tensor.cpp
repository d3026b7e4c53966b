#include "onnx_import/export_tensor.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "onnx_import/export.h"
#include "ops/registry/proto.h"

namespace sardonyx {

namespace {

constexpr int64_t kAlignment = 64;

void check_host(const Tensor& tensor, const std::string& name) {
  if (!tensor.defined()) throw InputError("tensor '" + name + "'", "a value", "none");
  if (tensor.device() != 0) throw InputError("tensor '" + name + "'", "host memory", "device memory");
}

[[noreturn]] void cannot_write(const std::string& path) {
  throw FileError("file '" + path + "'", "a writable file", std::strerror(errno));
}

}  // namespace

int64_t stored_bytes(const Tensor& tensor) {
  if (tensor.dtype() != DType::String) return packed_bytes(tensor.dtype(), tensor.size());
  int64_t bytes = 0;
  for (int64_t i = 0; i < tensor.size(); ++i)
    bytes += static_cast<int64_t>(tensor.data<std::string>()[i].size()) + 4;
  return bytes;
}

TensorWriter::TensorWriter(std::string path, std::string location, int64_t threshold)
    : path_(std::move(path)), location_(std::move(location)), threshold_(threshold) {
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) cannot_write(path_);
}

TensorWriter::~TensorWriter() {
  if (fd_ >= 0) ::close(fd_);
}

void TensorWriter::append(const void* data, int64_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(fd_, next, static_cast<size_t>(bytes));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) cannot_write(path_);
    next += written;
    bytes -= written;
    offset_ += written;
  }
}

void TensorWriter::finish() {
  if (fd_ < 0) return;
  if (::fsync(fd_) != 0) cannot_write(path_);
  if (::close(std::exchange(fd_, -1)) != 0) cannot_write(path_);
}

void TensorWriter::write(const Tensor& tensor, const std::string& name, onnx::TensorProto& proto) {
  check_host(tensor, name);
  const int64_t bytes = stored_bytes(tensor);
  if (fd_ < 0 || tensor.dtype() == DType::String || bytes == 0 || bytes < threshold_) {
    to_proto(tensor, proto);
    if (!name.empty()) proto.set_name(name);
    return;
  }
  static constexpr char kZeros[kAlignment] = {};
  if (offset_ % kAlignment != 0) append(kZeros, kAlignment - offset_ % kAlignment);
  proto.set_data_type(static_cast<int32_t>(tensor.dtype()));
  for (const int64_t dim : tensor.dims()) proto.add_dims(dim);
  if (!name.empty()) proto.set_name(name);
  proto.set_data_location(onnx::TensorProto::EXTERNAL);
  const auto entry = [&](const char* key, const std::string& value) {
    auto* e = proto.add_external_data();
    e->set_key(key);
    e->set_value(value);
  };
  entry("location", location_);
  entry("offset", std::to_string(offset_));
  entry("length", std::to_string(bytes));
  if (element_bits(tensor.dtype()) >= 8) {
    append(tensor.data(), bytes);
  } else {
    std::vector<uint8_t> packed(static_cast<size_t>(bytes));
    pack_elements(tensor.dtype(), tensor.data(), tensor.size(), packed.data());
    append(packed.data(), bytes);
  }
}

void TensorWriter::write(const SparseTensor& sparse, const std::string& name,
                         onnx::SparseTensorProto& proto) {
  write(sparse.values, name, *proto.mutable_values());
  write(sparse.indices, "", *proto.mutable_indices());
  for (const int64_t dim : sparse.dims) proto.add_dims(dim);
}

namespace {

using Kind = onnx::SequenceProto;

void fill(const Value& value, const std::string& name, onnx::SequenceProto& proto);
void fill(const Value& value, const std::string& name, onnx::MapProto& proto);

int kind_of(const Value& value) {
  if (value.is_tensor()) return Kind::TENSOR;
  if (value.is_sparse()) return Kind::SPARSE_TENSOR;
  if (value.is_sequence()) return Kind::SEQUENCE;
  if (value.is_map()) return Kind::MAP;
  if (value.is_nothing()) return Kind::OPTIONAL;
  throw InputError("export of a value", "a value", "none");
}

template <typename Items>
void fill_items(const Items& items, onnx::SequenceProto& proto) {
  TensorWriter writer;
  proto.set_elem_type(Kind::TENSOR);
  if (!items.empty()) proto.set_elem_type(kind_of(*items.begin()));
  for (const Value& item : items) {
    if (kind_of(item) != proto.elem_type())
      throw InputError("sequence", "items of one kind", "several kinds");
    switch (proto.elem_type()) {
      case Kind::TENSOR:
        writer.write(item.tensor(), "", *proto.add_tensor_values());
        break;
      case Kind::SPARSE_TENSOR:
        writer.write(item.sparse(), "", *proto.add_sparse_tensor_values());
        break;
      case Kind::SEQUENCE:
        fill(item, "", *proto.add_sequence_values());
        break;
      case Kind::MAP:
        fill(item, "", *proto.add_map_values());
        break;
      default:
        proto.add_optional_values()->set_elem_type(onnx::OptionalProto::UNDEFINED);
    }
  }
}

void fill(const Value& value, const std::string& name, onnx::SequenceProto& proto) {
  if (!name.empty()) proto.set_name(name);
  fill_items(value.sequence().items, proto);
}

void fill(const Value& value, const std::string& name, onnx::MapProto& proto) {
  if (!name.empty()) proto.set_name(name);
  std::vector<Value> values;
  if (const auto* ints = std::get_if<0>(&value.map().items)) {
    proto.set_key_type(onnx::TensorProto::INT64);
    for (const auto& [key, item] : *ints) {
      proto.add_keys(key);
      values.push_back(item);
    }
  } else {
    proto.set_key_type(onnx::TensorProto::STRING);
    for (const auto& [key, item] : std::get<1>(value.map().items)) {
      proto.add_string_keys(key);
      values.push_back(item);
    }
  }
  fill_items(values, *proto.mutable_values());
}

template <typename Proto>
std::string serialized(const Proto& proto) {
  std::string bytes;
  if (!proto.SerializeToString(&bytes)) throw LimitError("value", "less than 2 GB", "more");
  return bytes;
}

}  // namespace

std::string export_value(const Value& value, const std::string& name) {
  TensorWriter writer;
  switch (kind_of(value)) {
    case Kind::TENSOR: {
      onnx::TensorProto proto;
      writer.write(value.tensor(), name, proto);
      return serialized(proto);
    }
    case Kind::SPARSE_TENSOR: {
      onnx::SparseTensorProto proto;
      writer.write(value.sparse(), name, proto);
      return serialized(proto);
    }
    case Kind::SEQUENCE: {
      onnx::SequenceProto proto;
      fill(value, name, proto);
      return serialized(proto);
    }
    case Kind::MAP: {
      onnx::MapProto proto;
      fill(value, name, proto);
      return serialized(proto);
    }
    default: {
      onnx::OptionalProto proto;
      if (!name.empty()) proto.set_name(name);
      proto.set_elem_type(onnx::OptionalProto::UNDEFINED);
      return serialized(proto);
    }
  }
}

}  // namespace sardonyx
