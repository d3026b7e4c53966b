#include "graph/bytes.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "graph/allocation.h"

namespace sardonyx {

namespace {

std::mutex filling;  // of lazy buffers, which are few

// Memory that goes back to the system when it is freed, which malloc would keep.
std::shared_ptr<Buffer> map_memory(size_t bytes) {
  check_available(bytes);
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) throw LimitError("allocation", "memory for " + std::to_string(bytes) + " bytes", "none");
  return std::make_shared<Buffer>(data, bytes, [bytes](void* p) { ::munmap(p, bytes); });
}

}  // namespace

Buffer::Buffer(std::shared_ptr<const ByteSource> source, size_t offset, size_t bytes)
    : data_(nullptr),
      bytes_(bytes),
      device_(0),
      release_([](void* p) { std::free(p); }),
      source_(std::move(source)),
      source_offset_(offset) {}

void* Buffer::fill() const {
  std::lock_guard lock(filling);
  if (void* data = data_.load(std::memory_order_acquire)) return data;
  check_available(bytes_);
  void* data = allocate_aligned(bytes_);
  if (!data) throw LimitError("allocation", "memory for " + std::to_string(bytes_) + " bytes", "none");
  constexpr size_t kPiece = size_t{4} << 20;  // of the source that is in memory at a time
  try {
    for (size_t done = 0; done < bytes_; done += kPiece) {
      const size_t at = source_offset_ + done, piece = std::min(kPiece, bytes_ - done);
      std::memcpy(static_cast<char*>(data) + done, source_->open(at, piece), piece);
      source_->close(at, piece);
    }
  } catch (...) {
    std::free(data);
    throw;
  }
  data_.store(data, std::memory_order_release);
  return data;
}

TensorBytes::TensorBytes(const Tensor& tensor) : tensor_(tensor) {
  const Buffer& buffer = *tensor.buffer();
  source_ = buffer.is_filled() ? nullptr : buffer.source();
  if (!source_) {
    data_ = tensor.data();
    return;
  }
  data_ = source_->open(buffer.source_offset() + tensor.offset(), tensor.bytes());
  if (reinterpret_cast<uintptr_t>(data_) % element_size(tensor.dtype()) == 0) return;
  copy_ = map_memory(tensor.bytes());
  std::memcpy(copy_->data(), data_, tensor.bytes());
  data_ = copy_->data();
}

TensorBytes::~TensorBytes() {
  if (source_) source_->close(tensor_.buffer()->source_offset() + tensor_.offset(), tensor_.bytes());
}

}  // namespace sardonyx
