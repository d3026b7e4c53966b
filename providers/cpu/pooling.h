// What the kernels of MaxPool, AveragePool and LpPool share.
#pragma once

#include <vector>

#include "ops/pooling.h"
#include "providers/cpu/support/window.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

enum class Pooling { Max, Average, Lp };

// A validated pooling of `planes` images.
struct PoolShape {
  Pooling kind = Pooling::Max;
  int64_t planes = 0;
  Window window;
  Dims dims;                       // of Y
  bool count_include_pad = false;  // Average
  int64_t p = 2;                   // Lp
  bool column_major = false;       // Max: the order of Indices within a plane
  // How many elements of the padded input (Average with count_include_pad) or of the input itself the window
  // at position `o` of dimension i covers.
  int64_t covered(size_t i, int64_t o) const {
    const int64_t start = o * window.stride[i] - window.pad_begin[i];
    if (count_include_pad)
      return std::clamp<int64_t>(ceil_div(window.in[i] + window.pad_end[i] - start, window.dilation[i]), 0,
                                 window.kernel[i]);
    return valid_range(window.kernel[i], window.dilation[i], start, window.in[i]).size();
  }
};

// Of an X of these dims.
PoolShape pool_shape(const PrepareContext& ctx, const Dims& x, Pooling kind,
                     const PoolAttributes& attributes);
PoolShape max_pool_shape(const PrepareContext& ctx);
PoolShape average_pool_shape(const PrepareContext& ctx);
PoolShape lp_pool_shape(const PrepareContext& ctx);
// A window over the whole input.
PoolShape global_pool_shape(const PrepareContext& ctx, Pooling kind, int64_t p = 2);

// Calls f(offset in the plane) for every element of every window of one plane, windows and their
// elements in row-major order, and done(index) after each window.
template <typename F, typename Done>
void for_each_window(const Window& w, F&& f, Done&& done) {
  const size_t rank = w.rank();
  // Of every position of every dimension: the taps that lie in the input. Windows of one dimension have one
  // row.
  std::vector<std::vector<Range>> taps(rank);
  for (size_t i = 0; i < rank; ++i)
    for (int64_t o = 0; o < w.out[i]; ++o)
      taps[i].push_back(valid_range(w.kernel[i], w.dilation[i], o * w.stride[i] - w.pad_begin[i], w.in[i]));
  const size_t last = rank - 1;
  Dims position(rank, 0), start(rank, 0), counts(last), tap(last, 0);
  const int64_t windows = element_count(w.out);
  for (int64_t index = 0; index < windows; ++index, next_index(position, w.out)) {
    bool any = true;
    for (size_t i = 0; i < rank; ++i) {
      const Range range = taps[i][static_cast<size_t>(position[i])];
      start[i] = position[i] * w.stride[i] + w.offset(i, range.begin);
      any = any && range.size() > 0;
      if (i < last) counts[i] = range.size();
    }
    if (any) {
      const int64_t count = taps[last][static_cast<size_t>(position[last])].size();
      do {  // ends with the taps at zero again
        int64_t row = 0;
        for (size_t i = 0; i < last; ++i) row = row * w.in[i] + start[i] + tap[i] * w.dilation[i];
        row = row * w.in[last] + start[last];
        for (int64_t k = 0; k < count; ++k) f(row + k * w.dilation[last]);
      } while (next_index(tap, counts));
    }
    done(index);
  }
}

}  // namespace sardonyx::cpu
