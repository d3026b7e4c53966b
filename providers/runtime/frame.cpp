#include "providers/runtime/frame.h"

#include <sanitizer/asan_interface.h>

#include <algorithm>

#include "graph/allocation.h"

namespace sardonyx {

namespace {
constexpr size_t kMaxFrames = 64;
constexpr size_t kMaxBytes = size_t{1} << 30;
constexpr size_t kLarge = size_t{1} << 20;
constexpr uint64_t kIdleRuns = 64;

// What lies between the storages of the arena may not be touched.
void fence(const Plan& plan, Buffer& arena) {
  ASAN_POISON_MEMORY_REGION(arena.data(), plan.arena);
  for (const PlanStorage& s : plan.storages)
    if (s.kind == PlanStorage::Kind::Arena)
      ASAN_UNPOISON_MEMORY_REGION(static_cast<std::byte*>(arena.data()) + s.offset, s.bytes);
}
}  // namespace

std::unique_ptr<Frame> make_frame(const Plan& plan, BufferPool& pool) {
  auto frame = std::make_unique<Frame>();
  if (plan.arena != 0) {
    frame->arena = pool.allocate_once(plan.arena);
    if (kExactAllocations) fence(plan, *frame->arena);
  }
  frame->tensors.resize(plan.tensors.size());
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlanTensor& tensor = plan.tensors[i];
    const PlanStorage& storage = plan.storages[static_cast<size_t>(tensor.storage)];
    Dims dims = memory_dims(tensor.desc.dims, tensor.desc.layout);
    if (storage.kind == PlanStorage::Kind::Constant)
      frame->tensors[i] = part_of(storage.constant, std::move(dims), tensor.offset);
    else if (storage.kind == PlanStorage::Kind::Arena)
      frame->tensors[i] =
          Tensor(tensor.desc.dtype, std::move(dims), frame->arena, storage.offset + tensor.offset);
  }
  frame->contexts.resize(plan.steps.size());
  for (size_t s = 0; s < plan.steps.size(); ++s) {
    const PlanStep& step = plan.steps[s];
    if (step.interpreted) continue;
    RunContext& ctx = frame->contexts[s];
    ctx.node_ = step.node;
    ctx.run_ = &pool;
    ctx.allocate_ = [](void* p, size_t bytes) { return static_cast<BufferPool*>(p)->allocate(bytes); };
    const auto values = [&](const std::vector<int>& tensors, std::vector<Value>& to) {
      to.resize(tensors.size());
      for (size_t i = 0; i < tensors.size(); ++i)
        if (tensors[i] >= 0 && frame->tensors[static_cast<size_t>(tensors[i])].defined())
          to[i] = frame->tensors[static_cast<size_t>(tensors[i])];
    };
    values(step.inputs, ctx.inputs_);
    values(step.outputs, ctx.outputs_);
    if (step.scratch >= 0)
      ctx.scratch_ = static_cast<std::byte*>(frame->arena->data()) +
                     plan.storages[static_cast<size_t>(step.scratch)].offset;
  }
  return frame;
}

std::unique_ptr<Frame> FrameCache::take(uint64_t plan) {
  std::lock_guard lock(mutex_);
  const auto it =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.plan == plan; });
  if (it == entries_.end()) return nullptr;
  auto frame = std::move(it->frame);
  bytes_ -= bytes_of(*frame);
  entries_.erase(it);
  return frame;
}

void FrameCache::drop_back(std::list<Entry>& out) {
  bytes_ -= bytes_of(*entries_.back().frame);
  out.splice(out.end(), entries_, std::prev(entries_.end()));
}

void FrameCache::give(uint64_t plan, std::unique_ptr<Frame> frame) {
  std::list<Entry> dropped;  // freed after the lock
  std::lock_guard lock(mutex_);
  bytes_ += bytes_of(*frame);
  entries_.push_front({plan, ++clock_, std::move(frame)});
  while (entries_.size() > kMaxFrames || (bytes_ > kMaxBytes && entries_.size() > 1)) drop_back(dropped);
  while (entries_.back().stamp + kIdleRuns < clock_ && bytes_of(*entries_.back().frame) >= kLarge)
    drop_back(dropped);
}

void FrameCache::clear() {
  std::list<Entry> dropped;
  std::lock_guard lock(mutex_);
  dropped.swap(entries_);
  bytes_ = 0;
}

}  // namespace sardonyx
