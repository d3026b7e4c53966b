#include "providers/cpu/support/integer_tail.h"

#include <cmath>

#include "ops/elementwise.h"
#include "ops/quantization.h"
#include "providers/cpu/support/packed.h"

namespace sardonyx::cpu {

// Values are rounded before an odd zero point is added: afterwards halves would go the other way.
void IntegerTail::append_quantization(float scale, int zero) {
  if (zero % 2 != 0) {
    if (scale != 1) epilogue.ops.append_eltwise(dnnl::algorithm::eltwise_linear, scale, 0);
    epilogue.ops.append_eltwise(dnnl::algorithm::eltwise_round, 0, 0);
    scale = 1;
  }
  if (scale != 1 || zero != 0)
    epilogue.ops.append_eltwise(dnnl::algorithm::eltwise_linear, scale, static_cast<float>(zero));
}

IntegerTail IntegerTail::quantized(DType dtype, std::vector<float> scale, const std::vector<int32_t>& bias,
                                   int zero) {
  IntegerTail tail;
  tail.dtype = dtype;
  for (size_t i = 0; i < bias.size(); ++i)
    tail.bias.known.push_back(static_cast<float>(bias[i]) * scale[scale.size() == 1 ? 0 : i]);
  tail.bias.one = bias.size() == 1;
  tail.scale.one = scale.size() == 1;
  tail.scale.known = std::move(scale);
  tail.append_quantization(1, zero);
  return tail;
}

namespace {

// An f32 operand of one number, or of one for each channel.
std::optional<IntegerTail::Numbers> numbers(const PrepareContext& ctx, size_t input, const Dims& dims,
                                            size_t channel_axis) {
  const TensorDesc& desc = ctx.input(input);
  const size_t rank = desc.dims.size();
  if (desc.dtype != DType::Float32 || rank > dims.size()) return std::nullopt;
  IntegerTail::Numbers found;
  found.one = desc.size() == 1;
  for (size_t i = 0; i < rank; ++i) {
    const size_t axis = dims.size() - rank + i;
    if (desc.dims[i] != 1 && (axis != channel_axis || desc.dims[i] != dims[axis])) return std::nullopt;
  }
  if (const Tensor* constant = ctx.constant(input))
    found.known.assign(constant->data<float>(), constant->data<float>() + constant->size());
  else
    found.input = input;
  return found;
}

}  // namespace

std::optional<IntegerTail> IntegerTail::followers(const PrepareContext& ctx, const Dims& dims,
                                                  size_t channel_axis, const DescribeOperand& describe) {
  const auto& followers = ctx.followers();
  if (followers.empty() || followers[0].node->op != "Cast" || followers[0].inputs[0].made != 0 ||
      parse_attributes<CastAttributes>(followers[0].node->attributes).to !=
          static_cast<int64_t>(DType::Float32))
    return std::nullopt;
  IntegerTail tail;
  size_t taken = 1;
  for (const auto& [op, target] : {std::pair("Mul", &tail.scale), std::pair("Add", &tail.bias)}) {
    if (taken == followers.size() || followers[taken].node->op != op) continue;
    const auto other = other_input(followers[taken], static_cast<int>(taken));
    auto found = other ? numbers(ctx, *other, dims, channel_axis) : std::nullopt;
    if (!found) break;
    *target = std::move(*found);
    ++taken;
  }
  tail.epilogue = onednn_epilogue(ctx, DType::Float32, dims, describe, taken);
  size_t& count = tail.epilogue.count;
  if (count == 0) return std::nullopt;
  // Everything before must be finite: NaN would become any integer.
  const auto finite = [](const Numbers& n) {
    return !n.input && std::all_of(n.known.begin(), n.known.end(), [](float v) { return std::isfinite(v); });
  };
  if (count == followers.size() || !followers[count].closes ||
      followers[count].node->op != "QuantizeLinear" ||
      followers[count].inputs[0].made != static_cast<int>(count) || !tail.epilogue.operands.empty() ||
      !finite(tail.scale) || !finite(tail.bias))
    return tail;
  const auto q = byte_scale(ctx.graph(), *followers[count].node);
  if (!q || !std::isnormal(q->scale)) return tail;
  float rest = 1 / q->scale;
  if (tail.epilogue.ops.len() == 0 && tail.scale.used()) {
    for (Numbers* n : {&tail.scale, &tail.bias})
      for (float& v : n->known) v /= q->scale;
    rest = 1;
  }
  tail.append_quantization(rest, q->zero);
  tail.dtype = q->dtype;
  ++count;
  return tail;
}

bool ZeroPoint::fits(const PrepareContext& ctx, size_t i) {
  return !ctx.has_input(i) || (ctx.input(i).size() == 1 && element_size(ctx.dtype(i)) == 1);
}

ZeroPoint::ZeroPoint(const PrepareContext& ctx, ScratchPlan& scratch, size_t i, int argument, int32_t shift)
    : argument_(argument), known_(shift), shift_(shift) {
  if (!ctx.has_input(i)) return;
  if (const Tensor* constant = ctx.constant(i)) {
    known_ += static_cast<int32_t>(constant->to_int64s().front());
    return;
  }
  input_ = i;
  at_ = scratch.add(sizeof(int32_t));
}

void ZeroPoint::add_argument(OneDnnArguments& arguments, const RunContext& run) const {
  if (!used()) return;
  const void* data = &known_;
  if (input_) {
    const Tensor& value = run.input(*input_);
    int32_t* place = reinterpret_cast<int32_t*>(run.scratch() + at_);
    *place = shift_ + (value.dtype() == DType::Int8 ? *value.data<int8_t>() : *value.data<uint8_t>());
    data = place;
  }
  arguments.add(DNNL_ARG_ATTR_ZERO_POINTS | argument_, onednn_dense(DType::Int32, {1}), data);
}

}  // namespace sardonyx::cpu
