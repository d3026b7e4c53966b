#include "providers/runtime/frame.h"

#include <sanitizer/asan_interface.h>

#include <algorithm>

#include "graph/allocation.h"

namespace sardonyx {

namespace {
constexpr size_t kMaxFrames = 64;
constexpr size_t kLarge = size_t{1} << 20;
constexpr uint64_t kIdleRuns = 64;

// What lies between the storages of the arena may not be touched.
void fence(const Plan& plan, Buffer& arena) {
  ASAN_POISON_MEMORY_REGION(arena.data(), plan.arena);
  for (const PlanStorage& s : plan.storages)
    if (s.kind == PlanStorage::Kind::Arena)
      ASAN_UNPOISON_MEMORY_REGION(static_cast<std::byte*>(arena.data()) + s.offset, s.bytes);
}

void fill(Frame& frame, const Plan& plan, BufferPool& pool) {
  if (frame.arena && kExactAllocations) fence(plan, *frame.arena->memory);
  frame.tensors.resize(plan.tensors.size());
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlanTensor& tensor = plan.tensors[i];
    const PlanStorage& storage = plan.storages[static_cast<size_t>(tensor.storage)];
    Dims dims = memory_dims(tensor.desc.dims, tensor.desc.layout);
    if (storage.kind == PlanStorage::Kind::Constant)
      frame.tensors[i] = part_of(storage.constant, std::move(dims), tensor.offset);
    else if (storage.kind == PlanStorage::Kind::Arena)
      frame.tensors[i] =
          Tensor(tensor.desc.dtype, std::move(dims), frame.arena->memory, storage.offset + tensor.offset);
  }
  frame.contexts.resize(plan.steps.size());
  for (size_t s = 0; s < plan.steps.size(); ++s) {
    const PlanStep& step = plan.steps[s];
    if (step.interpreted) continue;
    RunContext& ctx = frame.contexts[s];
    ctx.node_ = step.node;
    ctx.run_ = &pool;
    ctx.allocate_ = [](void* p, size_t bytes) { return static_cast<BufferPool*>(p)->allocate(bytes); };
    const auto values = [&](const std::vector<int>& tensors, std::vector<Value>& to) {
      to.resize(tensors.size());
      for (size_t i = 0; i < tensors.size(); ++i)
        if (tensors[i] >= 0 && frame.tensors[static_cast<size_t>(tensors[i])].defined())
          to[i] = frame.tensors[static_cast<size_t>(tensors[i])];
    };
    values(step.inputs, ctx.inputs_);
    values(step.outputs, ctx.outputs_);
    if (step.scratch >= 0)
      ctx.scratch_ = static_cast<std::byte*>(frame.arena->memory->data()) +
                     plan.storages[static_cast<size_t>(step.scratch)].offset;
  }
}
}  // namespace

std::unique_ptr<Frame> FrameCache::idle_frame(uint64_t plan) {
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if (it->plan != plan || (it->frame->arena && it->frame->arena->busy)) continue;
    auto frame = std::move(it->frame);
    entries_.erase(it);
    return frame;
  }
  return nullptr;
}

// The smallest that is large enough. A fenced arena belongs to one frame.
std::shared_ptr<Arena> FrameCache::idle_arena(size_t bytes) {
  std::shared_ptr<Arena> best;
  for (const auto& arena : arenas_)
    if (!kExactAllocations && !arena->busy && arena->memory->bytes() >= bytes &&
        (!best || arena->memory->bytes() < best->memory->bytes()))
      best = arena;
  return best;
}

// Takes the place of a smaller idle one. The next size up is likely to be asked for soon: an arena has an
// eighth to spare.
std::shared_ptr<Arena> FrameCache::new_arena(size_t bytes, BufferPool& pool) {
  std::list<Entry> dropped;  // freed after the lock
  if (!kExactAllocations) {
    std::lock_guard lock(mutex_);
    const auto idle = std::find_if(arenas_.begin(), arenas_.end(), [](const auto& a) { return !a->busy; });
    if (idle != arenas_.end()) {
      drop(**idle, dropped);
      arenas_.erase(idle);
    }
  }
  dropped.clear();
  auto arena = std::make_shared<Arena>();
  arena->memory = pool.allocate_once(kExactAllocations ? bytes : bytes + bytes / 8);
  std::lock_guard lock(mutex_);
  arenas_.push_back(arena);
  return arena;
}

std::unique_ptr<Frame> FrameCache::take(const Plan& plan, BufferPool& pool) {
  std::unique_ptr<Frame> frame;
  std::shared_ptr<Arena> arena;
  {
    std::lock_guard lock(mutex_);
    frame = idle_frame(plan.id);
    arena = frame ? frame->arena : plan.arena != 0 ? idle_arena(plan.arena) : nullptr;
    if (arena) {
      arena->busy = true;
      if (plan.arena > arena->memory->bytes() / 2) arena->stamp = clock_;
    }
  }
  if (frame) return frame;
  frame = std::make_unique<Frame>();
  frame->arena = arena || plan.arena == 0 ? arena : new_arena(plan.arena, pool);
  try {
    fill(*frame, plan, pool);
  } catch (...) {
    give(plan.id, std::move(frame), false);
    throw;
  }
  return frame;
}

// The idle frames of an arena.
void FrameCache::drop(const Arena& arena, std::list<Entry>& out) {
  for (auto it = entries_.begin(); it != entries_.end();) {
    const auto here = it++;
    if (here->frame->arena.get() == &arena) out.splice(out.end(), entries_, here);
  }
}

void FrameCache::give(uint64_t plan, std::unique_ptr<Frame> frame, bool keep) {
  std::list<Entry> dropped;  // freed after the lock
  std::list<std::shared_ptr<Arena>> idle;
  std::lock_guard lock(mutex_);
  ++clock_;
  if (frame->arena) frame->arena->busy = false;
  if (keep) entries_.push_front({plan, std::move(frame)});
  if (entries_.size() > kMaxFrames) dropped.splice(dropped.end(), entries_, std::prev(entries_.end()));
  for (auto it = arenas_.begin(); it != arenas_.end();) {
    const auto here = it++;
    const Arena& arena = **here;
    if (arena.busy || arena.stamp + kIdleRuns >= clock_ || arena.memory->bytes() < kLarge) continue;
    drop(arena, dropped);
    idle.splice(idle.end(), arenas_, here);
  }
}

void FrameCache::clear() {
  std::list<Entry> dropped;
  std::list<std::shared_ptr<Arena>> idle;
  std::lock_guard lock(mutex_);
  dropped.swap(entries_);
  for (auto it = arenas_.begin(); it != arenas_.end();) {
    const auto here = it++;
    if (!(*here)->busy) idle.splice(idle.end(), arenas_, here);
  }
}

}  // namespace sardonyx
