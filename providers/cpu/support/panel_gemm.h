// A small f32 matrix product for kernels that run many of them inside their own parallel loop, where a
// library call could not be made: recurrent steps, attention. B is read in panels of 32 columns.
#pragma once

#include <cstdint>

namespace sardonyx::cpu {

inline constexpr int64_t kPanel = 32;

inline int64_t panel_count(int64_t columns) { return (columns + kPanel - 1) / kPanel; }
inline int64_t panel_pad(int64_t columns) { return panel_count(columns) * kPanel; }

// Panel p of the k x n matrix B (element r, c at b[r * row_stride + c * column_stride]), one stride being 1,
// is written to packed + p * k * kPanel as k rows of 32, columns past n as zeros. Elements are multiplied by
// `scale`.
void pack_panels(const float* b, int64_t row_stride, int64_t column_stride, int64_t k, int64_t n,
                 float* packed, float scale = 1);

// c[i][j] = init[i][j] + sum over r of a[i][r] * b[r][j] for i < m, j < n <= 32. Rows of a, b, c and init
// are lda, ldb, ldc and init_stride apart (0: the same row for all; null: zeros). All 32 columns of b are
// read. init may be c.
struct PanelGemm {
  int64_t m, n, k;
  const float* a;
  int64_t lda;
  const float* b;
  int64_t ldb;
  float* c;
  int64_t ldc;
  const float* init = nullptr;
  int64_t init_stride = 0;
};
void panel_gemm(const PanelGemm& g);

// out[j] = scale * (dot product of a and row j of b), for j < rows; n elements each.
void dot_rows(const float* a, const float* b, int64_t rows, int64_t stride, int64_t n, float scale,
              float* out);

}  // namespace sardonyx::cpu
