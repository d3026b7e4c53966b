// Where GridSample reads, and its derivatives.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "ops/resize.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

enum class GridMode { Nearest, Linear, Cubic };
enum class GridPadding { Zeros, Border, Reflection };

// x mirrored at both borders until it lies between them.
inline double reflect(double x, double low, double high, double* slope = nullptr) {
  const double range = high - low;
  if (range <= 0) return low;
  if (x >= low && x <= high) return x;
  const double distance = x < low ? low - x : x - high;
  const double turns = std::floor(distance / range), rest = distance - turns * range;
  const bool from_low = (x < low) == (std::fmod(turns, 2) == 0);
  if (slope) *slope = std::fmod(turns, 2) == 0 ? -1 : 1;
  return from_low ? low + rest : high - rest;
}

// One spatial dimension: which elements a position reads, with which weights.
struct GridTaps {
  int count = 0;
  std::array<int64_t, 4> index;  // -1 for an element outside that reads as zero
  std::array<double, 4> weight;
  std::array<double, 4> slope;  // of the weight, by the position as it was given; of linear and cubic
};

struct SampleAxis {
  int64_t size = 1;
  double low = 0, high = 0;  // the borders at which positions are mirrored
  bool absolute = false;     // positions are places of elements

  int64_t element(int64_t i, GridPadding padding) const {
    if (i >= 0 && i < size) return i;
    if (padding == GridPadding::Zeros) return -1;
    if (padding == GridPadding::Reflection)
      i = static_cast<int64_t>(reflect(static_cast<double>(i), low, high));
    return std::clamp<int64_t>(i, 0, size - 1);
  }

  GridTaps taps(double normalized, GridMode mode, GridPadding padding, bool align_corners,
                bool single) const {
    const double n = static_cast<double>(size);
    double x = absolute        ? normalized
               : align_corners ? (normalized + 1) / 2 * (n - 1)
                               : ((normalized + 1) * n - 1) / 2;
    double slope = absolute ? 1 : (align_corners ? n - 1 : n) / 2;
    if (single) x = static_cast<double>(static_cast<float>(x));
    // Keeps the arithmetic on indices finite; NaN lies outside.
    x = x == x ? std::clamp(x, -1e15, 1e15) : -1e15;
    if (mode == GridMode::Nearest) x = std::nearbyint(x);
    if (x < low || x > high) {
      if (padding == GridPadding::Border) x = std::clamp(x, 0.0, n - 1), slope = 0;
      double sign = 1;
      if (padding == GridPadding::Reflection) x = reflect(x, low, high, &sign);
      slope *= sign;
    }
    GridTaps result;
    if (mode == GridMode::Nearest) {
      result.count = 1;
      result.index[0] = element(static_cast<int64_t>(x), padding);
      result.weight[0] = 1;
      return result;
    }
    int64_t base = static_cast<int64_t>(x);
    if (static_cast<double>(base) > x) --base;
    const double r = x - static_cast<double>(base);
    if (mode == GridMode::Linear) {
      result.count = 2;
      result.weight = {1 - r, r, 0, 0};
      result.slope = {-slope, slope, 0, 0};
    } else {
      constexpr double a = -0.75;
      auto near = [](double d) { return ((a + 2) * d - (a + 3)) * d * d + 1; };
      auto far = [](double d) { return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a; };
      result.count = 4;
      result.weight = {far(r + 1), near(r), near(1 - r), far(2 - r)};
      auto near_slope = [&](double d) { return slope * (3 * (a + 2) * d - 2 * (a + 3)) * d; };
      auto far_slope = [&](double d) { return slope * ((3 * a * d - 10 * a) * d + 8 * a); };
      result.slope = {far_slope(r + 1), near_slope(r), -near_slope(1 - r), -far_slope(2 - r)};
    }
    for (int t = 0; t < result.count; ++t)
      result.index[static_cast<size_t>(t)] = element(base + t - (mode == GridMode::Cubic ? 1 : 0), padding);
    return result;
  }
};

struct SamplePlan {
  GridMode mode;
  GridPadding padding;
  bool align_corners;
  std::vector<SampleAxis> axes;  // outermost first; the grid lists them innermost first
  int64_t batches, channels, plane, positions;
};

// Of an X and a grid of these dims.
SamplePlan sample_plan(const PrepareContext& ctx, const GridSampleBackwardAttributes& attributes,
                       const Dims& in, const Dims& grid);

}  // namespace sardonyx::cpu
