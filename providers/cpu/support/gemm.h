// Matrix products without a library: for the element types that oneDNN does not multiply, and for products so
// small that a call into it costs more than they do.
#pragma once

#include <cstdint>

namespace sardonyx::cpu {

// A matrix in memory: element (i, j) at data[i * row + j * column].
template <typename T>
struct MatrixView {
  const T* data;
  int64_t row, column;
};

// c[i * ldc + j] = sum over l of a(i, l) * b(l, j), for i < m and j < n; zeros where k is 0. T: float,
// double, uint32_t, uint64_t (which wrap, so they serve the signed types as well). Each sum runs in the order
// of l. On the calling thread.
template <typename T>
void gemm_serial(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc);

// The same, on all threads when the product is large.
template <typename T>
void gemm(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc);

}  // namespace sardonyx::cpu
