// Attention whose products are of bf16, summed in f32; scores and probabilities are f32 until they are
// multiplied.
#pragma once

#include <cstddef>

#include "providers/cpu/attention.h"

namespace sardonyx::cpu {

// How the kernel cuts up a problem, and what memory it needs. The size of a head is even.
struct AttentionBFloat16 {
  AttentionShape shape;
  explicit AttentionBFloat16(const AttentionShape& s) : shape(s) {}

  int64_t value_columns() const { return panel_pad(shape.v_head); }
  int64_t pairs() const { return (shape.kv_len + 1) / 2; }
  // Elements of the packed keys and values of one batch and head.
  int64_t key_elements() const;
  int64_t value_elements() const;
  // Bytes of the scores, probabilities and results of one thread.
  size_t thread_bytes() const;
  size_t scratch_bytes(int threads) const;
};

struct BFloat16Operands {
  const uint16_t *q, *k, *v;
  uint16_t* y;
};

// `p` has no q, k, v, y and qk of its own.
void attend_bfloat16(const AttentionProblem<float>& p, const BFloat16Operands& operands, int threads,
                     std::byte* scratch);

}  // namespace sardonyx::cpu
