// DetBackward: dY times the cofactors of each matrix, by elimination with complete pivoting, in double. Right
// for singular matrices too.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "ops/registry/operator.h"
#include "providers/cpu/elementwise_det.h"
#include "providers/cpu/support/elementwise.h"

namespace sardonyx::cpu {

namespace {

class Cofactors {
 public:
  explicit Cofactors(int64_t n)
      : n_(n), lu_(static_cast<size_t>(n * n)), rows_(static_cast<size_t>(n)), columns_(rows_), line_(lu_) {}
  double* matrix() { return lu_.data(); }

  // Destroys the matrix. f(i, j, cofactor) for its elements.
  template <typename F>
  void each(const F& f) {
    double product = 1;  // of the pivots but the last, with the sign of the permutations
    std::iota(rows_.begin(), rows_.end(), int64_t{0});
    std::iota(columns_.begin(), columns_.end(), int64_t{0});
    for (int64_t k = 0; k < n_; ++k) {
      if (pivot(k)) product = -product;
      if (k + 1 == n_) break;
      const double top = at(k, k);
      product *= top;
      if (top == 0) break;  // of rank n - 2 or less: the product stays zero
      for (int64_t i = k + 1; i < n_; ++i) {
        const double factor = at(i, k) /= top;
        for (int64_t j = k + 1; factor != 0 && j < n_; ++j) at(i, j) -= factor * at(k, j);
      }
    }
    if (product == 0)
      for (int64_t i = 0; i < n_ * n_; ++i) f(i / n_, i % n_, 0.0);
    else
      from_factors(product, f);
  }

 private:
  double& at(int64_t i, int64_t j) { return lu_[static_cast<size_t>(i * n_ + j)]; }

  // Brings the largest of what is left to (k, k). Whether the sign changes.
  bool pivot(int64_t k) {
    int64_t row = k, column = k;
    for (int64_t i = k; i < n_; ++i)
      for (int64_t j = k; j < n_; ++j)
        if (std::fabs(at(i, j)) > std::fabs(at(row, column))) row = i, column = j;
    if (row != k) {
      std::swap_ranges(&at(k, 0), &at(k, 0) + n_, &at(row, 0));
      std::swap(rows_[static_cast<size_t>(k)], rows_[static_cast<size_t>(row)]);
    }
    if (column != k) {
      for (int64_t i = 0; i < n_; ++i) std::swap(at(i, k), at(i, column));
      std::swap(columns_[static_cast<size_t>(k)], columns_[static_cast<size_t>(column)]);
    }
    return (row != k) != (column != k);
  }

  // The columns of adj(L U), one for each right-hand side: U^-1 L^-1 times all pivots, the last of which
  // takes part in the substitution only, so that it may be zero.
  template <typename F>
  void from_factors(double product, const F& f) {
    const double last = at(n_ - 1, n_ - 1);
    std::vector<double>& x = line_;
    for (int64_t j = 0; j < n_; ++j) {
      for (int64_t i = 0; i < n_; ++i) {
        double sum = i == j ? 1 : 0;
        for (int64_t k = j; k < i; ++k) sum -= at(i, k) * x[static_cast<size_t>(k)];
        x[static_cast<size_t>(i)] = sum;
      }
      // x is last * U^-1 L^-1 e_j.
      for (int64_t i = n_ - 2; i >= 0; --i) {
        double sum = x[static_cast<size_t>(i)] * last;
        for (int64_t k = i + 1; k < n_; ++k) sum -= at(i, k) * x[static_cast<size_t>(k)];
        x[static_cast<size_t>(i)] = sum / at(i, i);
      }
      for (int64_t i = 0; i < n_; ++i)
        f(rows_[static_cast<size_t>(j)], columns_[static_cast<size_t>(i)],
          product * x[static_cast<size_t>(i)]);
    }
  }

  int64_t n_;
  std::vector<double> lu_;
  std::vector<int64_t> rows_, columns_;
  std::vector<double> line_;
};

Prepared prepare(PrepareContext& ctx) {
  const SquareMatrices matrices = square_matrices(ctx, ctx.dims(1));
  const int64_t n = matrices.n, count = element_count(matrices.batch);
  ctx.expect(ctx.dims(0) == matrices.batch, "shape of input 'dY'", to_string(matrices.batch),
             to_string(ctx.dims(0)));
  expect_same_dtype(ctx, 2);
  Prepared prepared = no_kernel_for(ctx.dtype(1));
  visit<AllFloats>(ctx.dtype(1), [&]<typename T>() {
    ctx.output(0, ctx.dtype(1), ctx.dims(1));
    prepared = [n, count](RunContext& run) {
      if (n == 0) return;
      const T *dy = run.in<T>(0), *x = run.in<T>(1);
      T* dx = run.out<T>(0);
      const double work = 4 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n) + 10;
      parallel_for(count, grain_for(work), [&](int64_t begin, int64_t end) {
        Cofactors cofactors(n);
        for (int64_t b = begin; b < end; ++b) {
          for (int64_t i = 0; i < n * n; ++i)
            cofactors.matrix()[i] = static_cast<double>(widen(x[b * n * n + i]));
          const double factor = static_cast<double>(widen(dy[b]));
          cofactors.each([&](int64_t i, int64_t j, double cofactor) {
            dx[(b * n + i) * n + j] = static_cast<T>(factor * cofactor);
          });
        }
      });
    };
  });
  return prepared;
}

}  // namespace

void register_elementwise_det_backward(KernelRegistry& r) { r.ref("DetBackward", prepare, kOwnDomain); }

}  // namespace sardonyx::cpu
