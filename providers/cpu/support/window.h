// Sliding windows over the spatial dimensions of [N, C, D1, ..., Dn], shared by convolution and pooling.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "graph/shape.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

// The grid of windows: position `o` and tap `k` of dimension i meet element o * stride + k * dilation -
// pad_begin of the input, if that lies in [0, in). A transposed convolution is the same grid read
// backwards: its input has the size `out`, its output the size `in`.
struct Window {
  Dims in, out, kernel, stride, dilation, pad_begin, pad_end;
  size_t rank() const { return in.size(); }
  // Elements that one window spans in dimension i.
  int64_t extent(size_t i) const { return (kernel[i] - 1) * dilation[i] + 1; }
  int64_t offset(size_t i, int64_t tap) const { return tap * dilation[i] - pad_begin[i]; }
};

// The attributes as a node has them; absent or empty lists stand for the defaults.
struct WindowAttributes {
  std::string auto_pad = "NOTSET";
  std::optional<std::vector<int64_t>> strides, dilations, pads;
  bool ceil_mode = false;
};

// The list, or `size` times `fallback` where it is absent or empty. Fails on another length and on values
// below `least`.
Dims spatial_list(const PrepareContext& ctx, const std::optional<std::vector<int64_t>>& list,
                  const char* name, size_t size, int64_t fallback, int64_t least);

// The grid over `in` with the given kernel. auto_pad other than NOTSET decides the padding, whatever `pads`
// says. Fails when a window is larger than the padded input; an empty input gives an empty output.
Window make_window(const PrepareContext& ctx, Dims in, Dims kernel, const WindowAttributes& attributes);

// The grid of a transposed convolution from `small` (its input) to its output.
Window make_transposed_window(const PrepareContext& ctx, Dims small, Dims kernel,
                              const WindowAttributes& attributes,
                              const std::optional<std::vector<int64_t>>& output_padding,
                              const std::optional<std::vector<int64_t>>& output_shape);

struct Range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

inline int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b > 0 ? 1 : 0); }   // b > 0
inline int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }  // b > 0

// The indices i in [0, count) with 0 <= i * step + offset < limit; empty as {0, 0}.
inline Range valid_range(int64_t count, int64_t step, int64_t offset, int64_t limit) {
  const int64_t begin = std::max<int64_t>(0, ceil_div(-offset, step));
  const int64_t end = std::min(count, floor_div(limit - 1 - offset, step) + 1);
  return begin < end ? Range{begin, end} : Range{0, 0};
}

// For one tap, every run of neighbouring positions: f(small, big, count) where `small` is the offset in the
// plane of window positions, `big` the offset in the input plane; the first advances by 1, the second by the
// innermost stride.
template <typename F>
void for_each_row(const Window& w, const Dims& tap, F&& f) {
  constexpr size_t kMaxRank = 16;
  const size_t rank = w.rank();
  Range range[kMaxRank];
  int64_t at[kMaxRank];
  for (size_t i = 0; i < rank; ++i) {
    range[i] = valid_range(w.out[i], w.stride[i], w.offset(i, tap[i]), w.in[i]);
    if (range[i].size() == 0) return;
    at[i] = range[i].begin;
  }
  const size_t last = rank - 1;
  while (true) {
    int64_t small = 0, big = 0;
    for (size_t i = 0; i < rank; ++i) {
      small = small * w.out[i] + at[i];
      big = big * w.in[i] + at[i] * w.stride[i] + w.offset(i, tap[i]);
    }
    f(small, big, range[last].size());
    size_t i = last;
    while (i-- > 0) {
      if (++at[i] < range[i].end) break;
      at[i] = range[i].begin;
    }
    if (i == static_cast<size_t>(-1)) return;
  }
}

// Advances a multi-index through `dims` in row-major order; false when it wraps around to zero.
inline bool next_index(Dims& index, const Dims& dims) {
  for (size_t i = dims.size(); i-- > 0;) {
    if (++index[i] < dims[i]) return true;
    index[i] = 0;
  }
  return false;
}

}  // namespace sardonyx::cpu
