#include "providers/cpu/support/simd_softmax.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/support/simd_softmax.cpp"
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

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr int64_t kMaxLanes = HWY_MAX_BYTES / sizeof(float);

// exp of a difference from the maximum: at most 0, or NaN, which stays NaN.
HWY_INLINE V exp_of(D d, V x) { return hn::IfThenElse(hn::Eq(x, x), hn::Exp(d, x), x); }

HWY_INLINE V load_some(D d, const float* p, int64_t n, float fill) {
  HWY_ALIGN float buffer[kMaxLanes];
  hn::Store(hn::Set(d, fill), d, buffer);
  for (int64_t i = 0; i < n; ++i) buffer[i] = p[i];
  return hn::Load(d, buffer);
}
HWY_INLINE void store_some(D d, V v, float* p, int64_t n) {
  HWY_ALIGN float buffer[kMaxLanes];
  hn::Store(v, d, buffer);
  for (int64_t i = 0; i < n; ++i) p[i] = buffer[i];
}

// NaN need not reach the maximum: it reaches the sum, and with it the whole row.
void Rows(const float* x, float* y, int64_t rows, int64_t n, bool log, bool empty_is_zero) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t whole = n - n % lanes, rest = n - whole;
  for (int64_t r = 0; r < rows; ++r, x += n, y += n) {
    V m0 = hn::Set(d, kMinusInfinity), m1 = m0;
    int64_t i = 0;
    for (; i + 2 * lanes <= whole; i += 2 * lanes) {
      m0 = hn::Max(m0, hn::LoadU(d, x + i));
      m1 = hn::Max(m1, hn::LoadU(d, x + i + lanes));
    }
    if (i < whole) m0 = hn::Max(m0, hn::LoadU(d, x + i));
    if (rest) m1 = hn::Max(m1, load_some(d, x + whole, rest, kMinusInfinity));
    const V max = hn::MaxOfLanes(d, hn::Max(m0, m1));
    if (empty_is_zero && hn::GetLane(max) == kMinusInfinity &&
        std::all_of(x, x + n, [](float v) { return v == kMinusInfinity; })) {
      std::fill(y, y + n, 0.0f);
      continue;
    }
    V s0 = hn::Zero(d), s1 = s0;
    if (log) {
      for (i = 0; i < whole; i += lanes) s0 = hn::Add(s0, exp_of(d, hn::Sub(hn::LoadU(d, x + i), max)));
      if (rest) s1 = exp_of(d, hn::Sub(load_some(d, x + whole, rest, kMinusInfinity), max));
      const V shift = hn::Set(d, std::log(hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)))));
      for (i = 0; i < whole; i += lanes) hn::StoreU(hn::Sub(hn::Sub(hn::LoadU(d, x + i), max), shift), d, y + i);
      if (rest) store_some(d, hn::Sub(hn::Sub(load_some(d, x + whole, rest, 0), max), shift), y + whole, rest);
      continue;
    }
    for (i = 0; i + 2 * lanes <= whole; i += 2 * lanes) {
      const V e0 = exp_of(d, hn::Sub(hn::LoadU(d, x + i), max));
      const V e1 = exp_of(d, hn::Sub(hn::LoadU(d, x + i + lanes), max));
      s0 = hn::Add(s0, e0);
      s1 = hn::Add(s1, e1);
      hn::StoreU(e0, d, y + i);
      hn::StoreU(e1, d, y + i + lanes);
    }
    if (i < whole) {
      const V e = exp_of(d, hn::Sub(hn::LoadU(d, x + i), max));
      s0 = hn::Add(s0, e);
      hn::StoreU(e, d, y + i);
    }
    if (rest) {
      const V e = exp_of(d, hn::Sub(load_some(d, x + whole, rest, kMinusInfinity), max));
      s1 = hn::Add(s1, e);
      store_some(d, e, y + whole, rest);
    }
    const V scale = hn::Div(hn::Set(d, 1.0f), hn::SumOfLanes(d, hn::Add(s0, s1)));
    for (i = 0; i < whole; i += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, y + i), scale), d, y + i);
    for (i = whole; i < n; ++i) y[i] *= hn::GetLane(scale);
  }
}

// kVectors vectors of columns, or, with kSome, the first `some` columns of one.
template <int kVectors, bool kSome>
void column_tile(const float* x, float* y, int64_t n, int64_t stride, int64_t some, bool log) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto load = [&](const float* p) { return kSome ? load_some(d, p, some, 0) : hn::LoadU(d, p); };
  const auto store = [&](V v, float* p) {
    if (kSome) store_some(d, v, p, some);
    else hn::StoreU(v, d, p);
  };
  V max[kVectors], sum[kVectors];
  for (int k = 0; k < kVectors; ++k) max[k] = hn::Set(d, kMinusInfinity), sum[k] = hn::Zero(d);
  for (int64_t r = 0; r < n; ++r)
    for (int k = 0; k < kVectors; ++k) max[k] = hn::Max(max[k], load(x + r * stride + k * lanes));
  for (int64_t r = 0; r < n; ++r) {
    for (int k = 0; k < kVectors; ++k) {
      const int64_t at = r * stride + k * lanes;
      const V e = exp_of(d, hn::Sub(load(x + at), max[k]));
      sum[k] = hn::Add(sum[k], e);
      if (!log) store(e, y + at);
    }
  }
  for (int k = 0; k < kVectors; ++k) sum[k] = log ? hn::IfThenElse(hn::Eq(sum[k], sum[k]), hn::Log(d, sum[k]), sum[k]) : hn::Div(hn::Set(d, 1.0f), sum[k]);
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
