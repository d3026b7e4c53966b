#include "ops/quantization.h"

#include "ops/convolution.h"
#include "ops/matmul.h"
#include "ops/registry/operator.h"

namespace sardonyx {

std::optional<ByteScale> byte_scale(const Graph& graph, const Node& node) {
  const bool quantizes = node.is("QuantizeLinear");
  if (!quantizes && !node.is("DequantizeLinear")) return std::nullopt;
  const auto constant = [&](ValueId id) -> const Tensor* {
    if (!graph.is_constant(id) || !graph.value(id).constant.is_tensor()) return nullptr;
    const Tensor& tensor = graph.value(id).constant.tensor();
    return tensor.size() == 1 && tensor.rank() <= 1 ? &tensor : nullptr;
  };
  const int64_t precision = node.attributes.get<int64_t>(quantizes ? "precision" : "output_dtype", 0);
  const Tensor* scale = constant(node.input(1));
  if (!scale || scale->dtype() != DType::Float32 || node.attributes.get<int64_t>("block_size", 0) != 0 ||
      (precision != 0 && precision != static_cast<int64_t>(DType::Float32)))
    return std::nullopt;
  ByteScale q{DType::UInt8, *scale->data<float>(), 0};
  const int64_t wanted = quantizes ? node.attributes.get<int64_t>("output_dtype", 0) : 0;
  if (node.input(2) != kNone) {
    const Tensor* zero = constant(node.inputs[2]);
    if (!zero || (wanted != 0 && wanted != static_cast<int64_t>(zero->dtype()))) return std::nullopt;
    q.dtype = zero->dtype();
    if (q.dtype != DType::Int8 && q.dtype != DType::UInt8) return std::nullopt;
    q.zero = static_cast<int32_t>(zero->to_int64s().front());
  } else {
    q.dtype = !quantizes ? graph.value(node.inputs[0]).type.dtype
              : wanted   ? static_cast<DType>(wanted)
                         : DType::UInt8;
  }
  return q.dtype == DType::Int8 || q.dtype == DType::UInt8 ? std::optional(q) : std::nullopt;
}

namespace {
bool has_byte_scale(const Graph& graph, const Node& node) { return byte_scale(graph, node).has_value(); }
}  // namespace

void register_quantization(OperatorRegistry& r) {
  r.op("QuantizeLinear").attributes<QuantizeLinearAttributes>().elementwise(has_byte_scale);
  r.op("DequantizeLinear")
      .attributes<DequantizeLinearAttributes>()
      .elementwise(has_byte_scale)
      .computed_where_read();
  r.op("ConvInteger").attributes<ConvAttributes>().flops([](const FlopPorts& p) { return conv_flops(p, 1); });
  r.op("QLinearConv").attributes<ConvAttributes>().flops([](const FlopPorts& p) { return conv_flops(p, 3); });
  r.op("MatMulInteger").flops(matmul_flops);
  r.op("QLinearMatMul").flops(matmul_flops);
}

}  // namespace sardonyx
