#include "providers/cpu/support/simd_reduce.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/support/simd_reduce.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

// An operation: what an element contributes, how contributions meet, and the element that changes nothing.
struct SumOp {
  static constexpr float kIdentity = 0;
  HWY_INLINE V map(D, V v) const { return v; }
  HWY_INLINE V combine(D, V a, V b) const { return hn::Add(a, b); }
  double across(double a, double b) const { return a + b; }
};
struct SumAbsOp : SumOp {
  HWY_INLINE V map(D, V v) const { return hn::Abs(v); }
};
struct SumSquareOp : SumOp {
  HWY_INLINE V map(D, V v) const { return hn::Mul(v, v); }
};
struct SumExpOp : SumOp {
  static constexpr float kIdentity = -std::numeric_limits<float>::infinity();
  float shift;
  HWY_INLINE V map(D d, V v) const {
    const V x = hn::Sub(v, hn::Set(d, shift));
    return hn::IfThenElse(hn::Eq(x, x), hn::Exp(d, x), x);
  }
};
struct ProdOp {
  static constexpr float kIdentity = 1;
  HWY_INLINE V map(D, V v) const { return v; }
  HWY_INLINE V combine(D, V a, V b) const { return hn::Mul(a, b); }
  double across(double a, double b) const { return a * b; }
};
// Picks a, b or whichever is NaN: the library's Max and Min leave NaN to the machine, and its Ne is false for NaN.
HWY_INLINE V with_nan(V a, V b, V picked) {
  return hn::IfThenElse(hn::Eq(a, a), hn::IfThenElse(hn::Eq(b, b), picked, b), a);
}
struct MaxOp {
  static constexpr float kIdentity = -std::numeric_limits<float>::infinity();
  HWY_INLINE V map(D, V v) const { return v; }
  HWY_INLINE V combine(D, V a, V b) const { return with_nan(a, b, hn::Max(a, b)); }
  double across(double a, double b) const { return std::isnan(a) || a >= b ? a : b; }
};
struct MinOp {
  static constexpr float kIdentity = std::numeric_limits<float>::infinity();
  HWY_INLINE V map(D, V v) const { return v; }
  HWY_INLINE V combine(D, V a, V b) const { return with_nan(a, b, hn::Min(a, b)); }
  double across(double a, double b) const { return std::isnan(a) || a <= b ? a : b; }
};

template <class Op> HWY_INLINE V start(const Op&, D d) {
  return hn::Set(d, std::is_base_of_v<SumOp, Op> ? 0.0f : Op::kIdentity);
}

// One short block: at most kBlock elements, in f32.
constexpr int64_t kBlock = 4096;
template <class Op>
HWY_INLINE double reduce_block(const Op& op, const float* HWY_RESTRICT x, int64_t n) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V a0 = start(op, d), a1 = a0, a2 = a0, a3 = a0;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    a0 = op.combine(d, a0, op.map(d, hn::LoadU(d, x + i)));
    a1 = op.combine(d, a1, op.map(d, hn::LoadU(d, x + i + lanes)));
    a2 = op.combine(d, a2, op.map(d, hn::LoadU(d, x + i + 2 * lanes)));
    a3 = op.combine(d, a3, op.map(d, hn::LoadU(d, x + i + 3 * lanes)));
  }
  for (; i + lanes <= n; i += lanes) a0 = op.combine(d, a0, op.map(d, hn::LoadU(d, x + i)));
  HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)];
  if (i < n) {
    hn::Store(hn::Set(d, Op::kIdentity), d, buffer);
    for (int64_t j = 0; i + j < n; ++j) buffer[j] = x[i + j];
    a1 = op.combine(d, a1, op.map(d, hn::Load(d, buffer)));
  }
  const V all = op.combine(d, op.combine(d, a0, a1), op.combine(d, a2, a3));
  if constexpr (std::is_base_of_v<SumOp, Op>) {
    return hn::GetLane(hn::SumOfLanes(d, all));
  } else {
    hn::Store(all, d, buffer);
    double result = buffer[0];
    for (int64_t j = 1; j < lanes; ++j) result = op.across(result, buffer[j]);
    return result;
  }
}

template <class MakeOp>
void reduce_rows(MakeOp make, const float* x, int64_t rows, int64_t stride, int64_t n, double* acc) {
  for (int64_t r = 0; r < rows; ++r) {
    const auto op = make(r);
    const float* row = x + r * stride;
    double result = acc[r];
    for (int64_t i = 0; i < n; i += kBlock) result = op.across(result, reduce_block(op, row + i, std::min(kBlock, n - i)));
    acc[r] = result;
  }
}

// Rows of one flush: f32 sums over that many rows, then f64.
constexpr int64_t kFlushRows = 64;
template <class OpAt>
void reduce_columns(OpAt at, const float* x, int64_t rows, int64_t stride, int64_t columns, double* acc) {
  const D d;
  using Op = decltype(at(int64_t{0}));
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN float sum[kReduceColumns + HWY_MAX_BYTES / sizeof(float)];
  HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)];
  for (int64_t r0 = 0; r0 < rows; r0 += kFlushRows) {
    const int64_t end = std::min(rows, r0 + kFlushRows);
    for (int64_t c = 0; c < columns; c += lanes) hn::Store(start(at(0), d), d, sum + c);
    for (int64_t r = r0; r < end;) {
      const float* p = x + r * stride;
      const bool four = r + 4 <= end;
      int64_t c = 0;
      for (; c + lanes <= columns; c += lanes) {
        const Op op = at(c);
        V v = op.map(d, hn::LoadU(d, p + c));
        if (four) {
          v = op.combine(d, v, op.map(d, hn::LoadU(d, p + stride + c)));
          v = op.combine(d, v, op.combine(d, op.map(d, hn::LoadU(d, p + 2 * stride + c)),
                                          op.map(d, hn::LoadU(d, p + 3 * stride + c))));
        }
        hn::Store(op.combine(d, hn::Load(d, sum + c), v), d, sum + c);
      }
      if (c < columns) {
        const Op op = at(c);
        for (int64_t k = 0; k < (four ? 4 : 1); ++k) {
          hn::Store(hn::Set(d, Op::kIdentity), d, buffer);
          for (int64_t j = 0; c + j < columns; ++j) buffer[j] = p[k * stride + c + j];
          hn::Store(op.combine(d, hn::Load(d, sum + c), op.map(d, hn::Load(d, buffer))), d, sum + c);
        }
      }
      r += four ? 4 : 1;
    }
    const Op op = at(0);
    for (int64_t c = 0; c < columns; ++c) acc[c] = op.across(acc[c], sum[c]);
  }
}

// The shifts of a vector of columns; `shift` is padded by a vector.
struct SumExpColumnsOp : SumOp {
  static constexpr float kIdentity = -std::numeric_limits<float>::infinity();
  const float* shift;
  HWY_INLINE V map(D d, V v) const {
    const V x = hn::Sub(v, hn::LoadU(d, shift));
    return hn::IfThenElse(hn::Eq(x, x), hn::Exp(d, x), x);
  }
};

template <class F>
void with_op(SimdReduce op, F f) {
  switch (op) {
    case SimdReduce::Sum: return f(SumOp());
    case SimdReduce::SumAbs: return f(SumAbsOp());
    case SimdReduce::SumSquare: return f(SumSquareOp());
    case SimdReduce::Prod: return f(ProdOp());
    case SimdReduce::Max: return f(MaxOp());
    case SimdReduce::Min: return f(MinOp());
  }
}

void Rows(SimdReduce op, const float* x, int64_t rows, int64_t stride, int64_t n, double* acc) {
  with_op(op, [&](auto o) { reduce_rows([o](int64_t) { return o; }, x, rows, stride, n, acc); });
}
void Columns(SimdReduce op, const float* x, int64_t rows, int64_t stride, int64_t columns, double* acc) {
  with_op(op, [&](auto o) { reduce_columns([o](int64_t) { return o; }, x, rows, stride, columns, acc); });
}
void SumExpRows(const float* x, int64_t rows, int64_t stride, int64_t n, const float* shift, double* acc) {
  const auto make = [shift](int64_t r) {
    SumExpOp op;
    op.shift = shift[r];
    return op;
  };
  reduce_rows(make, x, rows, stride, n, acc);
}
void SumExpColumns(const float* x, int64_t rows, int64_t stride, int64_t columns, const float* shift, double* acc) {
  HWY_ALIGN float padded[kReduceColumns + HWY_MAX_BYTES / sizeof(float)] = {};
  std::copy(shift, shift + columns, padded);
  const auto make = [&padded](int64_t c) {
    SumExpColumnsOp op;
    op.shift = padded + c;
    return op;
  };
  reduce_columns(make, x, rows, stride, columns, acc);
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
void simd_reduce_columns(SimdReduce op, const float* x, int64_t rows, int64_t stride, int64_t columns, double* acc) {
  HWY_DYNAMIC_DISPATCH(Columns)(op, x, rows, stride, columns, acc);
}
void simd_sum_exp_rows(const float* x, int64_t rows, int64_t stride, int64_t n, const float* shift, double* acc) {
  HWY_DYNAMIC_DISPATCH(SumExpRows)(x, rows, stride, n, shift, acc);
}
void simd_sum_exp_columns(const float* x, int64_t rows, int64_t stride, int64_t columns, const float* shift, double* acc) {
  HWY_DYNAMIC_DISPATCH(SumExpColumns)(x, rows, stride, columns, shift, acc);
}
}  // namespace sardonyx::cpu
#endif
