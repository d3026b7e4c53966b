// C++ element types of the dtypes that C++20 does not have. Each is a plain bit pattern; the floats
// convert from float rounding to nearest even and to float exactly. Sources: the ONNX specification's
// pages on float8, float6, float4, float8e8m0 (OCP MX 1.0) and int4/int2.
#pragma once

#include <bit>
#include <complex>
#include <cstdint>
#include <string>

#include "sardonyx/dtype.h"

namespace sardonyx {

// Conversions of one element. saturate chooses what an out-of-range value becomes, where the format
// leaves a choice: the largest finite number, or infinity / NaN.
SARDONYX_API float half_to_float(uint16_t bits);
SARDONYX_API uint16_t float_to_half(float value);
SARDONYX_API uint16_t double_to_half(double value);  // one rounding
SARDONYX_API uint16_t double_to_bfloat16(double value);
// Any float format of at most 8 bits: Float8*, Float6*, Float4E2M1, Float8E8M0.
SARDONYX_API float small_to_float(DType dtype, uint8_t bits);
SARDONYX_API uint8_t float_to_small(DType dtype, float value, bool saturate = true);
// float_to_small rounds Float8E8M0 to the nearest power of two, ties up. Negative numbers become NaN.
enum class E8M0Rounding { Nearest, Up, Down };
SARDONYX_API uint8_t float_to_e8m0(float value, E8M0Rounding rounding, bool saturate);
// Rounding to odd: rounding the result once more, to a format of at most 22 bits of precision, gives what
// rounding the double directly gives.
SARDONYX_API float round_to_odd(double value);

struct Half {
  uint16_t bits;
  Half() = default;
  explicit Half(float value) : bits(float_to_half(value)) {}
  explicit Half(double value) : bits(double_to_half(value)) {}
  explicit operator float() const { return half_to_float(bits); }
};

struct BFloat16 {
  uint16_t bits;
  BFloat16() = default;
  explicit BFloat16(float value) {
    const uint32_t u = std::bit_cast<uint32_t>(value);
    if ((u & 0x7fffffffu) > 0x7f800000u) {
      bits = static_cast<uint16_t>((u >> 16) | 0x40u);
    } else {
      bits = static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    }
  }
  explicit BFloat16(double value) : bits(double_to_bfloat16(value)) {}
  explicit operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

template <DType kDType>
struct SmallFloat {
  uint8_t bits;
  SmallFloat() = default;
  explicit SmallFloat(float value) : bits(float_to_small(kDType, value)) {}
  explicit operator float() const { return small_to_float(kDType, bits); }
};
using Float8E4M3FN = SmallFloat<DType::Float8E4M3FN>;
using Float8E4M3FNUZ = SmallFloat<DType::Float8E4M3FNUZ>;
using Float8E5M2 = SmallFloat<DType::Float8E5M2>;
using Float8E5M2FNUZ = SmallFloat<DType::Float8E5M2FNUZ>;
using Float8E8M0 = SmallFloat<DType::Float8E8M0>;
using Float6E2M3 = SmallFloat<DType::Float6E2M3>;
using Float6E3M2 = SmallFloat<DType::Float6E3M2>;
using Float4E2M1 = SmallFloat<DType::Float4E2M1>;

// 2- and 4-bit integers, one a byte, sign-extended; conversion keeps the low bits.
template <int kBits, bool kSigned>
struct SmallInt {
  using Storage = std::conditional_t<kSigned, int8_t, uint8_t>;
  Storage value;
  SmallInt() = default;
  explicit constexpr SmallInt(int v)
      : value(kSigned ? static_cast<Storage>(static_cast<int8_t>(v << (8 - kBits)) >> (8 - kBits))
                      : static_cast<Storage>(v & ((1 << kBits) - 1))) {}
  explicit constexpr operator int() const { return value; }
};
using Int4 = SmallInt<4, true>;
using UInt4 = SmallInt<4, false>;
using Int2 = SmallInt<2, true>;
using UInt2 = SmallInt<2, false>;

template <typename T>
struct DTypeOf;
#define SARDONYX_DTYPE_OF(type, name)           \
  template <>                                   \
  struct DTypeOf<type> {                        \
    static constexpr DType value = DType::name; \
  };
SARDONYX_DTYPE_OF(float, Float32)
SARDONYX_DTYPE_OF(double, Float64)
SARDONYX_DTYPE_OF(uint8_t, UInt8)
SARDONYX_DTYPE_OF(int8_t, Int8)
SARDONYX_DTYPE_OF(uint16_t, UInt16)
SARDONYX_DTYPE_OF(int16_t, Int16)
SARDONYX_DTYPE_OF(int32_t, Int32)
SARDONYX_DTYPE_OF(int64_t, Int64)
SARDONYX_DTYPE_OF(uint32_t, UInt32)
SARDONYX_DTYPE_OF(uint64_t, UInt64)
SARDONYX_DTYPE_OF(bool, Bool)
SARDONYX_DTYPE_OF(std::string, String)
SARDONYX_DTYPE_OF(Half, Float16)
SARDONYX_DTYPE_OF(BFloat16, BFloat16)
SARDONYX_DTYPE_OF(std::complex<float>, Complex64)
SARDONYX_DTYPE_OF(std::complex<double>, Complex128)
SARDONYX_DTYPE_OF(Float8E4M3FN, Float8E4M3FN)
SARDONYX_DTYPE_OF(Float8E4M3FNUZ, Float8E4M3FNUZ)
SARDONYX_DTYPE_OF(Float8E5M2, Float8E5M2)
SARDONYX_DTYPE_OF(Float8E5M2FNUZ, Float8E5M2FNUZ)
SARDONYX_DTYPE_OF(Float8E8M0, Float8E8M0)
SARDONYX_DTYPE_OF(Float6E2M3, Float6E2M3)
SARDONYX_DTYPE_OF(Float6E3M2, Float6E3M2)
SARDONYX_DTYPE_OF(Float4E2M1, Float4E2M1)
SARDONYX_DTYPE_OF(Int4, Int4)
SARDONYX_DTYPE_OF(UInt4, UInt4)
SARDONYX_DTYPE_OF(Int2, Int2)
SARDONYX_DTYPE_OF(UInt2, UInt2)
#undef SARDONYX_DTYPE_OF
template <typename T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

}  // namespace sardonyx
