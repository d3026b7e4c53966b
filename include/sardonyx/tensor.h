// Host and device values: Tensor, and Value, which is a tensor, a sequence, an optional, a map or a
// sparse tensor.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "sardonyx/dtype.h"
#include "sardonyx/error.h"

namespace sardonyx {

// Concrete dimensions, outermost first. Rank 0 is a scalar with one element.
using Dims = std::vector<int64_t>;

// Product of the dimensions. LimitError past 2^56, also beside a zero; ModelError on a negative dimension.
SARDONYX_API int64_t element_count(const Dims& dims);
SARDONYX_API std::string to_string(const Dims& dims);  // "[2, 3]"

// Bytes that this process may still take: the machine's available memory, bounded by its cgroup.
SARDONYX_API size_t available_memory();

class ByteSource;

// A block of memory with an owner. device 0 is the host; other numbers are given out by providers.
class SARDONYX_API Buffer {
 public:
  Buffer(void* data, size_t bytes, std::function<void(void*)> release, int device = 0)
      : data_(data), bytes_(bytes), device_(device), release_(std::move(release)) {}
  // Memory that is taken, and filled from `offset` of the source on, when data() is first called.
  Buffer(std::shared_ptr<const ByteSource> source, size_t offset, size_t bytes);
  ~Buffer() {
    if (release_) release_(data_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  // FileError when it comes from a file that has changed meanwhile.
  void* data() const {
    void* data = data_.load(std::memory_order_acquire);
    return data || !source_ ? data : fill();
  }
  bool is_filled() const { return !source_ || data_.load(std::memory_order_acquire); }
  const std::shared_ptr<const ByteSource>& source() const { return source_; }  // null: it has none
  size_t source_offset() const { return source_offset_; }
  size_t bytes() const { return bytes_; }
  int device() const { return device_; }
  // 64-byte aligned host memory, uninitialised. LimitError when it cannot be had.
  static std::shared_ptr<Buffer> host(size_t bytes);
  // An array of n empty std::string.
  static std::shared_ptr<Buffer> strings(size_t n);

 private:
  void* fill() const;
  mutable std::atomic<void*> data_;
  size_t bytes_;
  int device_;
  std::function<void(void*)> release_;
  std::shared_ptr<const ByteSource> source_;
  size_t source_offset_ = 0;
};

// A dense row-major array: dtype, dimensions and a shared buffer at a byte offset. Copying a Tensor
// shares its buffer. Elements narrower than a byte take one byte each.
class SARDONYX_API Tensor {
 public:
  Tensor() = default;
  // Uninitialised host memory (strings are empty strings).
  Tensor(DType dtype, Dims dims);
  // A view of a buffer; the bytes from offset on must hold all elements.
  Tensor(DType dtype, Dims dims, std::shared_ptr<Buffer> buffer, size_t offset = 0);

  static Tensor zeros(DType dtype, Dims dims);
  // A one-dimensional tensor, or one of the given dims, holding a copy of the values.
  template <typename T>
  static Tensor of(const std::vector<T>& values);
  template <typename T>
  static Tensor of(const std::vector<T>& values, Dims dims);
  template <typename T>
  static Tensor scalar(T value) {
    return of(std::vector<T>{value}, {});
  }
  // A view of memory that the caller keeps alive for as long as the tensor or a copy of it lives.
  static Tensor borrow(DType dtype, Dims dims, void* data);

  bool defined() const { return dtype_ != DType::Undefined; }
  DType dtype() const { return dtype_; }
  const Dims& dims() const { return dims_; }
  int64_t dim(int i) const { return dims_[static_cast<size_t>(i < 0 ? i + rank() : i)]; }
  int rank() const { return static_cast<int>(dims_.size()); }
  int64_t size() const { return size_; }
  size_t bytes() const { return static_cast<size_t>(size_) * element_size(dtype_); }
  int device() const { return buffer_ ? buffer_->device() : 0; }
  const std::shared_ptr<Buffer>& buffer() const { return buffer_; }
  size_t offset() const { return offset_; }

  const void* data() const { return static_cast<const char*>(buffer_->data()) + offset_; }
  // Writing through a shared buffer is seen by every tensor that shares it.
  void* mutable_data() { return static_cast<char*>(buffer_->data()) + offset_; }
  template <typename T>
  const T* data() const {
    return static_cast<const T*>(data());
  }
  template <typename T>
  T* mutable_data() {
    return static_cast<T*>(mutable_data());
  }

  // The same elements under other dims; InputError when the counts differ.
  Tensor reshaped(Dims dims) const;
  // A deep copy in host memory; the source must be in host memory.
  Tensor clone() const;
  // Elements as int64 (any integer or bool dtype); InputError for other dtypes.
  std::vector<int64_t> to_int64s() const;
  // Elements as double (any float, integer or bool dtype); InputError for other dtypes.
  std::vector<double> to_doubles() const;

 private:
  DType dtype_ = DType::Undefined;
  Dims dims_;
  int64_t size_ = 0;
  std::shared_ptr<Buffer> buffer_;
  size_t offset_ = 0;
};

class Value;

struct Sequence {
  DType element = DType::Undefined;  // element dtype of a sequence of tensors; Undefined when unknown
  std::vector<Value> items;
};
// ONNX maps: integer or string keys to values, in ascending order of the key.
struct Map {
  std::variant<std::map<int64_t, Value>, std::map<std::string, Value>> items;
};
struct SparseTensor {
  Dims dims;
  Tensor values;   // [nnz]
  Tensor indices;  // int64 [nnz] (linear) or [nnz, rank]
};
// An optional without a value.
struct Nothing {};

// What an edge of a graph can carry. An optional that holds something is that thing itself.
class SARDONYX_API Value {
 public:
  Value() = default;  // an empty slot: neither a value nor an empty optional
  Value(Tensor tensor) : data_(std::move(tensor)) {}
  Value(Sequence sequence) : data_(std::make_shared<const Sequence>(std::move(sequence))) {}
  Value(Map map) : data_(std::make_shared<const Map>(std::move(map))) {}
  Value(SparseTensor sparse) : data_(std::make_shared<const SparseTensor>(std::move(sparse))) {}
  Value(Nothing nothing) : data_(nothing) {}

  bool defined() const { return data_.index() != 0; }
  bool is_tensor() const { return std::holds_alternative<Tensor>(data_); }
  bool is_sequence() const { return data_.index() == 2; }
  bool is_map() const { return data_.index() == 3; }
  bool is_sparse() const { return data_.index() == 4; }
  bool is_nothing() const { return data_.index() == 5; }
  // InputError when the value is of another kind.
  const Tensor& tensor() const;
  Tensor& tensor();
  const Sequence& sequence() const;
  const Map& map() const;
  const SparseTensor& sparse() const;
  const char* kind_name() const;

 private:
  std::variant<std::monostate, Tensor, std::shared_ptr<const Sequence>, std::shared_ptr<const Map>,
               std::shared_ptr<const SparseTensor>, Nothing>
      data_;
};

}  // namespace sardonyx

#include "sardonyx/tensor_inl.h"
