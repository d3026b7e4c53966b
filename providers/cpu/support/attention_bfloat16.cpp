#include "providers/cpu/support/attention_bfloat16.h"

#include "providers/cpu/support/panel_bfloat16.h"
#include "providers/cpu/support/simd.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

int64_t AttentionBFloat16::key_elements() const {
  return checked_mul(shape.padded(), shape.head, "packed keys");
}

int64_t AttentionBFloat16::value_elements() const {
  return checked_mul(checked_mul(2, pairs(), "packed values"), value_columns(), "packed values");
}

size_t AttentionBFloat16::thread_bytes() const {
  const int64_t row = checked_add(checked_mul(shape.padded(), 6, "attention scores"),
                                  checked_mul(value_columns(), 4, "attention results"), "attention scratch");
  return static_cast<size_t>((checked_mul(shape.block(), row, "attention scratch") + 63) / 64 * 64);
}

size_t AttentionBFloat16::scratch_bytes(int threads) const {
  const int64_t packed =
      checked_mul(checked_mul(shape.batch, shape.kv_heads, "heads"),
                  checked_add(key_elements(), value_elements(), "packed keys"), "packed keys");
  return static_cast<size_t>(
      checked_add(checked_mul(threads, static_cast<int64_t>(thread_bytes()), "attention scratch"),
                  checked_mul(packed, 2, "packed keys"), "attention scratch"));
}

namespace {

// Keys as panels of 32 of them: their elements are pairs already, so that words of 32 bits are transposed.
void pack_keys(const uint16_t* keys, int64_t position, int64_t head, int64_t count, uint16_t* packed) {
  auto* to = reinterpret_cast<uint32_t*>(packed);
  const int64_t words = head / 2;
  for (int64_t first = 0; first < count; first += kPanel, to += words * kPanel) {
    const int64_t columns = std::min(kPanel, count - first);
    for (int64_t c = 0; c < columns; ++c) {
      const uint16_t* key = keys + (first + c) * position;
      for (int64_t w = 0; w < words; ++w) std::memcpy(to + w * kPanel + c, key + 2 * w, sizeof(uint32_t));
    }
    for (int64_t w = 0; w < words && columns < kPanel; ++w)
      std::fill(to + w * kPanel + columns, to + (w + 1) * kPanel, 0u);
  }
}

// Values as panels of 32 columns: pairs of neighbouring rows, element by element.
void pack_values(const uint16_t* values, int64_t position, int64_t count, int64_t size, uint16_t* packed) {
  for (int64_t first = 0; first < size; first += kPanel) {
    const int64_t columns = std::min(kPanel, size - first);
    for (int64_t r = 0; r < count; r += 2, packed += 2 * kPanel) {
      const uint16_t *even = values + r * position + first, *odd = even + position;
      if (columns < kPanel) std::fill_n(packed, 2 * kPanel, uint16_t{0});
      if (r + 1 < count)
        for (int64_t c = 0; c < columns; ++c) packed[2 * c] = even[c], packed[2 * c + 1] = odd[c];
      else
        for (int64_t c = 0; c < columns; ++c) packed[2 * c] = even[c], packed[2 * c + 1] = 0;
    }
  }
}

struct Thread {
  float* scores;            // [block, padded]
  float* results;           // [block, value_columns]
  uint16_t* probabilities;  // [block, padded]
};

// results = probabilities * values over keys [lo, hi), and zero times the neighbours that make these pairs.
void multiply_values(const AttentionProblem<float>& p, const AttentionBFloat16& cut, const Thread& t,
                     int64_t rows, int64_t lo, int64_t hi, const uint16_t* packed) {
  const int64_t ld = p.padded(), columns = cut.value_columns(), begin = lo / 2 * 2, end = pair_pad(hi);
  for (int64_t r = 0; r < rows; ++r) {
    uint16_t* to = t.probabilities + r * ld;
    to[begin] = to[std::max(begin, end - 1)] = 0;
    simd::float_to_bfloat16(t.scores + r * ld + lo, to + lo, hi - lo);
  }
  for (int64_t c = 0; c < columns; c += kPanel)
    panel_bfloat16({.m = rows,
                    .k = end - begin,
                    .a = t.probabilities + begin,
                    .lda = ld,
                    .b = packed + (c / kPanel * cut.pairs() + begin / 2) * 2 * kPanel,
                    .c = t.results + c,
                    .ldc = columns});
}

}  // namespace

void attend_bfloat16(const AttentionProblem<float>& p, const BFloat16Operands& o, int threads,
                     std::byte* scratch) {
  const AttentionBFloat16 cut(p);
  const int64_t sets = p.row_sets(), rows = p.rows(), ld = p.padded(), heads = p.batch * p.kv_heads;
  if (sets == 0 || rows == 0) return;
  auto* keys = reinterpret_cast<uint16_t*>(scratch + static_cast<size_t>(threads) * cut.thread_bytes());
  uint16_t* values = keys + heads * cut.key_elements();
  parallel_for(heads, grain_for(static_cast<double>(p.kv_len * (p.head + p.v_head)) * 0.4 + 50),
               [&](int64_t begin, int64_t end) {
                 for (int64_t item = begin; item < end; ++item) {
                   const int64_t b = item / p.kv_heads, h = item % p.kv_heads;
                   pack_keys(o.k + b * p.k_at.batch + h * p.k_at.head, p.k_at.position, p.head, p.kv_len,
                             keys + item * cut.key_elements());
                   pack_values(o.v + b * p.v_at.batch + h * p.v_at.head, p.v_at.position, p.kv_len, p.v_head,
                               values + item * cut.value_elements());
                 }
               });
  const int64_t size = p.block(), blocks = (rows + size - 1) / size, items = sets * blocks;
  const bool by_head = p.rows_are_heads();
  const auto work = [&](int64_t item, const Thread& t) {
    const int64_t set = item / blocks, part = item % blocks, r0 = rows * part / blocks;
    const int64_t per_batch = by_head ? p.kv_heads : p.q_heads, b = set / per_batch;
    const int64_t head = set % per_batch * (by_head ? p.group() : 1);
    const AttentionBlock<float> block{b, by_head ? head + r0 : head, by_head ? 0 : r0,
                                      rows * (part + 1) / blocks - r0, by_head};
    int64_t lo = p.kv_len, hi = 0;
    for (int64_t r = 0; r < block.n; ++r) {
      int64_t from, to;
      p.range(b, block.query(r), from, to);
      if (from < to) lo = std::min(lo, from), hi = std::max(hi, to);
    }
    lo = std::min(lo, hi);
    const int64_t kv_head = block.head / p.group(), kv = b * p.kv_heads + kv_head;
    const uint16_t* q = o.q + b * p.q_at.batch + block.head * p.q_at.head + block.first * p.q_at.position;
    for (int64_t at = lo / kPanel * kPanel; at < hi; at += kPanel)
      panel_bfloat16({.m = block.n,
                      .k = p.head,
                      .a = q,
                      .lda = by_head ? p.q_at.head : p.q_at.position,
                      .b = keys + kv * cut.key_elements() + at * p.head,
                      .c = t.scores + at,
                      .ldc = ld});
    for (int64_t r = 0; r < block.n; ++r) {
      scale_row(t.scores + r * ld + lo, hi - lo, p.scale);
      attention_row(p, b, block.head_of(r), block.query(r), lo, hi, t.scores + r * ld);
    }
    multiply_values(p, cut, t, block.n, lo, hi, values + kv * cut.value_elements());
    uint16_t* y = o.y + b * p.y_at.batch + block.head * p.y_at.head + block.first * p.y_at.position;
    for (int64_t r = 0; r < block.n; ++r)
      simd::float_to_bfloat16(t.results + r * cut.value_columns(),
                              y + r * (by_head ? p.y_at.head : p.y_at.position), p.v_head);
  };
  const int64_t workers =
      std::min<int64_t>({static_cast<int64_t>(threads), items,
                         static_cast<int64_t>(p.item_ns() * static_cast<double>(items) / 40000) + 1});
  parallel_for(workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t w = begin; w < end; ++w) {
      std::byte* memory = scratch + static_cast<size_t>(w) * cut.thread_bytes();
      auto* scores = reinterpret_cast<float*>(memory);
      float* results = scores + size * ld;
      const Thread t{scores, results, reinterpret_cast<uint16_t*>(results + size * cut.value_columns())};
      for (int64_t item = items * w / workers; item < items * (w + 1) / workers; ++item) work(item, t);
    }
  });
}

}  // namespace sardonyx::cpu
