// Elementwise nodes after a oneDNN primitive, computed by it as post-ops.
#pragma once

#include <vector>

#include "providers/cpu/support/onednn.h"

namespace sardonyx::cpu {

struct Epilogue {
  struct Operand {
    size_t input;  // of the kernel
    int post_op;
    dnnl::memory::desc desc;
    Layout layout;  // in which it is read
  };
  dnnl::post_ops ops;
  std::vector<Operand> operands;
  size_t count = 0;  // the followers that these compute
  void add_arguments(std::unordered_map<int, dnnl::memory>& arguments, const RunContext& run) const;
};

// As many of ctx.followers() as oneDNN computes with NaN going through. Output 0 will have `dims` in
// `layout`. The caller absorbs `count` of them when its primitive is made, and wants their operands in that
// layout.
// The axes in `dropped`, all of size 1, are left out of what the primitive sees.
Epilogue onednn_epilogue(const PrepareContext& ctx, DType dtype, const Dims& dims, Layout layout,
                         const std::vector<size_t>& dropped = {});
void absorb(PrepareContext& ctx, const Epilogue& epilogue);
// Without the axes in `dropped`, which are in ascending order.
Dims without(Dims dims, const std::vector<size_t>& dropped);

// A tensor of these dims in a layout.
dnnl::memory::desc onednn_in_layout(DType dtype, const Dims& dims, Layout layout);

}  // namespace sardonyx::cpu
