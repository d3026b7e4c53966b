// What follows the 32-bit sums of a oneDNN primitive on 8-bit integers: scales, a bias, post-ops, and the way
// to 8 bits again.
#pragma once

#include <optional>
#include <vector>

#include "providers/cpu/support/epilogue.h"
#include "providers/cpu/support/packed.h"

namespace sardonyx::cpu {

struct IntegerTail {
  // Numbers that are known, one for all or one a channel, or an input of the kernel that gives them.
  struct Numbers {
    std::vector<float> known;
    std::optional<size_t> input;
    bool one = true;  // for all channels
    bool used() const { return input || !known.empty(); }
    const void* data(const RunContext& run) const {
      return input ? run.input(*input).data() : static_cast<const void*>(known.data());
    }
  };

  DType dtype = DType::Float32;  // of the result
  Numbers scale, bias;           // f32: scale * sums + bias
  Epilogue epilogue;             // behind these; its count is that of all followers taken

  // scale * (sums + bias) to 8 bits, saturated: output 0 of QLinearConv and QLinearMatMul.
  static IntegerTail quantized(DType dtype, std::vector<float> scale, const std::vector<int32_t>& bias,
                               int zero);
  // Takes followers of such an output up to the last QuantizeLinear before which another tensor, 8-bit or
  // constant, comes in: what lies between is rounded as it would be. (Functions of the output alone are
  // quicker as a table.)
  void take_followers(const PrepareContext& ctx, const Dims& dims, const DescribeOperand& describe);
  // Of ConvInteger and MatMulInteger, whose output 0 would have `dims`: Cast, Mul, Add, and what
  // onednn_epilogue takes, perhaps up to a QuantizeLinear. Nothing when these do not follow.
  static std::optional<IntegerTail> followers(const PrepareContext& ctx, const Dims& dims,
                                              size_t channel_axis, const DescribeOperand& describe);

  // Scale, bias and the operands of the post-ops. The descriptions are made for the primitive once: those of
  // `bias` and `scale` as it wants them.
  void add_arguments(OneDnnArguments& arguments, const RunContext& run, const dnnl::memory::desc& bias_desc,
                     const dnnl::memory::desc& scale_desc) const;

 private:
  void append_quantization(float scale, int zero);
  int zero_ = 0;  // of the output of QLinearConv or QLinearMatMul
};

// The zero point of one value in input `i` as oneDNN reads it; it is known, or written to scratch in each
// run.
class ZeroPoint {
 public:
  ZeroPoint() = default;
  // `argument`: whose it is. `shift` is added to it.
  ZeroPoint(const PrepareContext& ctx, ScratchPlan& scratch, size_t i, int argument, int32_t shift = 0);
  bool used() const { return known_ != 0 || input_; }
  // Whether it is there, and one 8-bit number.
  static bool fits(const PrepareContext& ctx, size_t i);
  void add_argument(OneDnnArguments& arguments, const RunContext& run) const;

 private:
  int argument_ = 0;
  int32_t known_ = 0, shift_ = 0;
  std::optional<size_t> input_;
  size_t at_ = 0;
};

}  // namespace sardonyx::cpu
