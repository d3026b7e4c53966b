// Vectorised f32 softmax, dispatched to the machine's instruction set.
#pragma once

#include <cstdint>

namespace sardonyx::cpu {

// y = softmax(x), or its logarithm, over each of `rows` contiguous rows of n. y may be x.
// A row of which the maximum is infinite, or with a NaN, becomes NaN; with `empty_is_zero` a row that is
// -infinity throughout becomes zeros.
void simd_softmax_rows(const float* x, float* y, int64_t rows, int64_t n, bool log,
                       bool empty_is_zero = false);
// The same over the columns of an n x columns matrix whose rows are `stride` apart.
void simd_softmax_columns(const float* x, float* y, int64_t n, int64_t stride, int64_t columns, bool log);

}  // namespace sardonyx::cpu
