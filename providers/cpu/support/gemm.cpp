#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/support/gemm.cpp"
#include <hwy/foreach_target.h>  // compiles what follows once for each instruction set
#include <hwy/highway.h>

#include "providers/cpu/support/gemm.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "providers/cpu/support/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kDepth = 512;  // rows of b that are packed at a time

template <typename T, class V>
HWY_INLINE V multiply_add(V a, V b, V c) {
  if constexpr (std::is_floating_point_v<T>)
    return hn::MulAdd(a, b, c);
  else
    return hn::Add(hn::Mul(a, b), c);
}

// A tile of kRows rows and three vectors: c (+)= a * panel, where the panel holds depth rows of three
// vectors.
template <typename T, int kRows>
void tile(int64_t depth, MatrixView<T> a, const T* HWY_RESTRICT panel, T* c, int64_t ldc, bool accumulate) {
  const hn::ScalableTag<T> d;
  const size_t lanes = hn::Lanes(d);
  using V = hn::Vec<hn::ScalableTag<T>>;
  const T *r0 = a.data, *r1 = a.data + (kRows > 1 ? 1 : 0) * a.row,
          *r2 = a.data + (kRows > 2 ? 2 : 0) * a.row, *r3 = a.data + (kRows > 3 ? 3 : 0) * a.row;
  const V zero = hn::Zero(d);
  V c00 = zero, c01 = zero, c02 = zero, c10 = zero, c11 = zero, c12 = zero;
  V c20 = zero, c21 = zero, c22 = zero, c30 = zero, c31 = zero, c32 = zero;
  if (accumulate) {
    c00 = hn::LoadU(d, c), c01 = hn::LoadU(d, c + lanes), c02 = hn::LoadU(d, c + 2 * lanes);
    if (kRows > 1)
      c10 = hn::LoadU(d, c + ldc), c11 = hn::LoadU(d, c + ldc + lanes),
      c12 = hn::LoadU(d, c + ldc + 2 * lanes);
    if (kRows > 2)
      c20 = hn::LoadU(d, c + 2 * ldc), c21 = hn::LoadU(d, c + 2 * ldc + lanes),
      c22 = hn::LoadU(d, c + 2 * ldc + 2 * lanes);
    if (kRows > 3)
      c30 = hn::LoadU(d, c + 3 * ldc), c31 = hn::LoadU(d, c + 3 * ldc + lanes),
      c32 = hn::LoadU(d, c + 3 * ldc + 2 * lanes);
  }
  for (int64_t l = 0; l < depth; ++l, panel += 3 * lanes) {
    const V b0 = hn::LoadU(d, panel), b1 = hn::LoadU(d, panel + lanes), b2 = hn::LoadU(d, panel + 2 * lanes);
    const int64_t at = l * a.column;
    V x = hn::Set(d, r0[at]);
    c00 = multiply_add<T>(x, b0, c00), c01 = multiply_add<T>(x, b1, c01), c02 = multiply_add<T>(x, b2, c02);
    if (kRows > 1) {
      x = hn::Set(d, r1[at]);
      c10 = multiply_add<T>(x, b0, c10), c11 = multiply_add<T>(x, b1, c11), c12 = multiply_add<T>(x, b2, c12);
    }
    if (kRows > 2) {
      x = hn::Set(d, r2[at]);
      c20 = multiply_add<T>(x, b0, c20), c21 = multiply_add<T>(x, b1, c21), c22 = multiply_add<T>(x, b2, c22);
    }
    if (kRows > 3) {
      x = hn::Set(d, r3[at]);
      c30 = multiply_add<T>(x, b0, c30), c31 = multiply_add<T>(x, b1, c31), c32 = multiply_add<T>(x, b2, c32);
    }
  }
  hn::StoreU(c00, d, c), hn::StoreU(c01, d, c + lanes), hn::StoreU(c02, d, c + 2 * lanes);
  if (kRows > 1)
    hn::StoreU(c10, d, c + ldc), hn::StoreU(c11, d, c + ldc + lanes), hn::StoreU(c12, d, c + ldc + 2 * lanes);
  if (kRows > 2)
    hn::StoreU(c20, d, c + 2 * ldc), hn::StoreU(c21, d, c + 2 * ldc + lanes),
        hn::StoreU(c22, d, c + 2 * ldc + 2 * lanes);
  if (kRows > 3)
    hn::StoreU(c30, d, c + 3 * ldc), hn::StoreU(c31, d, c + 3 * ldc + lanes),
        hn::StoreU(c32, d, c + 3 * ldc + 2 * lanes);
}

template <typename T>
void tile_of(int64_t rows, int64_t depth, MatrixView<T> a, const T* panel, T* c, int64_t ldc,
             bool accumulate) {
  switch (rows) {
    case 1:
      return tile<T, 1>(depth, a, panel, c, ldc, accumulate);
    case 2:
      return tile<T, 2>(depth, a, panel, c, ldc, accumulate);
    case 3:
      return tile<T, 3>(depth, a, panel, c, ldc, accumulate);
    default:
      return tile<T, 4>(depth, a, panel, c, ldc, accumulate);
  }
}

template <typename T>
void Multiply(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc,
              T* panel) {
  const int64_t width = 3 * static_cast<int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  T edge[4 * 3 * HWY_MAX_BYTES / sizeof(T)] = {};
  for (int64_t j = 0; j < n; j += width) {
    const int64_t columns = std::min(width, n - j);
    for (int64_t l = 0; l < k; l += kDepth) {
      const int64_t depth = std::min(kDepth, k - l);
      for (int64_t r = 0; r < depth; ++r) {
        const T* from = b.data + (l + r) * b.row + j * b.column;
        T* to = panel + r * width;
        if (b.column == 1)
          std::copy(from, from + columns, to);
        else
          for (int64_t q = 0; q < columns; ++q) to[q] = from[q * b.column];
        std::fill(to + columns, to + width, T{});
      }
      for (int64_t i = 0; i < m; i += 4) {
        const int64_t rows = std::min<int64_t>(4, m - i);
        const MatrixView<T> part = {a.data + i * a.row + l * a.column, a.row, a.column};
        T* out = c + i * ldc + j;
        if (columns == width) {
          tile_of(rows, depth, part, panel, out, ldc, l > 0);
          continue;
        }
        if (l > 0)
          for (int64_t q = 0; q < rows; ++q)
            std::copy(out + q * ldc, out + q * ldc + columns, edge + q * width);
        tile_of(rows, depth, part, panel, edge, width, l > 0);
        for (int64_t q = 0; q < rows; ++q)
          std::copy(edge + q * width, edge + q * width + columns, out + q * ldc);
      }
    }
  }
}

void MultiplyF32(int64_t m, int64_t n, int64_t k, MatrixView<float> a, MatrixView<float> b, float* c,
                 int64_t ldc, float* panel) {
  Multiply(m, n, k, a, b, c, ldc, panel);
}
void MultiplyF64(int64_t m, int64_t n, int64_t k, MatrixView<double> a, MatrixView<double> b, double* c,
                 int64_t ldc, double* panel) {
  Multiply(m, n, k, a, b, c, ldc, panel);
}
void MultiplyU32(int64_t m, int64_t n, int64_t k, MatrixView<uint32_t> a, MatrixView<uint32_t> b, uint32_t* c,
                 int64_t ldc, uint32_t* panel) {
  Multiply(m, n, k, a, b, c, ldc, panel);
}
void MultiplyU64(int64_t m, int64_t n, int64_t k, MatrixView<uint64_t> a, MatrixView<uint64_t> b, uint64_t* c,
                 int64_t ldc, uint64_t* panel) {
  Multiply(m, n, k, a, b, c, ldc, panel);
}

}  // namespace HWY_NAMESPACE
}  // namespace sardonyx::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {

namespace {

HWY_EXPORT(MultiplyF32);
HWY_EXPORT(MultiplyF64);
HWY_EXPORT(MultiplyU32);
HWY_EXPORT(MultiplyU64);

constexpr int64_t kMaxWidth = 3 * 64;  // in bytes: three vectors of the widest target
constexpr int64_t kDepth = 512;

}  // namespace

template <typename T>
void gemm_serial(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc) {
  if (k == 0) {
    for (int64_t i = 0; i < m; ++i) std::fill(c + i * ldc, c + i * ldc + n, T{});
    return;
  }
  // The panel of a small product stays on the stack.
  constexpr int64_t kStack = 64;
  const int64_t depth = std::min(k, kDepth);
  alignas(64) T stack[kStack * kMaxWidth / sizeof(T)];
  std::vector<T> heap(depth > kStack ? static_cast<size_t>(depth * kMaxWidth) / sizeof(T) : 0);
  T* panel = depth > kStack ? heap.data() : stack;
  if constexpr (std::is_same_v<T, float>)
    HWY_DYNAMIC_DISPATCH(MultiplyF32)(m, n, k, a, b, c, ldc, panel);
  else if constexpr (std::is_same_v<T, double>)
    HWY_DYNAMIC_DISPATCH(MultiplyF64)(m, n, k, a, b, c, ldc, panel);
  else if constexpr (std::is_same_v<T, uint32_t>)
    HWY_DYNAMIC_DISPATCH(MultiplyU32)(m, n, k, a, b, c, ldc, panel);
  else
    HWY_DYNAMIC_DISPATCH(MultiplyU64)(m, n, k, a, b, c, ldc, panel);
}

template <typename T>
void gemm(int64_t m, int64_t n, int64_t k, MatrixView<T> a, MatrixView<T> b, T* c, int64_t ldc) {
  // Blocks are large enough that packing b for each of them is a small part of the work.
  constexpr int64_t kRows = 96, kColumns = 192;
  const int64_t down = (m + kRows - 1) / kRows, across = (n + kColumns - 1) / kColumns;
  const double ns =
      0.1 * static_cast<double>(std::min(m, kRows) * std::min(n, kColumns)) * static_cast<double>(k + 1);
  parallel_for(down * across, grain_for(ns + 1), [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t i = block % down * kRows, j = block / down * kColumns;
      gemm_serial<T>(std::min(kRows, m - i), std::min(kColumns, n - j), k,
                     {a.data + i * a.row, a.row, a.column}, {b.data + j * b.column, b.row, b.column},
                     c + i * ldc + j, ldc);
    }
  });
}

#define SARDONYX_GEMM(T)                                                                              \
  template void gemm_serial<T>(int64_t, int64_t, int64_t, MatrixView<T>, MatrixView<T>, T*, int64_t); \
  template void gemm<T>(int64_t, int64_t, int64_t, MatrixView<T>, MatrixView<T>, T*, int64_t);
SARDONYX_GEMM(float)
SARDONYX_GEMM(double)
SARDONYX_GEMM(uint32_t)
SARDONYX_GEMM(uint64_t)
#undef SARDONYX_GEMM

}  // namespace sardonyx::cpu
#endif
