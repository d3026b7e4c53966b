// Vectorised inner loops of f32 reductions, dispatched to the machine's instruction set.
#pragma once

#include <cstdint>

namespace sardonyx::cpu {

enum class SimdReduce { Sum, SumAbs, SumSquare, Prod, Max, Min };

// acc[r] = acc[r] op (op over x[r * stride + i], i < n). Sums run in f32 over short blocks and in f64
// across them. Max and Min give NaN when an element is NaN.
void simd_reduce_rows(SimdReduce op, const float* x, int64_t rows, int64_t stride, int64_t n, double* acc);
// acc[c] = acc[c] op (op over x[r * stride + c], r < rows), for columns <= kReduceColumns.
inline constexpr int64_t kReduceColumns = 512;
void simd_reduce_columns(SimdReduce op, const float* x, int64_t rows, int64_t stride, int64_t columns,
                         double* acc);

// The same for the sum of exp(x - shift), with a shift of each row or column; x - shift is at most 0.
void simd_sum_exp_rows(const float* x, int64_t rows, int64_t stride, int64_t n, const float* shift,
                       double* acc);
void simd_sum_exp_columns(const float* x, int64_t rows, int64_t stride, int64_t columns, const float* shift,
                          double* acc);

}  // namespace sardonyx::cpu
