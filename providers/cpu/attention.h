// The core of scaled dot-product attention, shared by Attention and FlexAttention.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "graph/shape.h"
#include "providers/cpu/support/panel_gemm.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/simd_rows.h"
#include "providers/cpu/support/simd_softmax.h"
#include "sardonyx/small_types.h"

namespace sardonyx::cpu {

// Strides in elements of a tensor seen as [batch, head, position, element], the last one being 1.
struct HeadStrides {
  int64_t batch, head, position;
};

// The sizes of a problem, and how it is cut into work: known when a kernel is prepared.
struct AttentionShape {
  int64_t batch = 0, q_heads = 0, kv_heads = 0, q_len = 0, kv_len = 0, head = 0, v_head = 0;

  int64_t group() const { return kv_heads == 0 ? 1 : q_heads / kv_heads; }
  // With one query for each head, the heads that share keys are taken as the rows of one block.
  bool rows_are_heads() const { return q_len == 1 && group() > 1; }
  int64_t rows() const { return rows_are_heads() ? group() : q_len; }
  int64_t row_sets() const { return batch * (rows_are_heads() ? kv_heads : q_heads); }
  int64_t padded() const { return panel_pad(kv_len); }
  int64_t block() const {
    return std::clamp<int64_t>(16384 / std::max<int64_t>(padded(), 1) / 12 * 12, 12, 48);
  }
  bool packs_keys() const { return q_len * group() >= 16; }
  int64_t value_tail() const { return v_head % kPanel; }
  // Scratch of the f32 kernel, in floats: a tile for each thread, packed keys, the last columns of values.
  int64_t tile_floats() const { return checked_mul(block(), padded(), "attention scores"); }
  int64_t key_floats() const {
    return packs_keys()
               ? checked_mul(batch * kv_heads, checked_mul(padded(), head, "packed keys"), "packed keys")
               : 0;
  }
  int64_t value_floats() const {
    return value_tail()
               ? checked_mul(batch * kv_heads, checked_mul(kv_len, kPanel, "packed values"), "packed values")
               : 0;
  }
  int64_t scratch_floats(int threads) const {
    return checked_add(checked_mul(threads, tile_floats(), "attention scores"),
                       checked_add(key_floats(), value_floats(), "packed keys"), "packed keys");
  }
  double item_ns() const {
    return static_cast<double>(block()) * static_cast<double>(kv_len) * static_cast<double>(head + v_head) /
               40 +
           50;
  }
};

enum class QkOutput { Scores, Capped, Biased, Probabilities };

template <typename T>
struct AttentionProblem : AttentionShape {
  const T *q, *k, *v;
  T* y;
  HeadStrides q_at, k_at, v_at, y_at;
  T scale = 1, softcap = 0;
  // At most one of bias and allow; `mask_len` columns, those after it masked.
  const T* bias = nullptr;
  const uint8_t* allow = nullptr;
  HeadStrides mask_at{};
  int64_t mask_len = std::numeric_limits<int64_t>::max();
  bool causal = false;
  int64_t left = -1, right = -1;       // window; -1: unbounded
  int64_t past = 0;                    // keys before the first query
  const int64_t* valid = nullptr;      // keys of each batch that are no padding
  bool from_valid = false;             // `valid` also says where the queries stand
  bool empty_is_zero = true;           // a row without any key gives zeros, else NaN
  DType precision = DType::Undefined;  // Float16 or BFloat16: scores and probabilities are rounded to it
  T* qk = nullptr;                     // [batch, q_heads, q_len, kv_len]
  QkOutput qk_output = QkOutput::Scores;

  // The keys [lo, hi) that query i of a batch may see, masks aside.
  void range(int64_t b, int64_t i, int64_t& lo, int64_t& hi) const {
    const int64_t at = i + (from_valid ? valid[b] - q_len : past);
    lo = 0;
    hi = std::min(kv_len, mask_len);
    if (valid) hi = std::min(hi, valid[b]);
    if (causal) hi = std::min(hi, at + 1);
    if (right >= 0) hi = std::min(hi, at + right + 1);
    if (left >= 0) lo = std::max<int64_t>(0, at - left);
    if (hi <= lo) lo = hi = 0;
  }
};

template <typename T>
void round_row(T* x, int64_t n, DType precision) {
  if (precision == DType::Float16)
    for (int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(Half(x[i]));
  else if (precision == DType::BFloat16)
    for (int64_t i = 0; i < n; ++i) x[i] = static_cast<float>(BFloat16(x[i]));
}

// Row operations for f64; those for f32 are vectorised.
inline void softcap_row(double* x, int64_t n, double cap) {
  for (int64_t i = 0; i < n; ++i) x[i] = cap * std::tanh(x[i] / cap);
}
inline void add_row(double* x, const double* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] += y[i];
}
inline void mask_row(double* x, const uint8_t* allow, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    if (!allow[i]) x[i] = -INFINITY;
}
inline void softmax_row(float* x, int64_t n, bool empty_is_zero) {
  simd_softmax_rows(x, x, 1, n, false, empty_is_zero);
}
inline void softmax_row(double* x, int64_t n, bool empty_is_zero) {
  double max = -INFINITY, sum = 0;
  for (int64_t i = 0; i < n; ++i) max = std::max(max, x[i]);
  if (empty_is_zero && max == -INFINITY && std::none_of(x, x + n, [](double v) { return std::isnan(v); }))
    return std::fill(x, x + n, 0.0);
  for (int64_t i = 0; i < n; ++i) sum += x[i] = std::exp(x[i] - max);
  for (int64_t i = 0; i < n; ++i) x[i] /= sum;
}

// One block of rows: where it lies in every tensor.
template <typename T>
struct AttentionBlock {
  int64_t b, head, first, n;  // batch, first head, first query, rows
  bool rows_are_heads;
  int64_t query(int64_t r) const { return rows_are_heads ? first : first + r; }
  int64_t head_of(int64_t r) const { return rows_are_heads ? head + r : head; }
};

// Scores of rows against keys [lo, hi), scaled. keys: packed and scaled panels of this batch and head, or
// null.
template <typename T>
void attention_scores(const AttentionProblem<T>& p, const AttentionBlock<T>& block, int64_t lo, int64_t hi,
                      const T* keys, T* tile, int64_t ld) {
  const int64_t kv_head = block.head / p.group();
  const T* q = p.q + block.b * p.q_at.batch + block.head * p.q_at.head + block.first * p.q_at.position;
  const T* k = p.k + block.b * p.k_at.batch + kv_head * p.k_at.head;
  const int64_t q_step = block.rows_are_heads ? p.q_at.head : p.q_at.position;
  if constexpr (std::is_same_v<T, float>) {
    if (keys) {
      for (int64_t at = lo / kPanel * kPanel; at < hi; at += kPanel)
        panel_gemm({.m = block.n,
                    .n = kPanel,
                    .k = p.head,
                    .a = q,
                    .lda = q_step,
                    .b = keys + at * p.head,
                    .ldb = kPanel,
                    .c = tile + at,
                    .ldc = ld});
    } else {
      for (int64_t r = 0; r < block.n; ++r)
        dot_rows(q + r * q_step, k + lo * p.k_at.position, hi - lo, p.k_at.position, p.head, p.scale,
                 tile + r * ld + lo);
    }
  } else {
    for (int64_t r = 0; r < block.n; ++r)
      for (int64_t j = lo; j < hi; ++j) {
        T sum = 0;
        for (int64_t e = 0; e < p.head; ++e) sum += q[r * q_step + e] * k[j * p.k_at.position + e];
        tile[r * ld + j] = sum * p.scale;
      }
  }
}

// y = probabilities * values, over keys [lo, hi). tail: the last columns of the values, packed.
template <typename T>
void attention_values(const AttentionProblem<T>& p, const AttentionBlock<T>& block, int64_t lo, int64_t hi,
                      const T* tail, const T* tile, int64_t ld) {
  const int64_t kv_head = block.head / p.group();
  const T* v = p.v + block.b * p.v_at.batch + kv_head * p.v_at.head + lo * p.v_at.position;
  T* y = p.y + block.b * p.y_at.batch + block.head * p.y_at.head + block.first * p.y_at.position;
  const int64_t y_step = block.rows_are_heads ? p.y_at.head : p.y_at.position;
  if constexpr (std::is_same_v<T, float>) {
    for (int64_t at = 0; at < p.v_head; at += kPanel) {
      const bool whole = at + kPanel <= p.v_head;
      panel_gemm({.m = block.n,
                  .n = std::min(kPanel, p.v_head - at),
                  .k = hi - lo,
                  .a = tile + lo,
                  .lda = ld,
                  .b = whole ? v + at : tail + lo * kPanel,
                  .ldb = whole ? p.v_at.position : kPanel,
                  .c = y + at,
                  .ldc = y_step});
    }
  } else {
    for (int64_t r = 0; r < block.n; ++r) {
      T* out = y + r * y_step;
      std::fill_n(out, p.v_head, T(0));
      for (int64_t j = lo; j < hi; ++j)
        for (int64_t e = 0; e < p.v_head; ++e) out[e] += tile[r * ld + j] * v[(j - lo) * p.v_at.position + e];
    }
  }
}

// From scores to probabilities, in place, for the row of query i and head h over keys [lo, hi).
template <typename T>
void attention_row(const AttentionProblem<T>& p, int64_t b, int64_t h, int64_t i, int64_t lo, int64_t hi,
                   T* s) {
  constexpr T kLow = -std::numeric_limits<T>::infinity();
  int64_t from, to;
  p.range(b, i, from, to);
  if (from >= to) from = to = lo;
  T* qk = p.qk ? p.qk + ((b * p.q_heads + h) * p.q_len + i) * p.kv_len : nullptr;
  const auto show = [&](QkOutput stage) {
    if (qk && p.qk_output == stage) std::copy(s, s + p.kv_len, qk);
  };
  show(QkOutput::Scores);
  if (p.softcap > 0) softcap_row(s + lo, hi - lo, p.softcap);
  show(QkOutput::Capped);
  const int64_t mask = b * p.mask_at.batch + h * p.mask_at.head + i * p.mask_at.position;
  bool any = from < to;
  if (p.bias) {
    add_row(s + from, p.bias + mask + from, to - from);
    any = any && std::any_of(p.bias + mask + from, p.bias + mask + to, [](T v) { return v != kLow; });
  } else if (p.allow) {
    mask_row(s + from, p.allow + mask + from, to - from);
    any = any && std::any_of(p.allow + mask + from, p.allow + mask + to, [](uint8_t v) { return v != 0; });
  }
  if (qk && p.qk_output == QkOutput::Biased) {
    std::fill(s + lo, s + from, kLow);
    std::fill(s + to, s + hi, kLow);
    show(QkOutput::Biased);
  }
  std::fill(s + lo, s + from, T(0));
  std::fill(s + to, s + hi, T(0));
  if (!any && p.empty_is_zero) {
    std::fill(s + from, s + to, T(0));
  } else {
    round_row(s + from, to - from, p.precision);
    softmax_row(s + from, to - from, p.empty_is_zero);
    round_row(s + from, to - from, p.precision);
  }
  show(QkOutput::Probabilities);
}

// Computes a whole problem. `scratch` holds scratch_floats(threads) floats for f32; for f64 a tile is
// allocated by each thread.
template <typename T>
void attend(const AttentionProblem<T>& p, int threads, T* scratch) {
  const int64_t sets = p.row_sets(), rows = p.rows(), ld = p.padded();
  if (sets == 0 || rows == 0) return;
  T *keys = nullptr, *tails = nullptr;
  if constexpr (std::is_same_v<T, float>) {
    if (p.packs_keys()) keys = scratch + threads * p.tile_floats();
    if (p.value_tail()) tails = scratch + threads * p.tile_floats() + p.key_floats();
    if (keys || tails) {
      parallel_for(p.batch * p.kv_heads, grain_for(static_cast<double>(p.kv_len * p.head) * 0.5 + 50),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t item = begin; item < end; ++item) {
                       const int64_t b = item / p.kv_heads, h = item % p.kv_heads;
                       if (keys)
                         pack_panels(p.k + b * p.k_at.batch + h * p.k_at.head, 1, p.k_at.position, p.head,
                                     p.kv_len, keys + item * ld * p.head, p.scale);
                       if (tails)
                         pack_panels(p.v + b * p.v_at.batch + h * p.v_at.head + p.v_head - p.value_tail(),
                                     p.v_at.position, 1, p.kv_len, p.value_tail(),
                                     tails + item * p.kv_len * kPanel);
                     }
                   });
    }
  }
  const int64_t size = p.block(), blocks = (rows + size - 1) / size, items = sets * blocks;
  const bool heads = p.rows_are_heads();
  const auto work = [&](int64_t begin, int64_t end, T* tile) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t set = item / blocks, part = item % blocks, r0 = rows * part / blocks;
      const int64_t per_batch = heads ? p.kv_heads : p.q_heads, b = set / per_batch;
      const int64_t head = set % per_batch * (heads ? p.group() : 1);
      const AttentionBlock<T> block{b, heads ? head + r0 : head, heads ? 0 : r0,
                                    rows * (part + 1) / blocks - r0, heads};
      int64_t lo = p.qk ? 0 : p.kv_len, hi = p.qk ? p.kv_len : 0;
      for (int64_t r = 0; r < block.n && !p.qk; ++r) {
        int64_t from, to;
        p.range(b, block.query(r), from, to);
        if (from < to) lo = std::min(lo, from), hi = std::max(hi, to);
      }
      lo = std::min(lo, hi);
      const int64_t kv = b * p.kv_heads + block.head / p.group();
      attention_scores(p, block, lo, hi, keys ? keys + kv * ld * p.head : nullptr, tile, ld);
      for (int64_t r = 0; r < block.n; ++r)
        attention_row(p, b, block.head_of(r), block.query(r), lo, hi, tile + r * ld);
      attention_values(p, block, lo, hi, tails ? tails + kv * p.kv_len * kPanel : nullptr, tile, ld);
    }
  };
  const int64_t workers =
      std::min<int64_t>({static_cast<int64_t>(threads), items,
                         static_cast<int64_t>(p.item_ns() * static_cast<double>(items) / 20000) + 1});
  if constexpr (std::is_same_v<T, float>) {
    parallel_for(workers, 1, [&](int64_t begin, int64_t end) {
      for (int64_t w = begin; w < end; ++w)
        work(items * w / workers, items * (w + 1) / workers, scratch + w * p.tile_floats());
    });
  } else {
    parallel_for(items, grain_for(p.item_ns() * 20), [&](int64_t begin, int64_t end) {
      std::vector<T> tile(static_cast<size_t>(p.tile_floats()));
      work(begin, end, tile.data());
    });
  }
}

}  // namespace sardonyx::cpu
