#include "providers/cpu/support/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "graph/shape.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"

namespace sardonyx::cpu {

namespace {

// Where output position x of the axis lies in the input, in T arithmetic.
template <typename T>
T source_position(const AxisScale& axis, Coordinates coordinates, int64_t position) {
  const T x = static_cast<T>(position), in = static_cast<T>(axis.in), scale = static_cast<T>(axis.scale);
  const T resized =
      axis.exact ? static_cast<T>(axis.out) : static_cast<T>(axis.scale * static_cast<double>(axis.in));
  const T half = static_cast<T>(0.5);
  // One division of integers gives the exact position where there is one.
  auto pixel_center = [&] {
    return axis.exact ? (2 * x + 1) * in / (2 * resized) - half : (x + half) / scale - half;
  };
  switch (coordinates) {
    case Coordinates::HalfPixel:
      return pixel_center();
    case Coordinates::HalfPixelSymmetric:
      return in / 2 * (1 - static_cast<T>(axis.out) / resized) + pixel_center();
    case Coordinates::PytorchHalfPixel:
      return axis.out > 1 ? pixel_center() : T(0);
    case Coordinates::AlignCorners:
      return resized == 1 ? T(0) : x * (in - 1) / (resized - 1);
    case Coordinates::Asymmetric:
      return axis.exact ? x * in / resized : x / scale;
    case Coordinates::TfCropAndResize: {
      const T start = static_cast<T>(axis.roi_start), end = static_cast<T>(axis.roi_end);
      if (resized == 1) return (start + end) * (in - 1) / 2;
      return start * (in - 1) + x * (end - start) * (in - 1) / (resized - 1);
    }
  }
  return 0;
}

double round_to(double x, Rounding rounding) {
  switch (rounding) {
    case Rounding::PreferFloor:
      return std::ceil(x - 0.5);
    case Rounding::PreferCeil:
      return std::floor(x + 0.5);
    case Rounding::Floor:
      return std::floor(x);
    case Rounding::Ceil:
      return std::ceil(x);
  }
  return x;
}

int32_t clamp_index(double index, int64_t size) {
  if (!(index > 0)) return 0;  // NaN too
  return static_cast<int32_t>(std::min(index, static_cast<double>(size - 1)));
}

double linear_filter(double distance) { return std::max(0.0, 1 - std::abs(distance)); }
double cubic_filter(double distance, double a) {
  const double d = std::abs(distance);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  if (d < 2) return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  return 0;
}

}  // namespace

AxisTaps make_taps(const AxisScale& axis, const Sampling& sampling) {
  // The tables must not be out of proportion to what a machine can hold.
  constexpr int64_t most = int64_t{1} << 26;
  if (axis.in > most || axis.out > most)
    throw LimitError("a resized dimension", "at most " + std::to_string(most),
                     std::to_string(std::max(axis.in, axis.out)));
  AxisTaps result;
  result.in = axis.in;
  result.out = axis.out;
  const bool nearest = sampling.interpolation == Interpolation::Nearest;
  const bool cubic = sampling.interpolation == Interpolation::Cubic;
  const double narrow = sampling.antialias ? std::min(axis.scale, 1.0) : 1.0;
  const double support = (cubic ? 2 : 1) / narrow;
  result.taps = nearest ? 1 : 2 * static_cast<int64_t>(std::ceil(support));
  if (checked_mul(result.taps, axis.out, "taps of a resized dimension") > most)
    throw LimitError("taps of a resized dimension", "at most " + std::to_string(most));
  const bool crop = sampling.coordinates == Coordinates::TfCropAndResize;
  for (int64_t x = 0; x < axis.out; ++x) {
    // A scale given as float is meant in float: 1 / 3 as a float must not step over an element.
    const double position = nearest && !axis.exact ? source_position<float>(axis, sampling.coordinates, x)
                                                   : source_position<double>(axis, sampling.coordinates, x);
    if (crop) result.outside.push_back(!(position >= 0 && position <= static_cast<double>(axis.in - 1)));
    if (nearest) {
      result.indices.push_back(clamp_index(round_to(position, sampling.rounding), axis.in));
      continue;
    }
    // Positions far outside read the edge only; the bound keeps the arithmetic on indices finite.
    const double bound = static_cast<double>(axis.in) + 4 * support;
    const double at = position == position ? std::clamp(position, -bound, bound) : 0;
    const double first = std::ceil(at) - static_cast<double>(result.taps / 2);
    double sum = 0;
    const size_t begin = result.weights.size();
    for (int64_t t = 0; t < result.taps; ++t) {
      const double index = first + static_cast<double>(t), distance = (index - at) * narrow;
      double weight = cubic ? cubic_filter(distance, sampling.cubic_a) : linear_filter(distance);
      if (sampling.exclude_outside && (index < 0 || index >= static_cast<double>(axis.in))) weight = 0;
      result.indices.push_back(clamp_index(index, axis.in));
      result.weights.push_back(weight);
      sum += weight;
    }
    if ((sampling.exclude_outside || sampling.antialias) && sum != 0)
      for (size_t i = begin; i < result.weights.size(); ++i) result.weights[i] /= sum;
  }
  if (std::find(result.outside.begin(), result.outside.end(), 1) == result.outside.end())
    result.outside.clear();
  if (nearest && axis.in > 0 && axis.out % axis.in == 0) {
    result.repeat = axis.out / axis.in;
    for (int64_t x = 0; x < axis.out; ++x)
      if (result.repeat != 0 && result.indices[static_cast<size_t>(x)] != x / result.repeat)
        result.repeat = 0;
  }
  return result;
}

namespace {

// The rows of the output, all axes but the last, in order from `row` on.
class Rows {
 public:
  Rows(const ResamplePlan& plan, int64_t row) : plan_(plan), at_(plan.axes.size() - 1) {
    for (size_t i = at_.size(); i-- > 0;) {
      at_[i] = row % plan.axes[i].taps.out;
      row /= plan.axes[i].taps.out;
    }
    find_outer();
  }
  static int64_t count(const ResamplePlan& plan) {
    int64_t count = 1;
    for (size_t i = 0; i + 1 < plan.axes.size(); ++i) count *= plan.axes[i].taps.out;
    return count;
  }
  // The row of the input; -1 for a row of extrapolation values.
  int64_t source() const {
    if (at_.empty() || outer_ < 0) return outer_;
    const auto& axis = plan_.axes[at_.size() - 1];
    const int64_t x = element(axis, at_.back());
    return x < 0 ? x : outer_ * axis.taps.in + x;
  }
  void next() {
    for (size_t i = at_.size(); i-- > 0;) {
      if (++at_[i] < plan_.axes[i].taps.out) {
        if (i + 1 < at_.size()) find_outer();
        return;
      }
      at_[i] = 0;
    }
  }

 private:
  static int64_t element(const ResamplePlan::Axis& axis, int64_t x) {
    const size_t i = static_cast<size_t>(x);
    if (!axis.taps.outside.empty() && axis.taps.outside[i]) return -1;
    return axis.resampled() ? axis.taps.indices[i] : x;
  }
  // What all axes but the last of these contribute.
  void find_outer() {
    outer_ = 0;
    for (size_t i = 0; i + 1 < at_.size(); ++i) {
      const int64_t x = element(plan_.axes[i], at_[i]);
      if (x < 0) {
        outer_ = -1;
        return;
      }
      outer_ = outer_ * plan_.axes[i].taps.in + x;
    }
  }

  const ResamplePlan& plan_;
  std::vector<int64_t> at_;
  int64_t outer_ = 0;
};

// Shows each of n elements `repeat` times.
template <typename T>
void repeat_row(const T* from, T* to, int64_t n, int64_t repeat) {
  if (repeat == 2) {
#pragma omp simd
    for (int64_t x = 0; x < n; ++x) {
      to[2 * x] = from[x];
      to[2 * x + 1] = from[x];
    }
    return;
  }
  for (int64_t x = 0; x < n; ++x, to += repeat) std::fill(to, to + repeat, from[x]);
}

template <typename T>
void nearest_rows(const ResamplePlan& plan, const T* in, T* out, const T& outside) {
  const AxisTaps& last = plan.axes.back().taps;
  const bool gathered = plan.axes.back().resampled();
  const int64_t inner = plan.inner, width = last.out * inner;
  parallel_for(
      Rows::count(plan), grain_for(5 + static_cast<double>(width) * 0.5), [&](int64_t begin, int64_t end) {
        int64_t previous = -1;
        Rows rows(plan, begin);
        for (int64_t row = begin; row < end; ++row, rows.next()) {
          T* to = out + row * width;
          const int64_t source = rows.source();
          if (source < 0) {
            std::fill(to, to + width, outside);
          } else if (source == previous) {
            std::copy(to - width, to, to);
          } else if (!gathered) {
            std::copy(in + source * width, in + (source + 1) * width, to);
          } else {
            const T* from = in + source * last.in * inner;
            const int32_t* indices = last.indices.data();
            if (inner == 1 && last.repeat > 0) {
              repeat_row(from, to, last.in, last.repeat);
            } else if (inner == 1) {
              for (int64_t x = 0; x < last.out; ++x) to[x] = from[indices[x]];
            } else {
              for (int64_t x = 0; x < last.out; ++x)
                std::copy(from + indices[x] * inner, from + (indices[x] + 1) * inner, to + x * inner);
            }
            for (size_t x = 0; x < last.outside.size(); ++x)
              if (last.outside[x])
                std::fill(to + static_cast<int64_t>(x) * inner, to + static_cast<int64_t>(x + 1) * inner,
                          outside);
          }
          previous = source;
        }
      });
}

// to = sum of w[t] * rows[t].
template <typename C>
void combine_rows(const C* const* rows, const C* w, int64_t taps, C* to, int64_t n) {
  if (taps == 2) {
    const C *a = rows[0], *b = rows[1];
    const C wa = w[0], wb = w[1];
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) to[i] = wa * a[i] + wb * b[i];
    return;
  }
  const C* first = rows[0];
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) to[i] = w[0] * first[i];
  for (int64_t t = 1; t < taps; ++t) {
    const C* row = rows[t];
    const C weight = w[t];
    if (weight == 0) continue;
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) to[i] += weight * row[i];
  }
}

// One row of an axis with blocks of `inner` elements.
template <typename C>
void resample_row(const AxisTaps& axis, const std::vector<C>& weights, int64_t inner, const C* from, C* to) {
  const int32_t* index = axis.indices.data();
  const C* w = weights.data();
  const int64_t taps = axis.taps;
  if (inner == 1 && taps == 2) {
    for (int64_t x = 0; x < axis.out; ++x)
      to[x] = w[2 * x] * from[index[2 * x]] + w[2 * x + 1] * from[index[2 * x + 1]];
  } else if (inner == 1 && taps == 4) {
    for (int64_t x = 0; x < axis.out; ++x)
      to[x] = (w[4 * x] * from[index[4 * x]] + w[4 * x + 1] * from[index[4 * x + 1]]) +
              (w[4 * x + 2] * from[index[4 * x + 2]] + w[4 * x + 3] * from[index[4 * x + 3]]);
  } else if (inner == 1) {
    for (int64_t x = 0; x < axis.out; ++x) {
      C sum = 0;
      for (int64_t t = 0; t < taps; ++t) sum += w[x * taps + t] * from[index[x * taps + t]];
      to[x] = sum;
    }
  } else {
    std::vector<const C*> blocks(static_cast<size_t>(taps));
    for (int64_t x = 0; x < axis.out; ++x) {
      for (int64_t t = 0; t < taps; ++t) blocks[static_cast<size_t>(t)] = from + index[x * taps + t] * inner;
      combine_rows(blocks.data(), w + x * taps, taps, to + x * inner, inner);
    }
  }
}

template <typename C>
std::vector<C> converted(const std::vector<double>& weights) {
  return {weights.begin(), weights.end()};
}

// [outer, height.in, width.in, inner] -> [outer, height.out, width.out, inner]. Rows of the input are
// resampled along the width when they are first needed, and kept while the height still reads them. An axis
// without indices is copied.
template <typename C>
void resample_plane(const AxisTaps& height, const AxisTaps& width, int64_t outer, int64_t inner, const C* in,
                    C* out) {
  const bool tall = !height.indices.empty(), wide = !width.indices.empty();
  const std::vector<C> row_weights = converted<C>(width.weights), weights = converted<C>(height.weights);
  const int64_t from_size = width.in * inner, to_size = width.out * inner, taps = tall ? height.taps : 1;
  int64_t span = 1;
  for (int64_t y = 0; tall && y < height.out; ++y) {
    const auto [low, high] =
        std::minmax_element(height.indices.begin() + y * taps, height.indices.begin() + (y + 1) * taps);
    span = std::max<int64_t>(span, *high - *low + 1);
  }
  const double cost = static_cast<double>(to_size) * (1.0 + 0.3 * static_cast<double>(taps));
  parallel_for(outer * height.out, grain_for(cost), [&](int64_t begin, int64_t end) {
    std::vector<C> kept(wide && tall ? static_cast<size_t>(span * to_size) : 0);
    std::vector<int64_t> holds(static_cast<size_t>(span), -1);  // the input row in each place of `kept`
    std::vector<const C*> rows(static_cast<size_t>(taps));
    for (int64_t line = begin; line < end; ++line) {
      const int64_t plane = line / height.out, y = line % height.out;
      C* to = out + line * to_size;
      if (!tall) {
        resample_row(width, row_weights, inner, in + line * from_size, to);
        continue;
      }
      for (int64_t t = 0; t < taps; ++t) {
        const int64_t row = plane * height.in + height.indices[static_cast<size_t>(y * taps + t)];
        const C* from = in + row * from_size;
        if (wide) {
          const size_t place = static_cast<size_t>(row % span);
          C* keep = kept.data() + static_cast<int64_t>(place) * to_size;
          if (holds[place] != row) resample_row(width, row_weights, inner, from, keep);
          holds[place] = row;
          from = keep;
        }
        rows[static_cast<size_t>(t)] = from;
      }
      combine_rows(rows.data(), weights.data() + y * taps, taps, to, to_size);
    }
  });
}

// Overwrites the positions that some axis puts outside.
template <typename C>
void write_outside(const ResamplePlan& plan, C* out, C value) {
  Rows rows(plan, 0);
  const AxisTaps& last = plan.axes.back().taps;
  const int64_t inner = plan.inner, width = last.out * inner, count = Rows::count(plan);
  for (int64_t row = 0; row < count; ++row, rows.next()) {
    C* to = out + row * width;
    if (rows.source() < 0) {
      std::fill(to, to + width, value);
      continue;
    }
    for (size_t x = 0; x < last.outside.size(); ++x)
      if (last.outside[x])
        std::fill(to + static_cast<int64_t>(x) * inner, to + static_cast<int64_t>(x + 1) * inner, value);
  }
}

}  // namespace

void resample_nearest(const ResamplePlan& plan, DType dtype, const void* in, void* out, const void* outside) {
  visit_storage(dtype, [&]<typename T>() {
    nearest_rows(plan, static_cast<const T*>(in), static_cast<T*>(out), *static_cast<const T*>(outside));
  });
}

template <typename C>
void resample_weighted(const ResamplePlan& plan, const C* in, C* out, C outside) {
  // Two axes at a time, the inner ones first; what lies before and behind them is one dimension.
  std::vector<C> buffers[2];
  int turn = 0;
  const C* from = in;
  size_t end = plan.axes.size();
  int64_t inner = plan.inner;
  const AxisTaps none;
  auto next_resampled = [&](size_t i) {
    while (i > 0 && !plan.axes[i - 1].resampled()) --i;
    return i;  // the axis before i is resampled, or i is 0
  };
  for (end = next_resampled(end); end > 0;) {
    // Axes behind the one at hand already have their new size.
    inner = plan.inner;
    for (size_t i = end; i < plan.axes.size(); ++i) inner *= plan.axes[i].taps.out;
    const AxisTaps* width = &plan.axes[end - 1].taps;
    const AxisTaps* height = &none;
    size_t begin = end - 1;
    if (begin > 0 && plan.axes[begin - 1].resampled()) height = &plan.axes[--begin].taps;
    int64_t outer = 1;
    for (size_t i = 0; i < begin; ++i) outer *= plan.axes[i].taps.in;
    if (height == &none && inner > 1) {  // one axis with blocks behind it: the blocks are the rows
      height = width;
      width = &none;
    }
    AxisTaps row;
    if (width == &none) {
      row.in = row.out = inner;
      inner = 1;
    }
    const AxisTaps& used = width == &none ? row : *width;
    const bool tall = height != &none;
    const size_t rest = next_resampled(begin);
    C* to = out;
    if (rest > 0) {
      buffers[turn].resize(static_cast<size_t>(outer * (tall ? height->out : 1) * used.out * inner));
      to = buffers[turn].data();
      turn ^= 1;
    }
    AxisTaps lines;
    lines.in = lines.out = 1;
    resample_plane(tall ? *height : lines, used, outer, inner, from, to);
    from = to;
    end = rest;
  }
  if (plan.any_outside) write_outside(plan, out, outside);
}

template void resample_weighted(const ResamplePlan&, const float*, float*, float);
template void resample_weighted(const ResamplePlan&, const double*, double*, double);

}  // namespace sardonyx::cpu
