// What a Slice reads.
#pragma once

#include "providers/kernel.h"

namespace sardonyx::cpu {

// For each axis: how many elements, which comes first, and the step to the next (0 where there is only one).
struct SliceRange {
  Dims counts, first, steps;
};

// Of a tensor of these dims, by the operands starts, ends, axes and steps from input `operand` on.
SliceRange slice_range(PrepareContext& ctx, const Dims& dims, size_t operand);

}  // namespace sardonyx::cpu
