// Runs a kernel for f32 on tensors of a narrower float type.
#pragma once

#include "providers/kernel.h"

namespace sardonyx::cpu {

// dst[i] = convert(src[i]) for any pair among float, double and the narrow float types.
void convert_floats(DType from, const void* src, DType to, void* dst, int64_t n);

// Prepares `prepare` as if every input of a float type other than f32 and f64 were f32, and converts
// inputs and outputs around the run: the result is computed in f32 and rounded once. Outputs that the f32
// kernel declares as f32 take the dtype `narrow`. Layouts are those that the f32 kernel asks for.
//   if (ctx.dtype(0) == DType::Float16 || ctx.dtype(0) == DType::BFloat16)
//     return widened(ctx, ctx.dtype(0), prepare_f32);
Prepared widened(PrepareContext& ctx, DType narrow, const PrepareKernel& prepare);

inline bool is_narrow_float(DType dtype) {
  return is_float(dtype) && dtype != DType::Float32 && dtype != DType::Float64;
}

}  // namespace sardonyx::cpu
