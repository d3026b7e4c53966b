// Resampling along axes: where every output position reads, and the loops that apply it.
#pragma once

#include <cstdint>
#include <vector>

#include "sardonyx/tensor.h"

namespace sardonyx::cpu {

enum class Coordinates {
  HalfPixel,
  HalfPixelSymmetric,
  PytorchHalfPixel,
  AlignCorners,
  Asymmetric,
  TfCropAndResize
};
enum class Interpolation { Nearest, Linear, Cubic };
enum class Rounding { PreferFloor, PreferCeil, Floor, Ceil };

struct Sampling {
  Interpolation interpolation = Interpolation::Nearest;
  Coordinates coordinates = Coordinates::HalfPixel;
  Rounding rounding = Rounding::PreferFloor;
  double cubic_a = -0.75;
  bool antialias = false, exclude_outside = false;
};

// One axis as the caller wants it.
struct AxisScale {
  int64_t in = 1, out = 1;
  double scale = 1;   // out / in, or the scale as given
  bool exact = true;  // scale is out / in: positions are computed from the two integers
  double roi_start = 0, roi_end = 1;
};

// Output position x of an axis reads `taps` elements: indices[x * taps ...] with weights[x * taps ...]. A
// nearest axis has one tap and no weights; `repeat` is k where every element is simply shown k times, else 0.
struct AxisTaps {
  int64_t in = 1, out = 1, taps = 1, repeat = 0;
  std::vector<int32_t> indices;
  std::vector<double> weights;
  std::vector<char> outside;  // by position: the extrapolation value; empty when there is none
};

AxisTaps make_taps(const AxisScale& axis, const Sampling& sampling);

// A tensor seen as [outer, axis, ...] with every resampled axis in `axes`; the rest is merged.
struct ResamplePlan {
  // One dimension: resampled when taps.indices is not empty, else copied.
  struct Axis {
    AxisTaps taps;
    bool resampled() const { return !taps.indices.empty(); }
  };
  std::vector<Axis> axes;  // outermost first
  int64_t inner = 1;       // elements of the block behind the last axis
  bool any_outside = false;
};

// Nearest: copies elements of `dtype`; `outside` points at one element, the extrapolation value.
void resample_nearest(const ResamplePlan& plan, DType dtype, const void* in, void* out, const void* outside);

// Linear and cubic in float or double. The plan must hold weights.
template <typename C>
void resample_weighted(const ResamplePlan& plan, const C* in, C* out, C outside);
extern template void resample_weighted(const ResamplePlan&, const float*, float*, float);
extern template void resample_weighted(const ResamplePlan&, const double*, double*, double);

}  // namespace sardonyx::cpu
