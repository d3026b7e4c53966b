// Det: elimination with partial pivoting, in double.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "providers/cpu/elementwise_det.h"
#include "providers/cpu/support/elementwise.h"

namespace sardonyx::cpu {

namespace {

// Destroys the matrix.
double determinant(double* m, int64_t n) {
  double result = 1;
  for (int64_t k = 0; k < n; ++k) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < n; ++i)
      if (std::fabs(m[i * n + k]) > std::fabs(m[pivot * n + k])) pivot = i;
    if (pivot != k) {
      std::swap_ranges(m + k * n, m + (k + 1) * n, m + pivot * n);
      result = -result;
    }
    const double top = m[k * n + k];
    result *= top;
    if (top == 0) {
      // Singular, unless a NaN below or beside the zero says otherwise.
      for (int64_t i = k * n; i < n * n; ++i)
        if (std::isnan(m[i])) return m[i];
      return result;
    }
    for (int64_t i = k + 1; i < n; ++i) {
      const double factor = m[i * n + k] / top;
      if (factor == 0) continue;
      for (int64_t j = k + 1; j < n; ++j) m[i * n + j] -= factor * m[k * n + j];
    }
  }
  return result;
}

Prepared prepare_det(PrepareContext& ctx) {
  const SquareMatrices matrices = square_matrices(ctx, ctx.dims(0));
  const int64_t n = matrices.n, count = element_count(matrices.batch);
  Prepared prepared = no_kernel_for(ctx.dtype(0));
  visit<AllFloats>(ctx.dtype(0), [&]<typename T>() {
    ctx.output(0, ctx.dtype(0), matrices.batch);
    prepared = [n, count](RunContext& run) {
      const T* x = run.in<T>(0);
      T* y = run.out<T>(0);
      const double work = static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n) + 10;
      parallel_for(count, grain_for(work), [&](int64_t begin, int64_t end) {
        std::vector<double> matrix(static_cast<size_t>(n * n));
        for (int64_t b = begin; b < end; ++b) {
          for (int64_t i = 0; i < n * n; ++i)
            matrix[static_cast<size_t>(i)] = static_cast<double>(widen(x[b * n * n + i]));
          y[b] = static_cast<T>(determinant(matrix.data(), n));
        }
      });
    };
  });
  return prepared;
}

}  // namespace

SquareMatrices square_matrices(const PrepareContext& ctx, const Dims& x) {
  const size_t rank = x.size();
  ctx.expect(rank >= 2 && x[rank - 1] == x[rank - 2], "input 'X'", "square matrices [..., M, M]",
             to_string(x));
  return {x[rank - 1], Dims(x.begin(), x.end() - 2)};
}

void register_elementwise_det(KernelRegistry& r) { r.ref("Det", prepare_det); }

}  // namespace sardonyx::cpu
