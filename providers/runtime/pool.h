// Reuses the memory of freed tensors: a run frees and takes the same sizes over and over.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "sardonyx/tensor.h"

namespace sardonyx {

// Thread-safe; buffers keep the pool alive. Holds at most `max_cached` bytes of free memory.
class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  explicit BufferPool(size_t max_cached = size_t{512} << 20) : max_cached_(max_cached) {}
  ~BufferPool();
  // 64-byte aligned host memory, uninitialised. LimitError past `limit` live bytes (0: none).
  std::shared_ptr<Buffer> allocate(size_t bytes);
  // The same, but what is given back goes to the system.
  std::shared_ptr<Buffer> allocate_once(size_t bytes);
  void set_limit(size_t bytes) { limit_ = bytes; }
  // Frees what is cached.
  void trim();
  size_t live() const { return live_; }
  size_t peak() const { return peak_; }
  size_t cached() const { return cached_; }

 private:
  void give_back(void* data, size_t bytes);
  void reserve(size_t bytes);
  void* from_system(size_t bytes, size_t reserved);
  static int size_class(size_t bytes);
  static size_t class_bytes(int c);
  static constexpr int kClasses = 192;

  std::mutex mutex_;
  std::vector<void*> free_[kClasses];
  size_t max_cached_, limit_ = 0, live_ = 0, peak_ = 0, cached_ = 0;
};

}  // namespace sardonyx
