#include "providers/cpu/support/panel_bfloat16.h"

#include <algorithm>

#include "providers/cpu/support/onednn.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace sardonyx::cpu {

void pack_pairs(const uint16_t* b, int64_t stride, int64_t k, int64_t n, uint16_t* packed) {
  const int64_t size = pair_pad(k) * kPanel;
  for (int64_t first = 0; first < n; first += kPanel, packed += size) {
    std::fill_n(packed, size, uint16_t{0});
    for (int64_t c = 0; c < std::min(kPanel, n - first); ++c) {
      const uint16_t* column = b + (first + c) * stride;
      for (int64_t r = 0; r < k; ++r) packed[r / 2 * 2 * kPanel + c * 2 + r % 2] = column[r];
    }
  }
}

#ifdef __x86_64__

namespace {

constexpr int kRows = 12;  // of a register tile of two vectors

// kM rows; kU partial sums hide the latency of a product of few rows.
template <int kM, int kU>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) void tile(const PanelBFloat16& g,
                                                                          int64_t row) {
  const uint16_t* a = g.a + row * g.lda;
  __m512 sums[kU][kM][2];
#pragma GCC unroll 16
  for (int u = 0; u < kU; ++u)
#pragma GCC unroll 16
    for (int i = 0; i < kM; ++i) sums[u][i][0] = sums[u][i][1] = _mm512_setzero_ps();
  const int64_t pairs = (g.k + 1) / 2;
  const auto* b = reinterpret_cast<const __m512i*>(g.b);
  int64_t p = 0;
  for (; p + kU <= pairs; p += kU) {
#pragma GCC unroll 16
    for (int u = 0; u < kU; ++u) {
      const auto b0 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + 2 * (p + u))),
                 b1 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + 2 * (p + u) + 1));
#pragma GCC unroll 16
      for (int i = 0; i < kM; ++i) {
        int pair;
        __builtin_memcpy(&pair, a + i * g.lda + 2 * (p + u), sizeof(pair));
        const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
        sums[u][i][0] = _mm512_dpbf16_ps(sums[u][i][0], x, b0);
        sums[u][i][1] = _mm512_dpbf16_ps(sums[u][i][1], x, b1);
      }
    }
  }
  for (; p < pairs; ++p) {
    const auto b0 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + 2 * p)),
               b1 = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + 2 * p + 1));
#pragma GCC unroll 16
    for (int i = 0; i < kM; ++i) {
      int pair;
      __builtin_memcpy(&pair, a + i * g.lda + 2 * p, sizeof(pair));
      const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
      sums[0][i][0] = _mm512_dpbf16_ps(sums[0][i][0], x, b0);
      sums[0][i][1] = _mm512_dpbf16_ps(sums[0][i][1], x, b1);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kM; ++i)
    for (int v = 0; v < 2; ++v) {
      __m512 sum = sums[0][i][v];
#pragma GCC unroll 16
      for (int u = 1; u < kU; ++u) sum = _mm512_add_ps(sum, sums[u][i][v]);
      if (g.init) sum = _mm512_add_ps(_mm512_loadu_ps(g.init + (row + i) * g.init_stride + 16 * v), sum);
      _mm512_storeu_ps(g.c + (row + i) * g.ldc + 16 * v, sum);
    }
}

template <int kM>
void tile_of(int rows, const PanelBFloat16& g, int64_t row) {
  if (rows == kM) return tile<kM, (kM <= 2 ? 4 : kM <= 4 ? 2 : 1)>(g, row);
  if constexpr (kM > 1) tile_of<kM - 1>(rows, g, row);
}

}  // namespace

bool has_panel_bfloat16() {
  static const bool has = onednn_multiplies_bfloat16() && __builtin_cpu_supports("avx512bf16") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  return has;
}

void panel_bfloat16(const PanelBFloat16& g) {
  const int64_t blocks = (g.m + kRows - 1) / kRows;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t row = g.m * block / blocks;
    tile_of<kRows>(static_cast<int>(g.m * (block + 1) / blocks - row), g, row);
  }
}

#else

bool has_panel_bfloat16() { return false; }
void panel_bfloat16(const PanelBFloat16&) {}

#endif

}  // namespace sardonyx::cpu
