// The product of panel_gemm.h on bf16, summed in f32, where the CPU has instructions for it.
#pragma once

#include <cstdint>

#include "providers/cpu/support/panel_gemm.h"

namespace sardonyx::cpu {

// Whether the product can be called: the CPU multiplies bf16, and oneDNN is allowed to.
bool has_panel_bfloat16();

// Rows of A and panels of B hold k rounded up to a pair.
inline int64_t pair_pad(int64_t k) { return (k + 1) / 2 * 2; }

// Panel p of the k x n matrix B, of which column c is the k bits from b + c * stride on, is written to
// packed + p * pair_pad(k) * kPanel: for each pair of rows 32 pairs of elements. What is past k or n is zero.
void pack_pairs(const uint16_t* b, int64_t stride, int64_t k, int64_t n, uint16_t* packed);

// c[i][j] = init[i][j] + sum over r < k of a[i][r] * b[r][j] for i < m, j < 32, with b one panel of
// pack_pairs. Strides as in PanelGemm. Rows of a are read up to pair_pad(k).
struct PanelBFloat16 {
  int64_t m, k;
  const uint16_t* a;
  int64_t lda;
  const uint16_t* b;
  float* c;
  int64_t ldc;
  const float* init = nullptr;
  int64_t init_stride = 0;
};
void panel_bfloat16(const PanelBFloat16& g);

}  // namespace sardonyx::cpu
