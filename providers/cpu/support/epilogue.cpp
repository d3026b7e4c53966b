#include "providers/cpu/support/epilogue.h"

#include <optional>

#include "ops/activation.h"

namespace sardonyx::cpu {

namespace {

struct Eltwise {
  dnnl::algorithm algorithm;
  float alpha, beta;
};

// Only functions that keep NaN: oneDNN's own relu and clip give a number for it, and so may those of its
// functions that do not multiply by their argument. Inside a convolution oneDNN takes some 10 ns for Swish of
// 16 elements, and 3 for HardSwish: a pass of our own over the result is quicker, but for HardSwish it does
// not pay for waiting until the other threads are there.
std::optional<Eltwise> eltwise_of(const Node& node, int threads) {
  using Algorithm = dnnl::algorithm;
  // x * clip(1e30 x, 0, 1): x for x above 1e-30, and 0 below 0.
  if (node.op == "Relu") return Eltwise{Algorithm::eltwise_hardswish, 1e30f, 0};
  if (node.op == "HardSwish" && threads > 1) return Eltwise{Algorithm::eltwise_hardswish, 1.0f / 6, 0.5f};
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
  if (dtype != DType::Float32) return epilogue;
  struct PostOp {
    Eltwise eltwise;                           // or a binary operator,
    std::optional<Epilogue::Operand> operand;  // with this
  };
  std::vector<PostOp> ops;
  size_t closed = 0;
  int made = static_cast<int>(first);
  bool closes = first == 0 || ctx.followers()[first - 1].closes;
  for (size_t f = first; f < ctx.followers().size(); ++f) {
    const auto& follower = ctx.followers()[f];
    const std::string& op = follower.node->op;
    if (const auto eltwise = eltwise_of(*follower.node, ctx.threads());
        eltwise && follower.inputs[0].made == made) {
      ops.push_back({*eltwise, std::nullopt});
    } else if (const auto input = other_input(follower, made); input && (op == "Add" || op == "Mul")) {
      const TensorDesc& operand = ctx.input(*input);
      const auto padded = broadcast_to(operand.dims, dims);
      if (operand.dtype != dtype || !padded) break;
      const Tensor* constant = ctx.constant(*input);
      if (constant && constant->size() == 1) {
        const float value = *constant->data<float>();
        ops.push_back({{dnnl::algorithm::eltwise_linear, op == "Mul" ? value : 1, op == "Add" ? value : 0},
                       std::nullopt});
      } else {
        const auto algorithm = op == "Add" ? dnnl::algorithm::binary_add : dnnl::algorithm::binary_mul;
        const auto seen = describe(operand, *padded);
        if (!seen) break;
        ops.push_back({{algorithm, 0, 0}, Epilogue::Operand{*input, 0, seen->first, seen->second}});
      }
    } else {
      break;
    }
    ++made;
    if (follower.closes) closed = ops.size(), closes = true;
  }
  ops.resize(closed);
  epilogue.count = closes ? first + closed : 0;
  for (const PostOp& op : ops) {
    if (!op.operand) {
      epilogue.ops.append_eltwise(op.eltwise.algorithm, op.eltwise.alpha, op.eltwise.beta);
      continue;
    }
    epilogue.operands.push_back(*op.operand);
    epilogue.operands.back().post_op = epilogue.ops.len();
    epilogue.ops.append_binary(op.eltwise.algorithm, op.operand->desc);
  }
  return epilogue;
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
