// Attention, FlexAttention, LinearAttention, RotaryEmbedding.
#include "ops/attention.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_attention(OperatorRegistry& registry) {
  registry.op("Attention").attributes<AttentionAttributes>().narrows(Narrow::Always, {0, 1, 2, 4, 5});
  registry.op("FlexAttention", "ai.onnx.preview").attributes<FlexAttentionAttributes>();
  registry.op("LinearAttention").attributes<LinearAttentionAttributes>();
  registry.op("RotaryEmbedding").attributes<RotaryEmbeddingAttributes>();
}

}  // namespace sardonyx
