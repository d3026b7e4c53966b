#include "providers/cpu/support/simd_softmax.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/support/simd_softmax.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include "hwy/contrib/math/math-inl.h"
#include "providers/cpu/support/simd_softmax-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::HWY_NAMESPACE {
namespace {

// y[i] = f(x[i]) over a row; f also says what to write: nothing where y is null. Four vectors are taken
// together, so that their computations overlap.
template <class F>
HWY_INLINE void each_vector(const float* x, float* y, int64_t n, float fill, F f) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    const V v0 = f(hn::LoadU(d, x + i), 0), v1 = f(hn::LoadU(d, x + i + lanes), 1);
    const V v2 = f(hn::LoadU(d, x + i + 2 * lanes), 2), v3 = f(hn::LoadU(d, x + i + 3 * lanes), 3);
    if (!y) continue;
    hn::StoreU(v0, d, y + i);
    hn::StoreU(v1, d, y + i + lanes);
    hn::StoreU(v2, d, y + i + 2 * lanes);
    hn::StoreU(v3, d, y + i + 3 * lanes);
  }
  for (; i + lanes <= n; i += lanes) {
    const V v = f(hn::LoadU(d, x + i), 0);
    if (y) hn::StoreU(v, d, y + i);
  }
  if (i < n) {
    const V v = f(load_some(d, x + i, n - i, fill), 1);
    if (y) store_some(d, v, y + i, n - i);
  }
}

}  // namespace

// NaN need not reach the maximum: it reaches the sum, and with it the whole row.
void Rows(const float* x, float* y, int64_t rows, int64_t n, bool log, bool empty_is_zero) {
  const D d;
  for (int64_t r = 0; r < rows; ++r, x += n, y += n) {
    V m0 = hn::Set(d, kMinusInfinity), m1 = m0, m2 = m0, m3 = m0;
    each_vector(x, nullptr, n, kMinusInfinity, [&](V v, int k) {
      V& m = k == 0 ? m0 : k == 1 ? m1 : k == 2 ? m2 : m3;
      return m = hn::Max(m, v);
    });
    const V max = hn::MaxOfLanes(d, hn::Max(hn::Max(m0, m1), hn::Max(m2, m3)));
    if (empty_is_zero && hn::GetLane(max) == kMinusInfinity &&
        std::all_of(x, x + n, [](float v) { return v == kMinusInfinity; })) {
      std::fill(y, y + n, 0.0f);
      continue;
    }
    V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
    each_vector(x, log ? nullptr : y, n, kMinusInfinity, [&](V v, int k) {
      V& s = k == 0 ? s0 : k == 1 ? s1 : k == 2 ? s2 : s3;
      const V e = exp_negative(d, hn::Sub(v, max));
      s = hn::Add(s, e);
      return e;
    });
    const V sum = hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3)));
    if (log) {
      const V shift = hn::Set(d, std::log(hn::GetLane(sum)));
      each_vector(x, y, n, 0, [=](V v, int) { return hn::Sub(hn::Sub(v, max), shift); });
    } else {
      const V scale = hn::Div(hn::Set(d, 1.0f), sum);
      each_vector(y, y, n, 0, [=](V v, int) { return hn::Mul(v, scale); });
    }
  }
}

// kVectors vectors of columns, or, with kSome, the first `some` columns of one.
template <int kVectors, bool kSome>
void column_tile(const float* x, float* y, int64_t n, int64_t stride, int64_t some, bool log) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto load = [&](const float* p) { return kSome ? load_some(d, p, some, 0) : hn::LoadU(d, p); };
  const auto store = [&](V v, float* p) {
    if (kSome)
      store_some(d, v, p, some);
    else
      hn::StoreU(v, d, p);
  };
  V max[kVectors], sum[kVectors];
  for (int k = 0; k < kVectors; ++k) max[k] = hn::Set(d, kMinusInfinity), sum[k] = hn::Zero(d);
  for (int64_t r = 0; r < n; ++r)
    for (int k = 0; k < kVectors; ++k) max[k] = hn::Max(max[k], load(x + r * stride + k * lanes));
  for (int64_t r = 0; r < n; ++r) {
    for (int k = 0; k < kVectors; ++k) {
      const int64_t at = r * stride + k * lanes;
      const V e = exp_negative(d, hn::Sub(load(x + at), max[k]));
      sum[k] = hn::Add(sum[k], e);
      if (!log) store(e, y + at);
    }
  }
  for (int k = 0; k < kVectors; ++k)
    sum[k] = log ? hn::IfThenElse(hn::Eq(sum[k], sum[k]), hn::Log(d, sum[k]), sum[k])
                 : hn::Div(hn::Set(d, 1.0f), sum[k]);
  for (int64_t r = 0; r < n; ++r) {
    for (int k = 0; k < kVectors; ++k) {
      const int64_t at = r * stride + k * lanes;
      store(log ? hn::Sub(hn::Sub(load(x + at), max[k]), sum[k]) : hn::Mul(load(y + at), sum[k]), y + at);
    }
  }
}

void Columns(const float* x, float* y, int64_t n, int64_t stride, int64_t columns, bool log) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + 4 * lanes <= columns; c += 4 * lanes) column_tile<4, false>(x + c, y + c, n, stride, 0, log);
  for (; c + lanes <= columns; c += lanes) column_tile<1, false>(x + c, y + c, n, stride, 0, log);
  if (c < columns) column_tile<1, true>(x + c, y + c, n, stride, columns - c, log);
}

}  // namespace sardonyx::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {
HWY_EXPORT(Rows);
HWY_EXPORT(Columns);

void simd_softmax_rows(const float* x, float* y, int64_t rows, int64_t n, bool log, bool empty_is_zero) {
  HWY_DYNAMIC_DISPATCH(Rows)(x, y, rows, n, log, empty_is_zero);
}
void simd_softmax_columns(const float* x, float* y, int64_t n, int64_t stride, int64_t columns, bool log) {
  HWY_DYNAMIC_DISPATCH(Columns)(x, y, n, stride, columns, log);
}
}  // namespace sardonyx::cpu
#endif
