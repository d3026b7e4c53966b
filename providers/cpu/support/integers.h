// Integer arithmetic without undefined behaviour: signed types wrap as unsigned ones do.
#pragma once

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace sardonyx::cpu {

// The unsigned type of at least 32 bits in which arithmetic on T wraps (narrower ones promote to int).
template <typename T>
using Wrapping = std::conditional_t<(sizeof(T) < 4), uint32_t, std::make_unsigned_t<T>>;
template <typename T>
constexpr Wrapping<T> unsigned_of(T value) {
  return static_cast<Wrapping<T>>(value);
}
// The low bits of `value` as a T.
template <typename T>
constexpr T wrapped(Wrapping<T> value) {
  return static_cast<T>(value);
}

// What the conversion instruction of x86-64 gives: truncation, and the smallest integer for NaN and for what
// is out of range.
inline int32_t truncate_to_int32(double value) {
#ifdef __SSE2__
  return _mm_cvttsd_si32(_mm_set_sd(value));
#else
  return value > -2147483649.0 && value < 2147483648.0 ? static_cast<int32_t>(value)
                                                       : std::numeric_limits<int32_t>::min();
#endif
}
inline int64_t truncate_to_int64(double value) {
#ifdef __SSE2__
  return _mm_cvttsd_si64(_mm_set_sd(value));
#else
  return value >= -0x1p63 && value < 0x1p63 ? static_cast<int64_t>(value)
                                            : std::numeric_limits<int64_t>::min();
#endif
}

// A float as an integer, as numpy on x86-64 converts: types narrower than 32 bits keep the low bits of an
// int32, uint32 those of an int64.
template <typename T>
T truncate_to(double value) {
  if constexpr (std::is_same_v<T, int64_t>) {
    return truncate_to_int64(value);
  } else if constexpr (std::is_same_v<T, uint64_t>) {
    if (value >= 0x1p63 && value < 0x1p64) return static_cast<uint64_t>(value);
    return static_cast<uint64_t>(truncate_to_int64(value));
  } else if constexpr (std::is_same_v<T, uint32_t>) {
    return static_cast<uint32_t>(truncate_to_int64(value));
  } else {
    return static_cast<T>(truncate_to_int32(value));
  }
}

}  // namespace sardonyx::cpu
