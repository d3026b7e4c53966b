#include "providers/cpu/support/cast.h"

#include <algorithm>
#include <cmath>

#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/integers.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/simd.h"

namespace sardonyx::cpu {

namespace {

using Castable = Join<Join<AllNumbers, Types<bool>>, Join<SmallFloats, SmallInts>>;

template <typename T>
inline constexpr bool kSmallFloat = false;
template <DType kDType>
inline constexpr bool kSmallFloat<SmallFloat<kDType>> = true;
template <typename T>
inline constexpr bool kSmallInt = false;
template <int kBits, bool kSigned>
inline constexpr bool kSmallInt<SmallInt<kBits, kSigned>> = true;

// The type that holds every value of T exactly, through which the rarer pairs go: 26 loads and 3 * 26 stores
// instead of 26 * 26 loops.
template <typename T>
using Carrier =
    std::conditional_t<std::is_same_v<T, uint64_t>, uint64_t,
                       std::conditional_t<std::is_integral_v<T> || kSmallInt<T>, int64_t, double>>;

// An integer as a double that rounds to any narrower float as the integer itself would.
template <typename I>
double odd_double(I value) {
  if constexpr (std::is_signed_v<I>) {
    if (value < 0) return -odd_double(uint64_t{0} - static_cast<uint64_t>(value));
    return odd_double(static_cast<uint64_t>(value));
  } else {
    if (value < (uint64_t{1} << 53)) return static_cast<double>(value);
    constexpr uint64_t kLow = 0xfff;
    return static_cast<double>((value & ~kLow) | ((value & kLow) != 0 ? 0x800 : 0));
  }
}
double odd_double(double value) { return value; }

template <typename T, typename From>
T convert(From value, const CastRules& rules) {
  if constexpr (std::is_same_v<T, bool>) {
    return value != 0;
  } else if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>) {
    if constexpr (std::is_same_v<From, float>)
      return T(value);
    else
      return T(odd_double(value));
  } else if constexpr (kSmallFloat<T>) {
    const float odd = round_to_odd(odd_double(value));
    T result;
    result.bits = dtype_of<T> == DType::Float8E8M0 ? float_to_e8m0(odd, rules.rounding, rules.saturate)
                                                   : float_to_small(dtype_of<T>, odd, rules.saturate);
    return result;
  } else if constexpr (kSmallInt<T>) {
    if constexpr (std::is_floating_point_v<From>)
      return T(truncate_to_int32(value));
    else
      return T(static_cast<int>(value & 0xff));
  } else if constexpr (std::is_integral_v<T> && std::is_floating_point_v<From>) {
    return truncate_to<T>(value);
  } else {
    return static_cast<T>(value);
  }
}

using Load = void (*)(const void* src, int64_t at, void* carriers, int64_t n);
template <typename T>
void load(const void* src, int64_t at, void* carriers, int64_t n) {
  const T* in = static_cast<const T*>(src) + at;
  auto* out = static_cast<Carrier<T>*>(carriers);
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<Carrier<T>>(static_cast<Compute<T>>(in[i]));
}

using Store = void (*)(const void* carriers, void* dst, int64_t at, int64_t n, const CastRules& rules);
template <typename C, typename T>
void store(const void* carriers, void* dst, int64_t at, int64_t n, const CastRules& rules) {
  const C* in = static_cast<const C*>(carriers);
  T* out = static_cast<T*>(dst) + at;
  for (int64_t i = 0; i < n; ++i) out[i] = convert<T>(in[i], rules);
}

template <typename C>
Store store_for(DType to) {
  Store found = nullptr;
  visit<Castable>(to, [&]<typename T>() { found = store<C, T>; });
  return found;
}

// Loops for the pairs that models use most.
using Direct = void (*)(const void* src, void* dst, int64_t n);
template <typename From, typename To>
void direct(const void* src, void* dst, int64_t n) {
  const From* in = static_cast<const From*>(src);
  To* out = static_cast<To*>(dst);
  const CastRules rules;
  for (int64_t i = 0; i < n; ++i) out[i] = convert<To>(in[i], rules);
}

template <auto kLoop, typename From, typename To>
void vectors(const void* src, void* dst, int64_t n) {
  kLoop(static_cast<const From*>(src), static_cast<To*>(dst), n);
}

Direct direct_for(DType from, DType to) {
  const auto is = [&](DType a, DType b) { return from == a && to == b; };
  if (is(DType::Float16, DType::Float32)) return vectors<simd::half_to_float, uint16_t, float>;
  if (is(DType::Float32, DType::Float16)) return vectors<simd::float_to_half, float, uint16_t>;
  if (is(DType::BFloat16, DType::Float32)) return vectors<simd::bfloat16_to_float, uint16_t, float>;
  if (is(DType::Float32, DType::BFloat16)) return vectors<simd::float_to_bfloat16, float, uint16_t>;
  using Usual = Types<float, double, int32_t, int64_t, uint8_t, int8_t, bool>;
  Direct found = nullptr;
  visit<Usual>(from,
               [&]<typename From>() { visit<Usual>(to, [&]<typename To>() { found = direct<From, To>; }); });
  return found;
}

}  // namespace

void cast_numbers(DType from, const void* src, DType to, void* dst, int64_t n, const CastRules& rules) {
  if (const Direct loop = direct_for(from, to)) {
    const size_t from_size = element_size(from), to_size = element_size(to);
    parallel_for(n, grain_for(1), [&](int64_t begin, int64_t end) {
      const size_t at = static_cast<size_t>(begin);
      loop(static_cast<const char*>(src) + at * from_size, static_cast<char*>(dst) + at * to_size,
           end - begin);
    });
    return;
  }
  Load load_block = nullptr;
  Store store_block = nullptr;
  visit<Castable>(from, [&]<typename T>() {
    load_block = load<T>;
    store_block = store_for<Carrier<T>>(to);
  });
  if (!load_block || !store_block)
    throw UnsupportedError("Cast", "numbers or bool",
                           std::string(dtype_name(from)) + " to " + dtype_name(to));
  parallel_for(n, grain_for(5), [&](int64_t begin, int64_t end) {
    constexpr int64_t kBlock = 256;
    alignas(64) uint64_t carriers[kBlock];
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t count = std::min(kBlock, end - at);
      load_block(src, at, carriers, count);
      store_block(carriers, dst, at, count, rules);
    }
  });
}

}  // namespace sardonyx::cpu
