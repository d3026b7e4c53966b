#include "providers/cpu/support/panel_gemm.h"

// The product is written for vectors of known size.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/support/panel_gemm.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;

// Rows of a register tile of two vectors: as many as the machine has registers for.
#if HWY_TARGET <= HWY_AVX3
constexpr int kRows = 12;
#else
constexpr int kRows = 6;
#endif

// kM rows by two vectors of columns; kU partial sums hide the latency of a product of few rows.
template <int kM, int kU>
HWY_INLINE void tile(const PanelGemm& g, int64_t row, int64_t column) {
  const D d;
  constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));
  const float* HWY_RESTRICT a = g.a + row * g.lda;
  const float* HWY_RESTRICT b = g.b + column;
  V acc[kU][kM][2];
#pragma GCC unroll 16
  for (int u = 0; u < kU; ++u)
#pragma GCC unroll 16
    for (int i = 0; i < kM; ++i) acc[u][i][0] = acc[u][i][1] = hn::Zero(d);
  int64_t r = 0;
  for (; r + kU <= g.k; r += kU) {
#pragma GCC unroll 16
    for (int u = 0; u < kU; ++u) {
      const V b0 = hn::LoadU(d, b + (r + u) * g.ldb), b1 = hn::LoadU(d, b + (r + u) * g.ldb + kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < kM; ++i) {
        const V x = hn::Set(d, a[i * g.lda + r + u]);
        acc[u][i][0] = hn::MulAdd(x, b0, acc[u][i][0]);
        acc[u][i][1] = hn::MulAdd(x, b1, acc[u][i][1]);
      }
    }
  }
  for (; r < g.k; ++r) {
    const V b0 = hn::LoadU(d, b + r * g.ldb), b1 = hn::LoadU(d, b + r * g.ldb + kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kM; ++i) {
      const V x = hn::Set(d, a[i * g.lda + r]);
      acc[0][i][0] = hn::MulAdd(x, b0, acc[0][i][0]);
      acc[0][i][1] = hn::MulAdd(x, b1, acc[0][i][1]);
    }
  }
#pragma GCC unroll 16
  for (int u = 1; u < kU; ++u)
#pragma GCC unroll 16
    for (int i = 0; i < kM; ++i)
      for (int v = 0; v < 2; ++v) acc[0][i][v] = hn::Add(acc[0][i][v], acc[u][i][v]);
  const int64_t left = g.n - column;
#pragma GCC unroll 16
  for (int i = 0; i < kM; ++i) {
    float* c = g.c + (row + i) * g.ldc + column;
    const float* init = g.init ? g.init + (row + i) * g.init_stride + column : nullptr;
    if (left >= 2 * kLanes) {
      hn::StoreU(init ? hn::Add(hn::LoadU(d, init), acc[0][i][0]) : acc[0][i][0], d, c);
      hn::StoreU(init ? hn::Add(hn::LoadU(d, init + kLanes), acc[0][i][1]) : acc[0][i][1], d, c + kLanes);
    } else {
      HWY_ALIGN float buffer[2 * kLanes];
      hn::Store(acc[0][i][0], d, buffer);
      hn::Store(acc[0][i][1], d, buffer + kLanes);
      for (int64_t j = 0; j < left; ++j) c[j] = init ? init[j] + buffer[j] : buffer[j];
    }
  }
}

template <int kM>
void tile_of(int rows, const PanelGemm& g, int64_t row, int64_t column) {
  if (rows == kM) return tile<kM, (kM <= 2 ? 4 : kM <= 4 ? 2 : 1)>(g, row, column);
  if constexpr (kM > 1) tile_of<kM - 1>(rows, g, row, column);
}

void Gemm(const PanelGemm& g) {
  constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));
  const int64_t blocks = (g.m + kRows - 1) / kRows;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t row = g.m * block / blocks, rows = g.m * (block + 1) / blocks - row;
    for (int64_t column = 0; column < g.n; column += 2 * kLanes)
      tile_of<kRows>(static_cast<int>(rows), g, row, column);
  }
}

void DotRows(const float* a, const float* b, int64_t rows, int64_t stride, int64_t n, float scale,
             float* out) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t j = 0; j < rows; ++j, b += stride) {
    V s0 = hn::Zero(d), s1 = s0;
    int64_t i = 0;
    for (; i + 2 * lanes <= n; i += 2 * lanes) {
      s0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), s0);
      s1 = hn::MulAdd(hn::LoadU(d, a + i + lanes), hn::LoadU(d, b + i + lanes), s1);
    }
    for (; i + lanes <= n; i += lanes) s0 = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), s0);
    float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
    for (; i < n; ++i) sum += a[i] * b[i];
    out[j] = scale * sum;
  }
}

// Rows r to r + 3 of columns c to c + 3 of a matrix stored by columns.
void pack_four(const float* from, int64_t stride, float* to, float scale) {
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> d;
  const hn::FixedTag<double, 2> dd;
  const auto load = [&](int64_t c) { return hn::Mul(hn::LoadU(d, from + c * stride), hn::Set(d, scale)); };
  const auto a = load(0), b = load(1), c = load(2), e = load(3);
  const auto ab0 = hn::BitCast(dd, hn::InterleaveLower(d, a, b)),
             ab1 = hn::BitCast(dd, hn::InterleaveUpper(d, a, b));
  const auto ce0 = hn::BitCast(dd, hn::InterleaveLower(d, c, e)),
             ce1 = hn::BitCast(dd, hn::InterleaveUpper(d, c, e));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dd, ab0, ce0)), d, to);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dd, ab0, ce0)), d, to + kPanel);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dd, ab1, ce1)), d, to + 2 * kPanel);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dd, ab1, ce1)), d, to + 3 * kPanel);
#else
  for (int64_t r = 0; r < 4; ++r)
    for (int64_t c = 0; c < 4; ++c) to[r * kPanel + c] = from[c * stride + r] * scale;
#endif
}

void Pack(const float* b, int64_t row_stride, int64_t column_stride, int64_t k, int64_t n, float* packed,
          float scale) {
  for (int64_t first = 0; first < n; first += kPanel, packed += k * kPanel) {
    const int64_t columns = std::min(kPanel, n - first);
    const float* from = b + first * column_stride;
    if (column_stride == 1) {
      for (int64_t r = 0; r < k; ++r)
        for (int64_t c = 0; c < columns; ++c) packed[r * kPanel + c] = from[r * row_stride + c] * scale;
    } else {
      const int64_t whole_rows = k - k % 4, whole_columns = columns - columns % 4;
      for (int64_t r = 0; r < whole_rows; r += 4)
        for (int64_t c = 0; c < whole_columns; c += 4)
          pack_four(from + r + c * column_stride, column_stride, packed + r * kPanel + c, scale);
      for (int64_t c = 0; c < columns; ++c)
        for (int64_t r = c < whole_columns ? whole_rows : 0; r < k; ++r)
          packed[r * kPanel + c] = from[r + c * column_stride] * scale;
    }
    for (int64_t r = 0; r < k && columns < kPanel; ++r)
      std::fill(packed + r * kPanel + columns, packed + (r + 1) * kPanel, 0.0f);
  }
}

}  // namespace sardonyx::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {
HWY_EXPORT(Gemm);
HWY_EXPORT(DotRows);
HWY_EXPORT(Pack);

void panel_gemm(const PanelGemm& g) { HWY_DYNAMIC_DISPATCH(Gemm)(g); }

void dot_rows(const float* a, const float* b, int64_t rows, int64_t stride, int64_t n, float scale,
              float* out) {
  HWY_DYNAMIC_DISPATCH(DotRows)(a, b, rows, stride, n, scale, out);
}

void pack_panels(const float* b, int64_t row_stride, int64_t column_stride, int64_t k, int64_t n,
                 float* packed, float scale) {
  HWY_DYNAMIC_DISPATCH(Pack)(b, row_stride, column_stride, k, n, packed, scale);
}
}  // namespace sardonyx::cpu
#endif
