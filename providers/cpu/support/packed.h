// Constants packed once into the layout that a oneDNN primitive asks for, and the layout of a kernel's
// scratch.
#pragma once

#include <memory>
#include <optional>

#include "providers/cpu/support/onednn.h"

namespace sardonyx::cpu {

// The bytes of `constant`, described by `from`, reordered to `to`. Kernels that pack the same constant into
// the same layout, of whatever session or shape, share one copy for as long as one of them lives.
std::shared_ptr<Buffer> onednn_pack(const Tensor& constant, const dnnl::memory::desc& from,
                                    const dnnl::memory::desc& to);

// Hands out 64-byte aligned pieces of RunContext::scratch while a kernel is prepared.
class ScratchPlan {
 public:
  explicit ScratchPlan(PrepareContext& ctx) : ctx_(ctx) {}
  // The offset of a new piece.
  size_t add(size_t bytes);

 private:
  PrepareContext& ctx_;
  size_t size_ = 0;
};

// One operand of a primitive: bytes that arrive in a plain layout and that the primitive may want in another.
// A constant is packed while preparing; anything else is reordered in scratch at each run.
class OneDnnOperand {
 public:
  OneDnnOperand() = default;
  // An input of the primitive. `constant` may be null.
  static OneDnnOperand source(ScratchPlan& scratch, const dnnl::memory::desc& plain,
                              const dnnl::memory::desc& wanted, const Tensor* constant);
  // An output of the primitive.
  static OneDnnOperand target(ScratchPlan& scratch, const dnnl::memory::desc& plain,
                              const dnnl::memory::desc& made);

  // Whether load() reads what it is given; a packed constant is left where it lies, which may be a file.
  bool reads() const { return !packed_; }
  // What the primitive sees.
  const dnnl::memory::desc& desc() const { return wanted_; }
  // Its data; for a source, after reordering `plain` into it where needed.
  const void* load(std::byte* scratch, const void* plain) const;
  // What the primitive writes into, and what brings the result into `plain` afterwards.
  void* begin_store(std::byte* scratch, void* plain) const;
  void end_store(std::byte* scratch, void* plain) const;

 private:
  dnnl::memory::desc plain_, wanted_;
  std::optional<dnnl::reorder> reorder_;
  bool serial_ = false;  // too little to wake other threads for
  size_t offset_ = 0, work_ = 0;
  dnnl::memory::desc work_desc_;
  std::shared_ptr<Buffer> packed_;
};

}  // namespace sardonyx::cpu
