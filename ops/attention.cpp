// Attention, FlexAttention, LinearAttention, RotaryEmbedding.
#include "ops/attention.h"

#include "ops/registry/flops.h"
#include "ops/registry/operator.h"

namespace sardonyx {

namespace {

// The two products, of the queries with all keys and of their scores with all values, whatever is masked.
std::optional<double> attention_flops(const FlopPorts& ports) {
  const Dims *q = ports.in(0), *k = ports.in(1), *v = ports.in(2), *past = ports.in(4, 4);
  if (!q || !k || !v || k->size() != q->size() || v->size() != q->size()) return std::nullopt;
  const bool joined = q->size() == 3;  // heads beside each other
  if (!joined && q->size() != 4) return std::nullopt;
  const auto heads = [&](const char* name, const Dims& dims) {
    return static_cast<double>(joined ? ports.node.attributes.get<int64_t>(name, 1) : dims[1]);
  };
  const double q_heads = heads("q_num_heads", *q), kv_heads = heads("kv_num_heads", *k);
  if (q_heads < 1 || kv_heads < 1) return std::nullopt;
  const size_t positions = joined ? 1 : 2;
  const double keys = static_cast<double>((*k)[positions]) + (past ? static_cast<double>((*past)[2]) : 0);
  const double value_size = static_cast<double>(v->back()) / (joined ? kv_heads : 1);
  const double queries = static_cast<double>((*q)[0]) * q_heads * static_cast<double>((*q)[positions]);
  return 2 * queries * keys * (static_cast<double>(q->back()) / (joined ? q_heads : 1) + value_size);
}

}  // namespace

void register_attention(OperatorRegistry& registry) {
  registry.op("Attention")
      .attributes<AttentionAttributes>()
      .narrows(Narrow::Always, {0, 1, 2, 4, 5})
      .flops(attention_flops);
  registry.op("FlexAttention", "ai.onnx.preview")
      .attributes<FlexAttentionAttributes>()
      .flops([](const FlopPorts& p) { return p.in(0, 4) ? attention_flops(p) : std::nullopt; });
  registry.op("LinearAttention").attributes<LinearAttentionAttributes>();
  registry.op("RotaryEmbedding").attributes<RotaryEmbeddingAttributes>();
}

}  // namespace sardonyx
