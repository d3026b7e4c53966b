// Vector loops over rows of f32, compiled for several instruction sets and chosen when the process starts.
// In every function the output may be one of the inputs.
#pragma once

#include <cstdint>

#include "sardonyx/dtype.h"

namespace sardonyx::cpu::simd {

// y[i] = f(x[i]); a and b are the parameters of the function, in the order of the operator's attributes.
// NaN and infinities go through as in numpy.
using UnaryRow = void (*)(const float* x, float* y, int64_t n, float a, float b);
enum class Unary {
  Abs,
  Neg,
  Reciprocal,
  Sqrt,
  Floor,
  Ceil,
  Round,
  Exp,
  Log,
  Sin,
  Cos,
  Erf,
  Tanh,
  Clip,  // a: lower bound, b: upper bound
  Relu,
  LeakyRelu,
  ThresholdedRelu,
  Elu,
  Celu,         // a: alpha
  Selu,         // a: alpha, b: gamma
  HardSigmoid,  // a: alpha, b: beta
  HardSwish,
  Sigmoid,
  Softplus,
  Softsign,
  Mish,
  GeluErf,
  GeluTanh,
  Swish,  // a: alpha
};
inline constexpr int kUnaryCount = static_cast<int>(Unary::Swish) + 1;
UnaryRow row(Unary op);

// out[i] = f(x[i * x_step], y[i * y_step]); steps are 0 or 1.
using BinaryRow = void (*)(const float* x, int64_t x_step, const float* y, int64_t y_step, float* out,
                           int64_t n);
// Of the derivatives x is dY, y the output, or the input for HardSwish.
enum class Binary {
  Add,
  Sub,
  Mul,
  Div,
  Max,
  Min,
  PRelu,
  ReluBackward,
  SigmoidBackward,
  TanhBackward,
  HardSwishBackward
};
BinaryRow row(Binary op);

// The same on the bits of bf16, rounded once.
using NarrowBinaryRow = void (*)(const uint16_t* x, int64_t x_step, const uint16_t* y, int64_t y_step,
                                 uint16_t* out, int64_t n);
NarrowBinaryRow narrow_row(Binary op);

// out[i] = x[i * x_step] compared with y[i * y_step], 1 or 0.
using CompareRow = void (*)(const float* x, int64_t x_step, const float* y, int64_t y_step, uint8_t* out,
                            int64_t n);
enum class Comparison { Equal, Greater, GreaterOrEqual, Less, LessOrEqual };
CompareRow row(Comparison op);

// out[i] = x[i] * sigmoid(alpha * x[i]) * y[i]
void swiglu(const float* x, const float* y, float* out, int64_t n, float alpha);
// out[i] = condition[i * condition_step] ? x[i * x_step] : y[i * y_step] for elements of four bytes.
void select(const uint8_t* condition, int64_t condition_step, const uint32_t* x, int64_t x_step,
            const uint32_t* y, int64_t y_step, uint32_t* out, int64_t n);

// Between f32 and the bits of f16 and bf16, rounding to nearest even.
void half_to_float(const uint16_t* x, float* y, int64_t n);
void float_to_half(const float* x, uint16_t* y, int64_t n);
void bfloat16_to_float(const uint16_t* x, float* y, int64_t n);
void float_to_bfloat16(const float* x, uint16_t* y, int64_t n);

// y[i] = saturate(round(x[i] / scale) + zero) and y[i] = (x[i] - zero) * scale; T is int8_t or uint8_t.
// NaN becomes the smallest T.
template <typename T>
void quantize(const float* x, T* y, int64_t n, float scale, int zero);
template <typename T>
void dequantize(const T* x, float* y, int64_t n, float scale, int zero);
// y[i] = saturate(round(float(x[i] + offset[i]) * scale[i * scale_step]) + zero); the sum wraps.
template <typename T>
void requantize(const int32_t* x, const int32_t* offset, T* y, int64_t n, const float* scale,
                int64_t scale_step, int zero);
// y[i] = x[i] + offset[i], wrapping.
void add_int32(const int32_t* x, const int32_t* offset, int32_t* y, int64_t n);
// y[j * y_row + i] = x[i * x_row + j] ^ flip; unlike elsewhere, y may not be x.
void transpose(const uint8_t* x, int64_t x_row, int64_t rows, int64_t columns, uint8_t* y, int64_t y_row,
               uint8_t flip);
// y[i] = table[x[i]]
void look_up(const uint8_t* table, const uint8_t* x, uint8_t* y, int64_t n);
// The smallest and the largest of x and 0; NaN where x has one.
void range_with_zero(const float* x, int64_t n, float* lowest, float* highest);

}  // namespace sardonyx::cpu::simd
