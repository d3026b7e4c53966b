// What elementwise kernels share: loops over one or two operands in every element type ("ref"), and the
// vector loops of simd.h on f32, f16 and bf16 tensors ("simd").
#pragma once

#include <string>
#include <utility>

#include "providers/cpu/support/broadcast.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/simd.h"
#include "providers/cpu/support/widen.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

// An element in the type it is computed in.
template <typename T>
decltype(auto) widen(const T& value) {
  if constexpr (std::is_same_v<T, Compute<T>>)
    return (value);
  else
    return static_cast<Compute<T>>(value);
}

inline Prepared no_kernel_for(DType dtype) {
  return decline(std::string("no loop for ") + dtype_name(dtype));
}

// InputError unless inputs [0, count) have the dtype of the first.
void expect_same_dtype(const PrepareContext& ctx, size_t count);

// Whether the first two inputs are f32 and bf16, as constants are beside bf16 in precision "medium".
bool mixes_bfloat16(const PrepareContext& ctx);

// Declares the output and lets it take the memory of an input that has its shape and element size.
void declare_elementwise(PrepareContext& ctx, DType dtype, const Dims& dims);

// f32 values of a float, f16 or bf16 tensor, a block at a time.
inline constexpr int64_t kFloatBlock = 1024;
inline bool has_float_rows(DType dtype) {
  return dtype == DType::Float32 || dtype == DType::Float16 || dtype == DType::BFloat16;
}
// n elements from element `at` on as f32: where they lie, or converted into `buffer`.
const float* load_floats(DType dtype, const void* data, int64_t at, int64_t n, float* buffer);
// Writes n f32 values to elements from `at` on. Nothing to do where `values` lie there already.
void store_floats(DType dtype, const float* values, void* data, int64_t at, int64_t n);
// Where to compute n values of the output: in place for f32, else `buffer`.
inline float* float_target(DType dtype, void* data, int64_t at, float* buffer) {
  return dtype == DType::Float32 ? static_cast<float*>(data) + at : buffer;
}

// y = f(x) by a vector loop. Declines other element types.
Prepared prepare_simd_unary(PrepareContext& ctx, simd::Unary op, float a = 0, float b = 0);
Prepared prepare_simd_binary(PrepareContext& ctx, simd::Binary op);
// Runs a vector loop over n elements, in parallel.
void run_simd_unary(DType dtype, const void* x, void* y, int64_t n, simd::UnaryRow row, float a, float b);

// A plain loop over a row. f is a stateless struct, called as f(x), or as f(x, a, b) where it has parameters,
// in the type to compute in.
using UnaryRow = void (*)(const void* x, void* y, int64_t n, double a, double b);
template <typename T, typename R, typename F>
void unary_row(const void* x, void* y, int64_t n, double a, double b) {
  using C = Compute<T>;
  const T* in = static_cast<const T*>(x);
  R* out = static_cast<R*>(y);
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_invocable_v<F, C>)
      out[i] = static_cast<R>(F()(widen(in[i])));
    else
      out[i] = static_cast<R>(F()(widen(in[i]), static_cast<C>(a), static_cast<C>(b)));
  }
}
// Steps are 0 or 1.
using BinaryRow = void (*)(const void* x, int64_t x_step, const void* y, int64_t y_step, void* out,
                           int64_t n);
template <typename A, typename B, typename R, typename F>
void binary_row(const void* x, int64_t x_step, const void* y, int64_t y_step, void* out, int64_t n) {
  const A* a = static_cast<const A*>(x);
  const B* b = static_cast<const B*>(y);
  R* result = static_cast<R*>(out);
  for (int64_t i = 0; i < n; ++i) result[i] = static_cast<R>(F()(widen(a[i * x_step]), widen(b[i * y_step])));
}

// The dtype of the result R, or the input's where R is void.
template <typename T, typename R>
using ResultOf = std::conditional_t<std::is_void_v<R>, T, R>;

// Declares the output and runs the loop, which takes about `ns` an element, over all elements on the threads.
Prepared prepare_rows(PrepareContext& ctx, DType result, UnaryRow row, double ns, double a = 0, double b = 0);
Prepared prepare_rows(PrepareContext& ctx, DType result, BinaryRow row, double ns);

// The ref kernel of a unary operator for the element types of List.
template <typename List, typename F, typename R = void>
Prepared prepare_unary(PrepareContext& ctx, double ns, double a = 0, double b = 0) {
  UnaryRow row = nullptr;
  DType result = DType::Undefined;
  visit<List>(ctx.dtype(0), [&]<typename T>() {
    row = unary_row<T, ResultOf<T, R>, F>;
    result = dtype_of<ResultOf<T, R>>;
  });
  return row ? prepare_rows(ctx, result, row, ns, a, b) : no_kernel_for(ctx.dtype(0));
}

// The ref kernel of a binary operator whose operands have one dtype.
template <typename List, typename F, typename R = void>
Prepared prepare_binary(PrepareContext& ctx, double ns) {
  if (mixes_bfloat16(ctx))
    return widened(ctx, DType::BFloat16,
                   [ns](PrepareContext& wide) { return prepare_binary<List, F, R>(wide, ns); });
  expect_same_dtype(ctx, 2);
  BinaryRow row = nullptr;
  DType result = DType::Undefined;
  visit<List>(ctx.dtype(0), [&]<typename T>() {
    row = binary_row<T, T, ResultOf<T, R>, F>;
    result = dtype_of<ResultOf<T, R>>;
  });
  return row ? prepare_rows(ctx, result, row, ns) : no_kernel_for(ctx.dtype(0));
}

}  // namespace sardonyx::cpu
