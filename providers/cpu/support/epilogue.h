// Elementwise nodes after a oneDNN primitive, computed by it as post-ops.
#pragma once

#include <functional>
#include <optional>
#include <utility>
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
  // Where a ReLU is among them. Of minus infinity the form of it in `ops` makes NaN; the one here does not,
  // but takes several times as long.
  std::optional<dnnl::post_ops> exact;
  std::vector<Operand> operands;
  size_t count = 0;                 // the followers that these compute
  DType result = DType::Undefined;  // of output 0
  void add_arguments(OneDnnArguments& arguments, const RunContext& run) const;
  // After a primitive with `ops` made the output: whether some NaN in it may be a ReLU of minus infinity,
  // so that one with `exact` has to make it again.
  bool to_repeat(const Tensor& output) const;
};

// How an operand, whose dims are `padded` with ones in front to the rank of output 0, looks to the primitive,
// and in which layout it is read; nothing where the primitive cannot read it.
using DescribeOperand = std::function<std::optional<std::pair<dnnl::memory::desc, Layout>>(
    const TensorDesc& operand, const Dims& padded)>;

// As many of ctx.followers() from number `first` on as oneDNN computes with NaN going through, for a
// primitive on f32 or bf16. Output 0 will have `dims`. What a primitive on bf16 makes is rounded once, after
// the last of them, and may end as f32. The caller absorbs them, and those before, when its primitive is
// made.
Epilogue onednn_epilogue(const PrepareContext& ctx, DType dtype, const Dims& dims,
                         const DescribeOperand& describe, size_t first = 0);
// The other input of a binary follower whose one input is made by follower number `made` - 1 (0: the kernel).
std::optional<size_t> other_input(const PrepareContext::Follower& follower, int made);
void absorb(PrepareContext& ctx, const Epilogue& epilogue);
// Without the axes in `dropped`, which are in ascending order.
Dims without(Dims dims, const std::vector<size_t>& dropped);

// A tensor of these dims in a layout.
dnnl::memory::desc onednn_in_layout(DType dtype, const Dims& dims, Layout layout);

}  // namespace sardonyx::cpu
