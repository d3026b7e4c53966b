// Tables of bytes. The vector libraries here have no permutation of a whole table, so this is written with
// the processor's own.
#include "providers/cpu/support/simd.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sardonyx::cpu::simd {

namespace {

#if defined(__x86_64__)
// Whole vectors from the beginning; returns how many elements that were.
__attribute__((target("avx512f,avx512bw,avx512vbmi"))) int64_t look_up_vectors(const uint8_t* table,
                                                                               const uint8_t* x, uint8_t* y,
                                                                               int64_t n) {
  const __m512i t0 = _mm512_loadu_si512(table), t1 = _mm512_loadu_si512(table + 64),
                t2 = _mm512_loadu_si512(table + 128), t3 = _mm512_loadu_si512(table + 192);
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    const __m512i at = _mm512_loadu_si512(x + i);
    const __m512i low = _mm512_permutex2var_epi8(t0, at, t1), high = _mm512_permutex2var_epi8(t2, at, t3);
    _mm512_storeu_si512(y + i, _mm512_mask_blend_epi8(_mm512_movepi8_mask(at), low, high));
  }
  return i;
}
bool has_vectors() {
  static const bool has = __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bw");
  return has;
}
#else
int64_t look_up_vectors(const uint8_t*, const uint8_t*, uint8_t*, int64_t) { return 0; }
bool has_vectors() { return false; }
#endif

}  // namespace

void look_up(const uint8_t* table, const uint8_t* x, uint8_t* y, int64_t n) {
  for (int64_t i = has_vectors() ? look_up_vectors(table, x, y, n) : 0; i < n; ++i) y[i] = table[x[i]];
}

}  // namespace sardonyx::cpu::simd
