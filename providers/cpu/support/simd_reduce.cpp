#include "providers/cpu/support/simd_reduce.h"

// Accumulators are kept in arrays, so that vectors need a known size.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/support/simd_reduce.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "providers/cpu/support/simd_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::HWY_NAMESPACE {
namespace {

using M = hn::Mask<D>;

// An operation: an accumulator, how it takes a vector or another accumulator, the element that changes
// nothing, and how the results of blocks meet.
struct SumOp {
  static constexpr float kNothing = 0;
  struct Acc {
    V v;
  };
  HWY_INLINE Acc start(D d) const { return {hn::Zero(d)}; }
  HWY_INLINE V map(D, V x, int64_t) const { return x; }
  HWY_INLINE void merge(Acc& a, const Acc& b) const { a.v = hn::Add(a.v, b.v); }
  HWY_INLINE V total(D, const Acc& a) const { return a.v; }
  HWY_INLINE double across_lanes(D d, V v) const {
    return static_cast<double>(hn::GetLane(hn::SumOfLanes(d, v)));
  }
  double across(double a, double b) const { return a + b; }
};
struct SumAbsOp : SumOp {
  HWY_INLINE V map(D, V x, int64_t) const { return hn::Abs(x); }
};
struct SumSquareOp : SumOp {
  HWY_INLINE V map(D, V x, int64_t) const { return hn::Mul(x, x); }
};
// The shift of a row is one number; that of columns is a row of its own, read at the column.
struct SumExpOp : SumOp {
  static constexpr float kNothing = kMinusInfinity;
  const float* shift;
  bool by_column;
  HWY_INLINE V map(D d, V x, int64_t column) const {
    return exp_negative(d, hn::Sub(x, by_column ? hn::LoadU(d, shift + column) : hn::Set(d, *shift)));
  }
};
struct ProdOp : SumOp {
  static constexpr float kNothing = 1;
  HWY_INLINE Acc start(D d) const { return {hn::Set(d, 1.0f)}; }
  HWY_INLINE void merge(Acc& a, const Acc& b) const { a.v = hn::Mul(a.v, b.v); }
  HWY_INLINE double across_lanes(D d, V v) const {
    HWY_ALIGN float lanes[HWY_MAX_BYTES / sizeof(float)];
    hn::Store(v, d, lanes);
    double product = 1;
    for (size_t i = 0; i < hn::Lanes(d); ++i) product *= static_cast<double>(lanes[i]);
    return product;
  }
  double across(double a, double b) const { return a * b; }
};
// The machine's maximum may lose a NaN: which lanes had one is kept beside it.
template <bool kMax>
struct ExtremeOp {
  static constexpr float kNothing = kMax ? kMinusInfinity : -kMinusInfinity;
  struct Acc {
    V v;
    M nan;
  };
  HWY_INLINE Acc start(D d) const { return {hn::Set(d, kNothing), hn::MaskFromVec(hn::Zero(d))}; }
  HWY_INLINE V map(D, V x, int64_t) const { return x; }
  HWY_INLINE V pick(V a, V b) const { return kMax ? hn::Max(a, b) : hn::Min(a, b); }
  HWY_INLINE void merge(Acc& a, const Acc& b) const { a = {pick(a.v, b.v), hn::Or(a.nan, b.nan)}; }
  HWY_INLINE V total(D d, const Acc& a) const {
    return hn::IfThenElse(a.nan, hn::Set(d, std::numeric_limits<float>::quiet_NaN()), a.v);
  }
  HWY_INLINE double across_lanes(D d, V v) const {
    if (!hn::AllFalse(d, hn::IsNaN(v))) return std::numeric_limits<double>::quiet_NaN();
    return static_cast<double>(hn::GetLane(kMax ? hn::MaxOfLanes(d, v) : hn::MinOfLanes(d, v)));
  }
  double across(double a, double b) const { return std::isnan(a) || (kMax ? a >= b : a <= b) ? a : b; }
};

template <class Op>
HWY_INLINE void take(const Op& op, D d, typename Op::Acc& acc, V x, int64_t column) {
  if constexpr (requires { acc.nan; })
    op.merge(acc, {x, hn::IsNaN(x)});
  else
    op.merge(acc, {op.map(d, x, column)});
}

// One block of a row, in f32.
constexpr int64_t kBlock = 4096;
template <class Op>
HWY_INLINE double reduce_block(const Op& op, const float* HWY_RESTRICT x, int64_t n) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto a0 = op.start(d), a1 = a0, a2 = a0, a3 = a0;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    take(op, d, a0, hn::LoadU(d, x + i), 0);
    take(op, d, a1, hn::LoadU(d, x + i + lanes), 0);
    take(op, d, a2, hn::LoadU(d, x + i + 2 * lanes), 0);
    take(op, d, a3, hn::LoadU(d, x + i + 3 * lanes), 0);
  }
  for (; i + lanes <= n; i += lanes) take(op, d, a0, hn::LoadU(d, x + i), 0);
  if (i < n) take(op, d, a1, load_some(d, x + i, n - i, Op::kNothing), 0);
  op.merge(a0, a1);
  op.merge(a2, a3);
  op.merge(a0, a2);
  return op.across_lanes(d, op.total(d, a0));
}

template <class OpAt>
void reduce_rows(OpAt at, const float* x, int64_t rows, int64_t stride, int64_t n, double* acc) {
  for (int64_t r = 0; r < rows; ++r) {
    const auto op = at(r);
    const float* row = x + r * stride;
    for (int64_t i = 0; i < n; i += kBlock)
      acc[r] = op.across(acc[r], reduce_block(op, row + i, std::min(kBlock, n - i)));
  }
}

// kVectors vectors of columns from `column` on, or, with kSome, the first `some` columns of one. f32 over a
// few rows, f64 across them.
constexpr int64_t kFlushRows = 64;
template <int kVectors, bool kSome, class Op>
HWY_INLINE void reduce_tile(const Op& op, const float* x, int64_t rows, int64_t stride, int64_t column,
                            int64_t some, double* acc) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r0 = 0; r0 < rows; r0 += kFlushRows) {
    typename Op::Acc a[kVectors];
#pragma GCC unroll 8
    for (int k = 0; k < kVectors; ++k) a[k] = op.start(d);
    for (int64_t r = r0; r < std::min(rows, r0 + kFlushRows); ++r) {
      const float* p = x + r * stride + column;
#pragma GCC unroll 8
      for (int k = 0; k < kVectors; ++k)
        take(op, d, a[k], kSome ? load_some(d, p, some, Op::kNothing) : hn::LoadU(d, p + k * lanes),
             column + k * lanes);
    }
    HWY_ALIGN float sums[kVectors * HWY_MAX_BYTES / sizeof(float)];
#pragma GCC unroll 8
    for (int k = 0; k < kVectors; ++k) hn::StoreU(op.total(d, a[k]), d, sums + k * lanes);
    const int64_t columns = kSome ? some : kVectors * lanes;
    for (int64_t c = 0; c < columns; ++c)
      acc[column + c] = op.across(acc[column + c], static_cast<double>(sums[c]));
  }
}

template <class Op>
void reduce_columns(const Op& op, const float* x, int64_t rows, int64_t stride, int64_t columns,
                    double* acc) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  int64_t c = 0;
  for (; c + 8 * lanes <= columns; c += 8 * lanes) reduce_tile<8, false>(op, x, rows, stride, c, 0, acc);
  for (; c + 4 * lanes <= columns; c += 4 * lanes) reduce_tile<4, false>(op, x, rows, stride, c, 0, acc);
  for (; c + lanes <= columns; c += lanes) reduce_tile<1, false>(op, x, rows, stride, c, 0, acc);
  if (c < columns) reduce_tile<1, true>(op, x, rows, stride, c, columns - c, acc);
}

template <class F>
void with_op(SimdReduce op, F f) {
  switch (op) {
    case SimdReduce::Sum:
      return f(SumOp());
    case SimdReduce::SumAbs:
      return f(SumAbsOp());
    case SimdReduce::SumSquare:
      return f(SumSquareOp());
    case SimdReduce::Prod:
      return f(ProdOp());
    case SimdReduce::Max:
      return f(ExtremeOp<true>());
    case SimdReduce::Min:
      return f(ExtremeOp<false>());
  }
}

SumExpOp sum_exp(const float* shift, bool by_column) {
  SumExpOp op;
  op.shift = shift;
  op.by_column = by_column;
  return op;
}

}  // namespace

void Rows(SimdReduce op, const float* x, int64_t rows, int64_t stride, int64_t n, double* acc) {
  with_op(op, [&](auto o) { reduce_rows([o](int64_t) { return o; }, x, rows, stride, n, acc); });
}
void Columns(SimdReduce op, const float* x, int64_t rows, int64_t stride, int64_t columns, double* acc) {
  with_op(op, [&](auto o) { reduce_columns(o, x, rows, stride, columns, acc); });
}
void SumExpRows(const float* x, int64_t rows, int64_t stride, int64_t n, const float* shift, double* acc) {
  reduce_rows([shift](int64_t r) { return sum_exp(shift + r, false); }, x, rows, stride, n, acc);
}
void SumExpColumns(const float* x, int64_t rows, int64_t stride, int64_t columns, const float* shift,
                   double* acc) {
  // Padded by a vector for the last columns.
  HWY_ALIGN float padded[kReduceColumns + HWY_MAX_BYTES / sizeof(float)] = {};
  std::copy(shift, shift + columns, padded);
  reduce_columns(sum_exp(padded, true), x, rows, stride, columns, acc);
}

}  // namespace sardonyx::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {
HWY_EXPORT(Rows);
HWY_EXPORT(Columns);
HWY_EXPORT(SumExpRows);
HWY_EXPORT(SumExpColumns);

void simd_reduce_rows(SimdReduce op, const float* x, int64_t rows, int64_t stride, int64_t n, double* acc) {
  HWY_DYNAMIC_DISPATCH(Rows)(op, x, rows, stride, n, acc);
}
void simd_reduce_columns(SimdReduce op, const float* x, int64_t rows, int64_t stride, int64_t columns,
                         double* acc) {
  HWY_DYNAMIC_DISPATCH(Columns)(op, x, rows, stride, columns, acc);
}
void simd_sum_exp_rows(const float* x, int64_t rows, int64_t stride, int64_t n, const float* shift,
                       double* acc) {
  HWY_DYNAMIC_DISPATCH(SumExpRows)(x, rows, stride, n, shift, acc);
}
void simd_sum_exp_columns(const float* x, int64_t rows, int64_t stride, int64_t columns, const float* shift,
                          double* acc) {
  HWY_DYNAMIC_DISPATCH(SumExpColumns)(x, rows, stride, columns, shift, acc);
}
}  // namespace sardonyx::cpu
#endif
