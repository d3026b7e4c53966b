#include "providers/cpu/support/simd.h"

#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS HWY_SSSE3
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/support/simd_transpose.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::simd::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

void transpose_plain(const uint8_t* x, int64_t x_row, int64_t rows, int64_t columns, uint8_t* y,
                     int64_t y_row, uint8_t flip) {
  for (int64_t j = 0; j < columns; ++j)
    for (int64_t i = 0; i < rows; ++i) y[j * y_row + i] = x[i * x_row + j] ^ flip;
}

#if HWY_TARGET != HWY_SCALAR
// 16 by 16 bytes. Interleaving each row with the one eight below moves one bit of the row number to the
// column number; four times exchanges the two.
HWY_INLINE void transpose_tile(const uint8_t* x, int64_t x_row, uint8_t* y, int64_t y_row, uint8_t flip) {
  const hn::FixedTag<uint8_t, 16> d;
  using V = hn::Vec<decltype(d)>;
  V v[16], w[16];
  for (int i = 0; i < 16; ++i) v[i] = hn::Xor(hn::LoadU(d, x + i * x_row), hn::Set(d, flip));
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 8; ++i) {
      w[2 * i] = hn::InterleaveLower(d, v[i], v[i + 8]);
      w[2 * i + 1] = hn::InterleaveUpper(d, v[i], v[i + 8]);
    }
    for (int i = 0; i < 8; ++i) {
      v[2 * i] = hn::InterleaveLower(d, w[i], w[i + 8]);
      v[2 * i + 1] = hn::InterleaveUpper(d, w[i], w[i + 8]);
    }
  }
  for (int i = 0; i < 16; ++i) hn::StoreU(v[i], d, y + i * y_row);
}

void transpose_matrix(const uint8_t* x, int64_t x_row, int64_t rows, int64_t columns, uint8_t* y,
                      int64_t y_row, uint8_t flip) {
  if (rows < 16 || columns < 16) return transpose_plain(x, x_row, rows, columns, y, y_row, flip);
  // The last tiles overlap those before them.
  for (int64_t j = 0; j < columns; j += 16)
    for (int64_t i = 0; i < rows; i += 16) {
      const int64_t row = std::min(i, rows - 16), column = std::min(j, columns - 16);
      transpose_tile(x + row * x_row + column, x_row, y + column * y_row + row, y_row, flip);
    }
}
#else
void transpose_matrix(const uint8_t* x, int64_t x_row, int64_t rows, int64_t columns, uint8_t* y,
                      int64_t y_row, uint8_t flip) {
  transpose_plain(x, x_row, rows, columns, y, y_row, flip);
}
#endif

}  // namespace
}  // namespace sardonyx::cpu::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu::simd {
HWY_EXPORT(transpose_matrix);
void transpose(const uint8_t* x, int64_t x_row, int64_t rows, int64_t columns, uint8_t* y, int64_t y_row,
               uint8_t flip) {
  HWY_DYNAMIC_DISPATCH(transpose_matrix)(x, x_row, rows, columns, y, y_row, flip);
}
}  // namespace sardonyx::cpu::simd
#endif
