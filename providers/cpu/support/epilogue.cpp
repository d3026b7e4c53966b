#include "providers/cpu/support/epilogue.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "ops/activation.h"
#include "ops/elementwise.h"
#include "providers/cpu/support/dispatch.h"

namespace sardonyx::cpu {

namespace {

struct Eltwise {
  dnnl::algorithm algorithm;
  float alpha, beta;
};

// Only functions that keep NaN: oneDNN's own relu and clip give a number for it, and so may those of its
// functions that do not multiply by their argument. A pass of our own over the result is quicker for Swish,
// which takes oneDNN some 10 ns for 16 elements inside a convolution, and in f32 on one thread for HardSwish,
// which takes 3: there no thread has to wait for another. In bf16 the pass rounds once more.
std::optional<Eltwise> eltwise_of(const Node& node, DType dtype, int threads) {
  using Algorithm = dnnl::algorithm;
  // x * clip(1e30 x, 0, 1): x for x above 1e-30, 0 below 0, but NaN for minus infinity: see Epilogue::exact.
  if (node.op == "Relu") return Eltwise{Algorithm::eltwise_hardswish, 1e30f, 0};
  if (node.op == "HardSwish" && (dtype == DType::BFloat16 || threads > 1))
    return Eltwise{Algorithm::eltwise_hardswish, 1.0f / 6, 0.5f};
  if (node.op == "LeakyRelu") {
    const float alpha = parse_attributes<LeakyReluAttributes>(node.attributes).alpha;
    if (alpha != 0) return Eltwise{Algorithm::eltwise_relu, alpha, 0};
  }
  if (node.op == "Mish") return Eltwise{Algorithm::eltwise_mish, 0, 0};
  if (node.op == "Gelu") {
    const bool tanh = parse_attributes<GeluAttributes>(node.attributes).approximate == "tanh";
    return Eltwise{tanh ? Algorithm::eltwise_gelu_tanh : Algorithm::eltwise_gelu_erf, 0, 0};
  }
  return std::nullopt;
}

// The operand's dims with ones in front, if it broadcasts to `dims` without enlarging them.
std::optional<Dims> broadcast_to(Dims operand, const Dims& dims) {
  if (operand.size() > dims.size()) return std::nullopt;
  operand.insert(operand.begin(), dims.size() - operand.size(), 1);
  for (size_t i = 0; i < dims.size(); ++i)
    if (operand[i] != dims[i] && operand[i] != 1) return std::nullopt;
  return operand;
}

// The number in a constant of one element.
std::optional<float> number(const Tensor* constant) {
  if (!constant || constant->size() != 1) return std::nullopt;
  return constant->dtype() == DType::BFloat16 ? static_cast<float>(*constant->data<BFloat16>())
                                              : *constant->data<float>();
}

}  // namespace

dnnl::memory::desc onednn_in_layout(DType dtype, const Dims& dims, Layout layout) {
  if (layout == Layout::Plain) return onednn_dense(dtype, dims);
  element_count(dims);  // strides of more elements than there can be would overflow
  Dims strides(dims.size());
  int64_t stride = 1;
  const auto next = [&](size_t axis) {
    strides[axis] = stride;
    stride *= std::max<int64_t>(dims[axis], 1);
  };
  next(1);
  for (size_t i = dims.size(); i-- > 2;) next(i);
  next(0);
  return onednn_strided(dtype, dims, strides);
}

std::optional<size_t> other_input(const PrepareContext::Follower& follower, int made) {
  if (follower.inputs.size() != 2) return std::nullopt;
  for (const size_t i : {0, 1})
    if (follower.inputs[i].made == made && follower.inputs[1 - i].made < 0)
      return follower.inputs[1 - i].input;
  return std::nullopt;
}

Epilogue onednn_epilogue(const PrepareContext& ctx, DType dtype, const Dims& dims,
                         const DescribeOperand& describe, size_t first) {
  Epilogue epilogue;
  epilogue.result = dtype;
  if (!is_f32_or_bf16(dtype)) return epilogue;
  struct PostOp {
    std::optional<Eltwise> eltwise;  // or a binary operator with an operand, or a conversion
    std::optional<Epilogue::Operand> operand;
    dnnl::algorithm binary{};
    DType made = DType::Undefined;
  };
  std::vector<PostOp> ops;
  size_t closed = 0;
  DType type = dtype;
  bool rounded = false;
  int made = static_cast<int>(first);
  bool closes = first == 0 || ctx.followers()[first - 1].closes;
  for (size_t f = first; f < ctx.followers().size(); ++f) {
    const auto& follower = ctx.followers()[f];
    const std::string& op = follower.node->op;
    if (op == "Cast" && dtype == DType::BFloat16 && follower.inputs[0].made == made) {
      type = static_cast<DType>(parse_attributes<CastAttributes>(follower.node->attributes).to.value_or(0));
      // A value that the graph rounds on purpose before it goes on as f32.
      if (!is_f32_or_bf16(type) || (rounded && type == DType::Float32)) break;
      rounded = type == DType::BFloat16;
      ops.push_back({});
    } else if (const auto eltwise = eltwise_of(*follower.node, dtype, ctx.threads());
               eltwise && follower.inputs[0].made == made) {
      ops.push_back({*eltwise, std::nullopt});
    } else if (const auto input = other_input(follower, made); input && (op == "Add" || op == "Mul")) {
      const TensorDesc& operand = ctx.input(*input);
      const auto padded = broadcast_to(operand.dims, dims);
      const bool fits = operand.dtype == type || (type == DType::BFloat16 && operand.dtype == DType::Float32);
      if (!fits || !padded) break;
      if (const auto value = number(ctx.constant(*input))) {
        ops.push_back(
            {Eltwise{dnnl::algorithm::eltwise_linear, op == "Mul" ? *value : 1, op == "Add" ? *value : 0},
             std::nullopt});
      } else {
        const auto algorithm = op == "Add" ? dnnl::algorithm::binary_add : dnnl::algorithm::binary_mul;
        const auto seen = describe(operand, *padded);
        if (!seen) break;
        ops.push_back({std::nullopt, Epilogue::Operand{*input, 0, seen->first, seen->second}, algorithm});
      }
    } else {
      break;
    }
    ops.back().made = type;
    ++made;
    if (follower.closes) closed = ops.size(), closes = true;
  }
  ops.resize(closed);
  epilogue.count = closes ? first + closed : 0;
  if (closed != 0) epilogue.result = ops.back().made;
  dnnl::post_ops exact;
  bool relu = false;
  const auto append = [&](const Eltwise& op, bool is_relu) {
    epilogue.ops.append_eltwise(op.algorithm, op.alpha, op.beta);
    relu = relu || is_relu;
    if (is_relu)
      exact.append_eltwise(dnnl::algorithm::eltwise_elu, 0, 0);  // 0 * (exp(x) - 1) up to 0
    else
      exact.append_eltwise(op.algorithm, op.alpha, op.beta);
  };
  // Products with numbers and sums with numbers next to each other are one function.
  std::optional<Eltwise> linear;
  const auto append_linear = [&] {
    if (linear) append(*linear, false);
    linear.reset();
  };
  for (size_t i = 0; i < closed; ++i) {
    const PostOp& op = ops[i];
    if (op.eltwise && op.eltwise->algorithm == dnnl::algorithm::eltwise_linear) {
      if (linear && std::isfinite(linear->alpha * op.eltwise->alpha)) {
        linear->alpha *= op.eltwise->alpha;
        linear->beta = linear->beta * op.eltwise->alpha + op.eltwise->beta;
      } else {
        append_linear();
        linear = op.eltwise;
      }
      continue;
    }
    if (op.eltwise || op.operand) append_linear();
    if (op.eltwise) append(*op.eltwise, ctx.followers()[first + i].node->op == "Relu");
    if (!op.operand) continue;
    epilogue.operands.push_back(*op.operand);
    epilogue.operands.back().post_op = epilogue.ops.len();
    for (dnnl::post_ops* list : {&epilogue.ops, &exact}) list->append_binary(op.binary, op.operand->desc);
  }
  append_linear();
  if (relu) epilogue.exact = exact;
  return epilogue;
}

bool Epilogue::to_repeat(const Tensor& output) const {
  // Infinity times 0 is an invalid operation, of which the processor keeps a flag: there is nothing to search
  // where none was met.
  if (!exact || !onednn_met_invalid()) return false;
  const auto any_nan = [n = output.size()](const auto* y) {
    return std::any_of(y, y + n, [](auto v) { return std::isnan(static_cast<float>(v)); });
  };
  return output.dtype() == DType::BFloat16 ? any_nan(output.data<BFloat16>()) : any_nan(output.data<float>());
}

void absorb(PrepareContext& ctx, const Epilogue& epilogue) {
  ctx.absorb(epilogue.count);
  for (const auto& operand : epilogue.operands) ctx.want(operand.input, operand.layout);
}

Dims without(Dims dims, const std::vector<size_t>& dropped) {
  for (size_t i = dropped.size(); i-- > 0;)
    dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(dropped[i]));
  return dims;
}

void Epilogue::add_arguments(OneDnnArguments& arguments, const RunContext& run) const {
  for (const Operand& operand : operands)
    arguments.add(DNNL_ARG_ATTR_MULTIPLE_POST_OP(operand.post_op) | DNNL_ARG_SRC_1, operand.desc,
                  run.input(operand.input).data());
}

}  // namespace sardonyx::cpu
