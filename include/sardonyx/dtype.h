// Element types. The numeric values are those of onnx.TensorProto.DataType.
#pragma once

#include <complex>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "sardonyx/error.h"

namespace sardonyx {

enum class DType : int32_t {
  Undefined = 0,
  Float32 = 1,
  UInt8 = 2,
  Int8 = 3,
  UInt16 = 4,
  Int16 = 5,
  Int32 = 6,
  Int64 = 7,
  String = 8,
  Bool = 9,
  Float16 = 10,
  Float64 = 11,
  UInt32 = 12,
  UInt64 = 13,
  Complex64 = 14,
  Complex128 = 15,
  BFloat16 = 16,
  Float8E4M3FN = 17,
  Float8E4M3FNUZ = 18,
  Float8E5M2 = 19,
  Float8E5M2FNUZ = 20,
  UInt4 = 21,
  Int4 = 22,
  Float4E2M1 = 23,
  Float8E8M0 = 24,
  UInt2 = 25,
  Int2 = 26,
  Float6E2M3 = 27,
  Float6E3M2 = 28,
};
inline constexpr int kDTypeCount = 29;

// Bytes of one element in memory. Types of fewer than 8 bits take one byte an element in memory
// (they are packed only in files); a string takes sizeof(std::string). 0 for Undefined.
SARDONYX_API size_t element_size(DType dtype);
// Bits of one element in an ONNX file; 0 for String and Undefined.
SARDONYX_API int element_bits(DType dtype);
// ONNX's spelling: "float", "int64", "bfloat16", "float8e4m3fn", ...
SARDONYX_API const char* dtype_name(DType dtype);
// The inverse of dtype_name; Undefined for an unknown name.
SARDONYX_API DType dtype_from_name(std::string_view name);
SARDONYX_API bool is_valid_dtype(int32_t onnx_value);
// Floating point of any width (f4 to f64), not complex.
SARDONYX_API bool is_float(DType dtype);
// Signed or unsigned integer of any width, not bool.
SARDONYX_API bool is_integer(DType dtype);
SARDONYX_API bool is_signed_integer(DType dtype);
SARDONYX_API bool is_complex(DType dtype);

}  // namespace sardonyx
