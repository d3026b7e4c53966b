#include "sardonyx/tensor.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <utility>

#include "graph/allocation.h"
#include "graph/shape.h"

namespace sardonyx {

namespace {
size_t number_in(const char* path, const char* key) {
  std::ifstream file(path);
  std::string word;
  while (file >> word)
    if (*key == 0 || word == key) {
      if (*key != 0) file >> word;
      return word.find_first_not_of("0123456789") == std::string::npos ? std::stoull(word) : SIZE_MAX;
    }
  return SIZE_MAX;
}
}  // namespace

size_t available_memory() {
  const size_t kib = number_in("/proc/meminfo", "MemAvailable:");
  size_t available = kib == SIZE_MAX ? SIZE_MAX : kib * 1024;
  const size_t limit = number_in("/sys/fs/cgroup/memory.max", "");
  const size_t used = number_in("/sys/fs/cgroup/memory.current", "");
  if (limit != SIZE_MAX && used != SIZE_MAX) available = std::min(available, limit - std::min(limit, used));
  return available;
}

void check_available(size_t bytes) {
  constexpr size_t kWorthAsking = size_t{256} << 20;
  if (bytes >= kWorthAsking && bytes > available_memory())
    throw LimitError("allocation", "at most the available " + std::to_string(available_memory()) + " bytes",
                     std::to_string(bytes));
}

namespace {

thread_local AllocationScope::Allocate scope_allocate = nullptr;
thread_local void* scope_context = nullptr;

}  // namespace

AllocationScope::AllocationScope(Allocate allocate, void* context)
    : outer_allocate_(std::exchange(scope_allocate, allocate)),
      outer_context_(std::exchange(scope_context, context)) {}

AllocationScope::~AllocationScope() {
  scope_allocate = outer_allocate_;
  scope_context = outer_context_;
}

void* allocate_aligned(size_t bytes) {
  constexpr size_t kAlignment = 64;
  if (bytes > SIZE_MAX - 2 * kAlignment) return nullptr;
  void* data = nullptr;
  const size_t slack = kExactAllocations ? 0 : kAlignment;
  return posix_memalign(&data, kAlignment, bytes + slack) == 0 ? data : nullptr;
}

std::shared_ptr<Buffer> Buffer::host(size_t bytes) {
  if (scope_allocate) return scope_allocate(scope_context, bytes);
  check_available(bytes);
  void* data = allocate_aligned(bytes);
  if (!data) throw LimitError("allocation", "memory for " + std::to_string(bytes) + " bytes", "none");
  return std::make_shared<Buffer>(data, bytes, [](void* p) { std::free(p); });
}

std::shared_ptr<Buffer> Buffer::strings(size_t n) {
  check_available(static_cast<size_t>(
      checked_mul(static_cast<int64_t>(n), static_cast<int64_t>(sizeof(std::string)), "bytes of a tensor")));
  auto* data = new std::string[n == 0 ? 1 : n];
  return std::make_shared<Buffer>(data, n * sizeof(std::string),
                                  [](void* p) { delete[] static_cast<std::string*>(p); });
}

namespace {
// Bytes of a tensor, checked: a hostile model cannot make this wrap around.
size_t checked_bytes(DType dtype, const Dims& dims) {
  if (element_size(dtype) == 0) throw ModelError("tensor", "an element type", dtype_name(dtype));
  return static_cast<size_t>(
      checked_mul(element_count(dims), static_cast<int64_t>(element_size(dtype)), "bytes of a tensor"));
}
}  // namespace

Tensor::Tensor(DType dtype, Dims dims) : dtype_(dtype), dims_(std::move(dims)), size_(element_count(dims_)) {
  const size_t bytes = checked_bytes(dtype, dims_);
  buffer_ = dtype == DType::String ? Buffer::strings(static_cast<size_t>(size_)) : Buffer::host(bytes);
}

Tensor::Tensor(DType dtype, Dims dims, std::shared_ptr<Buffer> buffer, size_t offset)
    : dtype_(dtype),
      dims_(std::move(dims)),
      size_(element_count(dims_)),
      buffer_(std::move(buffer)),
      offset_(offset) {
  const size_t bytes = checked_bytes(dtype, dims_);
  if (!buffer_ || offset_ > buffer_->bytes() || buffer_->bytes() - offset_ < bytes)
    throw ModelError("tensor of " + sardonyx::to_string(dims_), std::to_string(bytes) + " bytes",
                     std::to_string(buffer_ ? buffer_->bytes() - std::min(offset_, buffer_->bytes()) : 0));
}

Tensor Tensor::zeros(DType dtype, Dims dims) {
  Tensor tensor(dtype, std::move(dims));
  if (dtype != DType::String) std::memset(tensor.mutable_data(), 0, tensor.bytes());
  return tensor;
}

Tensor Tensor::borrow(DType dtype, Dims dims, void* data) {
  const size_t bytes = checked_bytes(dtype, dims);
  return Tensor(dtype, std::move(dims), std::make_shared<Buffer>(data, bytes, nullptr));
}

Tensor Tensor::reshaped(Dims dims) const {
  if (element_count(dims) != size_)
    throw InputError("reshape to " + sardonyx::to_string(dims), std::to_string(size_) + " elements",
                     std::to_string(element_count(dims)));
  Tensor view = *this;
  view.dims_ = std::move(dims);
  return view;
}

Tensor Tensor::clone() const {
  Tensor copy(dtype_, dims_);
  if (dtype_ == DType::String)
    std::copy_n(data<std::string>(), size_, copy.mutable_data<std::string>());
  else
    std::memcpy(copy.mutable_data(), data(), bytes());
  return copy;
}

namespace {
template <typename To>
bool convert_elements(const Tensor& tensor, std::vector<To>& out) {
  const auto fill = [&]<typename T>(const T* data) {
    for (int64_t i = 0; i < tensor.size(); ++i) out.push_back(static_cast<To>(data[i]));
    return true;
  };
  out.reserve(static_cast<size_t>(tensor.size()));
  switch (tensor.dtype()) {
    case DType::Int64:
      return fill(tensor.data<int64_t>());
    case DType::Int32:
      return fill(tensor.data<int32_t>());
    case DType::Int16:
      return fill(tensor.data<int16_t>());
    case DType::Int8:
    case DType::Int4:
    case DType::Int2:
      return fill(tensor.data<int8_t>());
    case DType::UInt64:
      return fill(tensor.data<uint64_t>());
    case DType::UInt32:
      return fill(tensor.data<uint32_t>());
    case DType::UInt16:
      return fill(tensor.data<uint16_t>());
    case DType::UInt8:
    case DType::UInt4:
    case DType::UInt2:
    case DType::Bool:
      return fill(tensor.data<uint8_t>());
    default:
      return false;
  }
}
}  // namespace

std::vector<int64_t> Tensor::to_int64s() const {
  std::vector<int64_t> values;
  if (!convert_elements(*this, values)) throw InputError("tensor", "an integer type", dtype_name(dtype_));
  return values;
}

std::vector<double> Tensor::to_doubles() const {
  std::vector<double> values;
  if (convert_elements(*this, values)) return values;
  for (int64_t i = 0; i < size_; ++i) {
    switch (dtype_) {
      case DType::Float32:
        values.push_back(data<float>()[i]);
        break;
      case DType::Float64:
        values.push_back(data<double>()[i]);
        break;
      case DType::Float16:
        values.push_back(half_to_float(data<uint16_t>()[i]));
        break;
      case DType::BFloat16:
        values.push_back(static_cast<float>(data<BFloat16>()[i]));
        break;
      default:
        if (!is_float(dtype_)) throw InputError("tensor", "a numeric type", dtype_name(dtype_));
        values.push_back(small_to_float(dtype_, data<uint8_t>()[i]));
    }
  }
  return values;
}

const char* Value::kind_name() const {
  static constexpr const char* kNames[] = {"nothing", "tensor",        "sequence",
                                           "map",     "sparse tensor", "empty optional"};
  return kNames[data_.index()];
}

namespace {
[[noreturn]] void wrong_kind(const char* expected, const Value& value) {
  throw InputError("value", std::string("a ") + expected, value.kind_name());
}
}  // namespace

const Tensor& Value::tensor() const {
  if (const auto* tensor = std::get_if<Tensor>(&data_)) return *tensor;
  wrong_kind("tensor", *this);
}
Tensor& Value::tensor() { return const_cast<Tensor&>(std::as_const(*this).tensor()); }
const Sequence& Value::sequence() const {
  if (const auto* p = std::get_if<2>(&data_)) return **p;
  wrong_kind("sequence", *this);
}
const Map& Value::map() const {
  if (const auto* p = std::get_if<3>(&data_)) return **p;
  wrong_kind("map", *this);
}
const SparseTensor& Value::sparse() const {
  if (const auto* p = std::get_if<4>(&data_)) return **p;
  wrong_kind("sparse tensor", *this);
}

}  // namespace sardonyx
