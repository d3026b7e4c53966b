// What the quantized products and convolutions share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "providers/cpu/support/cast.h"
#include "providers/kernel.h"
#include "sardonyx/tensor.h"

namespace sardonyx::cpu {

// A tensor's elements as T, which holds them exactly; `fallback` alone where the input is omitted.
template <typename T>
std::vector<T> elements_as(const Tensor& tensor) {
  std::vector<T> values(static_cast<size_t>(tensor.size()));
  cast_numbers(tensor.dtype(), tensor.data(), dtype_of<T>, values.data(), tensor.size(), {});
  return values;
}
template <typename T>
std::vector<T> elements_as(const RunContext& run, size_t input, T fallback) {
  return run.has_input(input) ? elements_as<T>(run.input(input)) : std::vector<T>{fallback};
}

inline bool is_byte(DType dtype) { return dtype == DType::Int8 || dtype == DType::UInt8; }

// oneDNN's products of 8-bit integers add pairs in 16 bits, and saturate, on processors without these
// instructions. With them, products of u8 and s8 are exact; other signs and zero points are not, past 2^24.
bool onednn_int8_is_exact();

// y[i] = x[i] with the highest bit turned over: u8 minus 128 as s8, or s8 plus 128 as u8.
void flip_signs(const uint8_t* x, uint8_t* y, int64_t n);
// Weights of 8 bits as s8: unsigned ones less 128.
Tensor signed_weights(const Tensor& weights);

// Sums modulo 2^32.
inline int32_t wrapped_product_sum(int32_t a, int32_t b, int32_t c, int32_t d) {  // a * b + c * d
  return static_cast<int32_t>(static_cast<uint32_t>(a) * static_cast<uint32_t>(b) +
                              static_cast<uint32_t>(c) * static_cast<uint32_t>(d));
}

}  // namespace sardonyx::cpu
