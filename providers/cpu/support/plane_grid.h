// Sliding windows over planes of one or two dimensions, laid out so that vectors run across rows.
#pragma once

#include <optional>
#include <vector>

#include "providers/cpu/support/window.h"

namespace sardonyx::cpu {

// A block of output rows is computed from a padded copy of the input rows it reads. The copy is split by row
// and column modulo the strides into sub-planes whose rows are `row` elements apart, as are those of the
// result. The element that tap (y, x) meets at flat position f of the result then lies at offset(y, x) + f,
// for every f: a loop over f needs no regard to the ends of rows. The last elements of each row of the result
// mean nothing.
struct PlaneGrid {
  int64_t ih = 1, iw = 1, oh = 1, ow = 1, kh = 1, kw = 1, sh = 1, sw = 1, dh = 1, dw = 1, ph = 0, pw = 0;
  int64_t row = 0, sub = 0, block_rows = 0;
  Range inside;       // where a padded line of sw * row elements holds input columns
  Range whole, some;  // the positions of which every phase, or at least one, is an input column

  // Elements that may be read or written past the last one that counts.
  static constexpr int64_t kSlack = 256;

  // Of the last one or two dimensions of a window; nothing when padding or strides are out of proportion to
  // the input.
  static std::optional<PlaneGrid> make(const Window& w) {
    PlaneGrid g;
    const size_t last = w.rank() - 1;
    g.iw = w.in[last], g.ow = w.out[last], g.kw = w.kernel[last], g.sw = w.stride[last],
    g.dw = w.dilation[last], g.pw = w.pad_begin[last];
    if (last > 0) {
      const size_t i = last - 1;
      g.ih = w.in[i], g.oh = w.out[i], g.kh = w.kernel[i], g.sh = w.stride[i], g.dh = w.dilation[i],
      g.ph = w.pad_begin[i];
    }
    const auto sane = [](int64_t in, int64_t out, int64_t stride, int64_t reach) {
      return stride <= 64 && out <= 4 * in + 64 && reach <= 4 * in + 1024;
    };
    if (!sane(g.iw, g.ow, g.sw, (g.kw - 1) * g.dw) || !sane(g.ih, g.oh, g.sh, (g.kh - 1) * g.dh))
      return std::nullopt;
    g.row = g.ow + (g.kw - 1) * g.dw / g.sw;
    g.inside = valid_range(g.sw * g.row, 1, -g.pw, g.iw);
    g.some = {g.inside.begin / g.sw, ceil_div(g.inside.end, g.sw)};
    g.whole.begin = ceil_div(g.inside.begin, g.sw);
    g.whole.end = std::max(g.whole.begin, g.inside.end / g.sw);
    const int64_t extra = (g.kh - 1) * g.dh / g.sh;
    // What a block touches stays in the first-level cache where that is not too few rows.
    constexpr int64_t kBlock = 8 * 1024;
    const int64_t phases = g.sh * g.sw;
    g.block_rows =
        std::clamp<int64_t>(kBlock / (phases * g.row) - extra, std::min<int64_t>(g.oh, extra + 4), g.oh);
    g.sub = (g.block_rows + extra) * g.row;
    return g;
  }

  int64_t blocks() const { return (oh + block_rows - 1) / block_rows; }
  int64_t input_rows(int64_t rows) const { return (rows - 1) * sh + (kh - 1) * dh + 1; }
  int64_t offset(int64_t y, int64_t x) const {
    return ((y * dh) % sh * sw + (x * dw) % sw) * sub + (y * dh) / sh * row + (x * dw) / sw;
  }
  // Flat positions of `rows` rows.
  int64_t length(int64_t rows) const { return (rows - 1) * row + ow; }
  int64_t copy_elements() const { return sh * sw * sub + kSlack; }
};

}  // namespace sardonyx::cpu
