// The memory and the contexts that one run of a plan uses, kept for the next run.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "providers/runtime/plan.h"
#include "providers/runtime/pool.h"

namespace sardonyx {

struct Frame {
  std::shared_ptr<Buffer> arena;
  std::vector<Tensor> tensors;       // parallel to the plan's; dims in memory order
  std::vector<RunContext> contexts;  // parallel to the plan's steps
};

// A frame whose tensors of constants and of the arena are in place.
std::unique_ptr<Frame> make_frame(const Plan& plan, BufferPool& pool);

// The idle frames of a session. What was not taken for a while goes back to the system, so that one large
// input does not hold its memory for ever. Thread-safe.
class FrameCache {
 public:
  std::unique_ptr<Frame> take(uint64_t plan);
  void give(uint64_t plan, std::unique_ptr<Frame> frame);
  void clear();
  size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    uint64_t plan, stamp;
    std::unique_ptr<Frame> frame;
  };
  static size_t bytes_of(const Frame& frame) { return frame.arena ? frame.arena->bytes() : 0; }
  void drop_back(std::list<Entry>& out);

  std::mutex mutex_;
  std::list<Entry> entries_;  // most recent first
  size_t bytes_ = 0;
  uint64_t clock_ = 0;
};

}  // namespace sardonyx
