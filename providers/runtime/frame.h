// The memory and the contexts that one run of a plan uses, kept for the next run.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "providers/runtime/plan.h"
#include "providers/runtime/pool.h"

namespace sardonyx {

// Memory for the values of a plan; one run at a time has it.
struct Arena {
  std::shared_ptr<Buffer> memory;
  uint64_t stamp = 0;  // when a plan last needed more than half of it
  bool busy = true;
};

struct Frame {
  std::shared_ptr<Arena> arena;      // null: the plan needs none
  std::vector<Tensor> tensors;       // parallel to the plan's; dims in memory order
  std::vector<RunContext> contexts;  // parallel to the plan's steps
};

// The idle frames of a session and the arenas that they share: there are as many arenas as plans that run at
// the same time, each as large as the largest that used it. What was not needed for a while goes back to the
// system, so that one large input does not hold its memory for ever. Thread-safe.
class FrameCache {
 public:
  // A frame, for one run. It is kept for the next one when `keep` is called before the lease ends.
  class Lease {
   public:
    // LimitError when there is no memory for the arena.
    Lease(FrameCache& cache, const Plan& plan, BufferPool& pool)
        : cache_(cache), plan_(plan.id), frame_(cache.take(plan, pool)) {}
    ~Lease() { cache_.give(plan_, std::move(frame_), keep_); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Frame& operator*() { return *frame_; }
    void keep() { keep_ = true; }

   private:
    FrameCache& cache_;
    uint64_t plan_;
    std::unique_ptr<Frame> frame_;
    bool keep_ = false;
  };

  void clear();

 private:
  struct Entry {
    uint64_t plan;
    std::unique_ptr<Frame> frame;
  };
  // A frame whose tensors of constants and of the arena are in place.
  std::unique_ptr<Frame> take(const Plan& plan, BufferPool& pool);
  std::unique_ptr<Frame> idle_frame(uint64_t plan);
  std::shared_ptr<Arena> idle_arena(size_t bytes);
  std::shared_ptr<Arena> new_arena(size_t bytes, BufferPool& pool);
  void drop(const Arena& arena, std::list<Entry>& out);
  void give(uint64_t plan, std::unique_ptr<Frame> frame, bool keep);

  std::mutex mutex_;
  std::list<Entry> entries_;  // most recent first
  std::list<std::shared_ptr<Arena>> arenas_;
  uint64_t clock_ = 0;
};

}  // namespace sardonyx
