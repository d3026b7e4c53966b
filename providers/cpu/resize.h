// What Resize and its backward kernel share.
#pragma once

#include <vector>

#include "ops/resize.h"
#include "providers/cpu/support/resample.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

Sampling sampling_of(PrepareContext& ctx, const ResizeAttributes& attributes);
// One entry for each dim of `in`. The regions are input `first` of the kernel, then come scales and sizes.
std::vector<AxisScale> resized_axes(PrepareContext& ctx, const ResizeAttributes& attributes, const Dims& in,
                                    size_t first);

inline bool untouched(const AxisScale& axis, const Sampling& sampling) {
  const bool crop = sampling.coordinates == Coordinates::TfCropAndResize;
  return axis.in == axis.out && axis.scale == 1 && (!crop || (axis.roi_start == 0 && axis.roi_end == 1));
}

}  // namespace sardonyx::cpu
