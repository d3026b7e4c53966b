// Attribute structs of the attention operators.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "graph/attributes.h"

namespace sardonyx {

struct AttentionAttributes {
  int64_t right_window_size = -1, left_window_size = -1;
  int64_t qk_matmul_output_mode = 0;
  float softcap = 0;
  std::optional<int64_t> softmax_precision, kv_num_heads, q_num_heads;
  std::optional<float> scale;
  int64_t is_causal = 0;
  template <class V>
  void visit(V&& v) {
    v("right_window_size", right_window_size);
    v("left_window_size", left_window_size);
    v("qk_matmul_output_mode", qk_matmul_output_mode);
    v("softcap", softcap);
    v("softmax_precision", softmax_precision);
    v("kv_num_heads", kv_num_heads);
    v("q_num_heads", q_num_heads);
    v("scale", scale);
    v("is_causal", is_causal);
  }
};

struct FlexAttentionAttributes {
  std::optional<GraphPtr> prob_mod, score_mod;
  std::optional<int64_t> softmax_precision;
  std::optional<float> scale;
  template <class V>
  void visit(V&& v) {
    v("prob_mod", prob_mod);
    v("score_mod", score_mod);
    v("softmax_precision", softmax_precision);
    v("scale", scale);
  }
};

struct LinearAttentionAttributes {
  int64_t chunk_size = 64;
  std::optional<int64_t> kv_num_heads, q_num_heads;
  float scale = 0;
  std::string update_rule = "gated_delta";
  template <class V>
  void visit(V&& v) {
    v("chunk_size", chunk_size);
    v("kv_num_heads", kv_num_heads);
    v("q_num_heads", q_num_heads);
    v("scale", scale);
    v("update_rule", update_rule);
  }
};

struct RotaryEmbeddingAttributes {
  std::optional<int64_t> num_heads;
  int64_t rotary_embedding_dim = 0, interleaved = 0;
  template <class V>
  void visit(V&& v) {
    v("num_heads", num_heads);
    v("rotary_embedding_dim", rotary_embedding_dim);
    v("interleaved", interleaved);
  }
};

}  // namespace sardonyx
