#include "sardonyx/small_types.h"

#include <array>
#include <cmath>
#include <limits>

namespace sardonyx {

namespace {

// A format of at most 8 bits: a sign, exponent bits of the given bias, mantissa bits.
struct Format {
  int mantissa;
  int bias;
  uint8_t sign;        // the sign bit
  uint8_t largest;     // code of the largest finite magnitude
  uint8_t infinity;    // code of infinity, 0 when the format has none
  uint8_t nan;         // code of NaN, 0 when the format has none
  bool unsigned_zero;  // "FNUZ": the code of -0 is NaN
};

constexpr Format kE4M3FN{3, 7, 0x80, 0x7e, 0, 0x7f, false};
constexpr Format kE4M3FNUZ{3, 8, 0x80, 0x7f, 0, 0x80, true};
constexpr Format kE5M2{2, 15, 0x80, 0x7b, 0x7c, 0x7e, false};
constexpr Format kE5M2FNUZ{2, 16, 0x80, 0x7f, 0, 0x80, true};
constexpr Format kE2M3{3, 1, 0x20, 0x1f, 0, 0, false};
constexpr Format kE3M2{2, 3, 0x20, 0x1f, 0, 0, false};
constexpr Format kE2M1{1, 1, 0x08, 0x07, 0, 0, false};

const Format* format_of(DType dtype) {
  switch (dtype) {
    case DType::Float8E4M3FN:
      return &kE4M3FN;
    case DType::Float8E4M3FNUZ:
      return &kE4M3FNUZ;
    case DType::Float8E5M2:
      return &kE5M2;
    case DType::Float8E5M2FNUZ:
      return &kE5M2FNUZ;
    case DType::Float6E2M3:
      return &kE2M3;
    case DType::Float6E3M2:
      return &kE3M2;
    case DType::Float4E2M1:
      return &kE2M1;
    default:
      return nullptr;
  }
}

constexpr float power_of_two(int exponent) {
  return exponent >= -126 ? std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23)
                          : std::bit_cast<float>(uint32_t{1} << (exponent + 149));
}

constexpr float decode(const Format& format, uint8_t bits) {
  const uint8_t magnitude = bits & (format.sign - 1);
  const bool negative = (bits & format.sign) != 0;
  const float quiet = std::numeric_limits<float>::quiet_NaN();
  if (format.unsigned_zero && bits == format.nan) return -quiet;
  float value = 0;
  if (format.infinity && magnitude == format.infinity) {
    value = std::numeric_limits<float>::infinity();
  } else if (magnitude > format.largest) {
    value = quiet;
  } else {
    const int exponent = magnitude >> format.mantissa;
    const int fraction = magnitude & ((1 << format.mantissa) - 1);
    const int implicit = exponent == 0 ? 0 : 1 << format.mantissa;
    value = static_cast<float>(implicit + fraction) *
            power_of_two((exponent == 0 ? 1 : exponent) - format.bias - format.mantissa);
  }
  return negative ? -value : value;
}

using Table = std::array<float, 256>;
constexpr Table table_of(const Format& format) {
  Table table{};
  for (int i = 0; i < 256; ++i) table[static_cast<size_t>(i)] = decode(format, static_cast<uint8_t>(i));
  return table;
}
constexpr Table table_of_e8m0() {
  Table table{};
  for (int i = 0; i < 255; ++i) table[static_cast<size_t>(i)] = power_of_two(i - 127);
  table[255] = std::numeric_limits<float>::quiet_NaN();
  return table;
}

constexpr Table kTableE4M3FN = table_of(kE4M3FN);
constexpr Table kTableE4M3FNUZ = table_of(kE4M3FNUZ);
constexpr Table kTableE5M2 = table_of(kE5M2);
constexpr Table kTableE5M2FNUZ = table_of(kE5M2FNUZ);
constexpr Table kTableE2M3 = table_of(kE2M3);
constexpr Table kTableE3M2 = table_of(kE3M2);
constexpr Table kTableE2M1 = table_of(kE2M1);
constexpr Table kTableE8M0 = table_of_e8m0();

uint8_t encode(const Format& format, float value, bool saturate) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint8_t sign = (bits >> 31) ? format.sign : 0;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    if (format.unsigned_zero) return format.nan;
    if (format.nan) return sign | format.nan;
    // Formats without NaN: the zero of the opposite sign, as ml_dtypes does.
    return sign ^ format.sign;
  }
  uint32_t code;
  if (magnitude == 0x7f800000u) {
    code = 0xff;
  } else if (magnitude < static_cast<uint32_t>(128 - format.bias) << 23) {
    // Below the smallest normal number: an addition whose unit in the last place is the format's step.
    const float step = power_of_two(1 - format.bias - format.mantissa + 23);
    code = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + step) - std::bit_cast<uint32_t>(step);
  } else {
    const int shift = 23 - format.mantissa;
    const uint32_t rounded = magnitude + ((1u << (shift - 1)) - 1) + ((magnitude >> shift) & 1u);
    code = (rounded >> shift) - (static_cast<uint32_t>(127 - format.bias) << format.mantissa);
  }
  if (code > format.largest) {
    if (saturate || format.nan == 0)
      code = format.largest;
    else if (format.unsigned_zero)
      return format.nan;
    else
      code = format.infinity ? format.infinity : format.nan;
  }
  if (code == 0 && format.unsigned_zero) return 0;
  return sign | static_cast<uint8_t>(code);
}

}  // namespace

float half_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(bits & 0x7fffu) << 13;
  uint32_t result;
  if (magnitude >= 0x0f800000u) {
    result = magnitude + 0x70000000u;  // infinity and NaN keep an exponent of ones
    if (magnitude > 0x0f800000u) result |= 0x00400000u;
  } else if (magnitude >= 0x00800000u) {
    result = magnitude + 0x38000000u;
  } else {
    // Zero and subnormals: magnitude / 2^24 is exact.
    result = std::bit_cast<uint32_t>(static_cast<float>(bits & 0x7fffu) * 0x1p-24f);
  }
  return std::bit_cast<float>(result | sign);
}

uint16_t float_to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;  // from 65520 on
  if (magnitude < 0x38800000u) {
    // Below 2^-14: the unit in the last place of 0.5 is the step of half's subnormals.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

float round_to_odd(double value) {
  const float nearest = static_cast<float>(value);
  const double back = static_cast<double>(nearest);
  const uint32_t bits = std::bit_cast<uint32_t>(nearest);
  if (back == value || value != value || (bits & 1u)) return nearest;
  if (nearest == 0) return std::copysign(std::numeric_limits<float>::denorm_min(), nearest);
  return std::bit_cast<float>(std::fabs(back) > std::fabs(value) ? bits - 1 : bits + 1);
}

uint16_t double_to_half(double value) { return float_to_half(round_to_odd(value)); }

uint16_t double_to_bfloat16(double value) { return BFloat16(round_to_odd(value)).bits; }

float small_to_float(DType dtype, uint8_t bits) {
  switch (dtype) {
    case DType::Float8E4M3FN:
      return kTableE4M3FN[bits];
    case DType::Float8E4M3FNUZ:
      return kTableE4M3FNUZ[bits];
    case DType::Float8E5M2:
      return kTableE5M2[bits];
    case DType::Float8E5M2FNUZ:
      return kTableE5M2FNUZ[bits];
    case DType::Float6E2M3:
      return kTableE2M3[bits];
    case DType::Float6E3M2:
      return kTableE3M2[bits];
    case DType::Float4E2M1:
      return kTableE2M1[bits];
    case DType::Float8E8M0:
      return kTableE8M0[bits];
    default:
      throw UnsupportedError("small_to_float", "a float of at most 8 bits", dtype_name(dtype));
  }
}

uint8_t float_to_small(DType dtype, float value, bool saturate) {
  if (dtype == DType::Float8E8M0) return float_to_e8m0(value, E8M0Rounding::Nearest, saturate);
  const Format* format = format_of(dtype);
  if (!format) throw UnsupportedError("float_to_small", "a float of at most 8 bits", dtype_name(dtype));
  return encode(*format, value, saturate);
}

uint8_t float_to_e8m0(float value, E8M0Rounding rounding, bool saturate) {
  constexpr uint8_t kNaN = 0xff, kLargest = 0xfe;
  if (!(value >= 0)) return kNaN;
  if (value < 0x1p-127f) return saturate || (value > 0 && rounding == E8M0Rounding::Up) ? 0 : kNaN;
  if (std::isinf(value)) return saturate ? kLargest : kNaN;
  int exponent;
  const float fraction = std::frexp(value, &exponent);  // [0.5, 1)
  int code = exponent - 1 + 127;
  if (rounding == E8M0Rounding::Up ? fraction > 0.5f : rounding == E8M0Rounding::Nearest && fraction >= 0.75f)
    ++code;
  if (code > kLargest) return saturate ? kLargest : kNaN;
  return static_cast<uint8_t>(code);
}

}  // namespace sardonyx
