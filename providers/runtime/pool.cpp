#include "providers/runtime/pool.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "graph/allocation.h"

namespace sardonyx {

namespace {
constexpr size_t kSmallest = 256;
constexpr size_t kWorthAsking = size_t{256} << 20;
}  // namespace

// Four classes to each power of two, so at most a quarter of a block is unused.
int BufferPool::size_class(size_t bytes) {
  if (bytes <= kSmallest) return 0;
  const size_t n = bytes - 1;
  const int log = std::bit_width(n) - 1;
  const int quarter = static_cast<int>((n >> (log - 2)) & 3);
  return (log - 8) * 4 + quarter + 1;
}

size_t BufferPool::class_bytes(int c) {
  if (c == 0) return kSmallest;
  const int log = (c - 1) / 4 + 8, quarter = (c - 1) % 4;
  return (size_t{1} << log) + (static_cast<size_t>(quarter) + 1) * (size_t{1} << (log - 2));
}

// Counts `bytes` as live; the lock is held.
void BufferPool::reserve(size_t bytes) {
  if (limit_ != 0 && live_ + bytes > limit_)
    throw LimitError("memory of the session", "at most " + std::to_string(limit_) + " bytes",
                     std::to_string(live_ + bytes));
  live_ += bytes;
  peak_ = std::max(peak_, live_);
}

void* BufferPool::from_system(size_t bytes, size_t reserved) {
  const auto refuse = [&](const std::string& got) {
    std::lock_guard lock(mutex_);
    live_ -= reserved;
    throw LimitError("allocation of " + std::to_string(bytes) + " bytes", "available memory", got);
  };
  if (reserved >= kWorthAsking && reserved > available_memory()) {
    trim();
    const size_t available = available_memory();
    if (reserved > available) refuse(std::to_string(available) + " bytes");
  }
  void* data = allocate_aligned(kExactAllocations ? bytes : reserved);
  if (!data) refuse("none");
  return data;
}

namespace {
void check_size(size_t bytes) {
  constexpr size_t kLargest = size_t{1} << 50;
  if (bytes > kLargest)
    throw LimitError("allocation", "a size that fits in memory", std::to_string(bytes) + " bytes");
}
}  // namespace

std::shared_ptr<Buffer> BufferPool::allocate(size_t bytes) {
  check_size(bytes);
  const int c = size_class(bytes);
  const size_t rounded = class_bytes(c);
  void* data = nullptr;
  {
    std::lock_guard lock(mutex_);
    reserve(rounded);
    if (!free_[c].empty()) {
      data = free_[c].back();
      free_[c].pop_back();
      cached_ -= rounded;
    }
  }
  if (!data) data = from_system(bytes, rounded);
  return std::make_shared<Buffer>(
      data, bytes, [pool = shared_from_this(), rounded](void* p) { pool->give_back(p, rounded); });
}

std::shared_ptr<Buffer> BufferPool::allocate_once(size_t bytes) {
  check_size(bytes);
  const size_t rounded = (bytes + 63) / 64 * 64;
  {
    std::lock_guard lock(mutex_);
    reserve(rounded);
  }
  return std::make_shared<Buffer>(from_system(bytes, rounded), bytes,
                                  [pool = shared_from_this(), rounded](void* p) {
                                    std::free(p);
                                    std::lock_guard lock(pool->mutex_);
                                    pool->live_ -= rounded;
                                  });
}

void BufferPool::give_back(void* data, size_t bytes) {
  {
    std::lock_guard lock(mutex_);
    live_ -= bytes;
    if (!kExactAllocations && cached_ + bytes <= max_cached_) {
      free_[size_class(bytes)].push_back(data);
      cached_ += bytes;
      return;
    }
  }
  std::free(data);
}

void BufferPool::trim() {
  std::vector<void*> blocks;
  {
    std::lock_guard lock(mutex_);
    for (auto& list : free_) {
      blocks.insert(blocks.end(), list.begin(), list.end());
      list.clear();
      list.shrink_to_fit();
    }
    cached_ = 0;
  }
  for (void* block : blocks) std::free(block);
}

BufferPool::~BufferPool() { trim(); }

}  // namespace sardonyx
