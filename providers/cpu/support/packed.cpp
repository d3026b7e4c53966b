#include "providers/cpu/support/packed.h"

#include <mutex>

#include "graph/bytes.h"

namespace sardonyx::cpu {

namespace {

struct PackedEntry {
  std::weak_ptr<Buffer> source, packed;
  size_t offset;
  dnnl::memory::desc from, to;
};

void reorder_now(const dnnl::memory::desc& from, const void* src, const dnnl::memory::desc& to, void* dst) {
  try {
    const dnnl::reorder::primitive_desc desc(onednn_engine(), from, onednn_engine(), to, onednn_attributes());
    const auto work = Buffer::host(desc.scratchpad_desc().get_size());
    onednn_execute(dnnl::reorder(desc),
                   {{DNNL_ARG_FROM, onednn_memory(from, src)},
                    {DNNL_ARG_TO, onednn_memory(to, dst)},
                    {DNNL_ARG_SCRATCHPAD, onednn_memory(desc.scratchpad_desc(), work->data())}});
  } catch (const dnnl::error& e) {
    throw ProviderError(std::string("oneDNN: ") + e.message);
  }
}

}  // namespace

std::shared_ptr<Buffer> onednn_pack(const Tensor& constant, const dnnl::memory::desc& from,
                                    const dnnl::memory::desc& to) {
  static std::mutex mutex;
  static std::vector<PackedEntry> entries;
  std::lock_guard lock(mutex);
  std::erase_if(entries, [](const PackedEntry& e) { return e.packed.expired() || e.source.expired(); });
  for (const PackedEntry& e : entries)
    if (e.source.lock() == constant.buffer() && e.offset == constant.offset() && e.from == from && e.to == to)
      if (auto packed = e.packed.lock()) return packed;
  auto packed = Buffer::host(to.get_size());
  reorder_now(from, TensorBytes(constant).data(), to, packed->data());
  entries.push_back({constant.buffer(), packed, constant.offset(), from, to});
  return packed;
}

size_t ScratchPlan::add(size_t bytes) {
  const size_t offset = size_;
  size_ = static_cast<size_t>(
      checked_add(static_cast<int64_t>(size_), static_cast<int64_t>((bytes + 63) / 64 * 64), "scratch"));
  ctx_.scratch(size_);
  return offset;
}

namespace {
dnnl::reorder::primitive_desc reorder_desc(const dnnl::memory::desc& from, const dnnl::memory::desc& to) {
  return dnnl::reorder::primitive_desc(onednn_engine(), from, onednn_engine(), to, onednn_attributes());
}
bool is_small(const dnnl::memory::desc& desc) {
  return onednn_small(0, 2 * static_cast<double>(desc.get_size()));
}
}  // namespace

OneDnnOperand OneDnnOperand::source(ScratchPlan& scratch, const dnnl::memory::desc& plain,
                                    const dnnl::memory::desc& wanted, const Tensor* constant) {
  OneDnnOperand operand;
  operand.plain_ = plain;
  operand.wanted_ = wanted;
  if (plain == wanted) return operand;
  if (constant) {
    operand.packed_ = onednn_pack(*constant, plain, wanted);
    return operand;
  }
  operand.serial_ = is_small(wanted);
  const OneDnnSerial scope(operand.serial_);
  const auto desc = reorder_desc(plain, wanted);
  operand.reorder_ = dnnl::reorder(desc);
  operand.work_desc_ = desc.scratchpad_desc();
  operand.offset_ = scratch.add(wanted.get_size());
  operand.work_ = scratch.add(operand.work_desc_.get_size());
  return operand;
}

OneDnnOperand OneDnnOperand::target(ScratchPlan& scratch, const dnnl::memory::desc& plain,
                                    const dnnl::memory::desc& made) {
  OneDnnOperand operand;
  operand.plain_ = plain;
  operand.wanted_ = made;
  if (plain == made) return operand;
  operand.serial_ = is_small(made);
  const OneDnnSerial scope(operand.serial_);
  const auto desc = reorder_desc(made, plain);
  operand.reorder_ = dnnl::reorder(desc);
  operand.work_desc_ = desc.scratchpad_desc();
  operand.offset_ = scratch.add(made.get_size());
  operand.work_ = scratch.add(operand.work_desc_.get_size());
  return operand;
}

const void* OneDnnOperand::load(std::byte* scratch, const void* plain) const {
  if (packed_) return packed_->data();
  if (!reorder_) return plain;
  const OneDnnSerial scope(serial_);
  onednn_execute(*reorder_, {{DNNL_ARG_FROM, onednn_memory(plain_, plain)},
                             {DNNL_ARG_TO, onednn_memory(wanted_, scratch + offset_)},
                             {DNNL_ARG_SCRATCHPAD, onednn_memory(work_desc_, scratch + work_)}});
  return scratch + offset_;
}

void* OneDnnOperand::begin_store(std::byte* scratch, void* plain) const {
  return reorder_ ? scratch + offset_ : plain;
}

void OneDnnOperand::end_store(std::byte* scratch, void* plain) const {
  if (!reorder_) return;
  const OneDnnSerial scope(serial_);
  onednn_execute(*reorder_, {{DNNL_ARG_FROM, onednn_memory(wanted_, scratch + offset_)},
                             {DNNL_ARG_TO, onednn_memory(plain_, plain)},
                             {DNNL_ARG_SCRATCHPAD, onednn_memory(work_desc_, scratch + work_)}});
}

}  // namespace sardonyx::cpu
