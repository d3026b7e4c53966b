// From a run-time dtype to a compile-time type.
#pragma once

#include <complex>
#include <string>
#include <type_traits>

#include "sardonyx/small_types.h"
#include "sardonyx/tensor.h"

namespace sardonyx::cpu {

inline bool is_f32_or_bf16(DType dtype) { return dtype == DType::Float32 || dtype == DType::BFloat16; }

template <typename... Ts>
struct Types {};
template <typename A, typename B>
struct JoinTypes;
template <typename... As, typename... Bs>
struct JoinTypes<Types<As...>, Types<Bs...>> {
  using type = Types<As..., Bs...>;
};
template <typename A, typename B>
using Join = typename JoinTypes<A, B>::type;

using Floats = Types<float, double>;
using HalfFloats = Types<Half, BFloat16>;
using AllFloats = Join<Floats, HalfFloats>;
using Ints = Types<int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t>;
using Complexes = Types<std::complex<float>, std::complex<double>>;
using SmallFloats = Types<Float8E4M3FN, Float8E4M3FNUZ, Float8E5M2, Float8E5M2FNUZ, Float8E8M0, Float6E2M3,
                          Float6E3M2, Float4E2M1>;
using SmallInts = Types<Int4, UInt4, Int2, UInt2>;
using Numbers = Join<Floats, Ints>;
using AllNumbers = Join<AllFloats, Ints>;

// Calls f.template operator()<T>() for the type of `dtype`; false when it is not in the list.
//   visit<Numbers>(dtype, [&]<typename T>() { ... });
template <typename List, typename F>
struct Visitor;
template <typename... Ts, typename F>
struct Visitor<Types<Ts...>, F> {
  static bool visit(DType dtype, F& f) {
    return ((dtype == dtype_of<Ts> ? (f.template operator()<Ts>(), true) : false) || ...);
  }
};
template <typename List, typename F>
bool visit(DType dtype, F&& f) {
  return Visitor<List, std::remove_reference_t<F>>::visit(dtype, f);
}

// The type that holds an element's bits, for kernels that only move elements: five types cover all dtypes.
struct Bits128 {
  uint64_t lo, hi;
  bool operator==(const Bits128&) const = default;
};
template <typename F>
void visit_storage(DType dtype, F&& f) {
  if (dtype == DType::String) return f.template operator()<std::string>();
  switch (element_size(dtype)) {
    case 1:
      return f.template operator()<uint8_t>();
    case 2:
      return f.template operator()<uint16_t>();
    case 4:
      return f.template operator()<uint32_t>();
    case 8:
      return f.template operator()<uint64_t>();
    case 16:
      return f.template operator()<Bits128>();
    default:
      throw UnsupportedError(std::string("element type ") + dtype_name(dtype));
  }
}

// The type to compute in: float for the 16-bit and smaller floats, the type itself otherwise.
template <typename T>
struct ComputeType {
  using type = T;
};
template <>
struct ComputeType<Half> {
  using type = float;
};
template <>
struct ComputeType<BFloat16> {
  using type = float;
};
template <DType kDType>
struct ComputeType<SmallFloat<kDType>> {
  using type = float;
};
template <int kBits, bool kSigned>
struct ComputeType<SmallInt<kBits, kSigned>> {
  using type = int;
};
template <typename T>
using Compute = typename ComputeType<T>::type;

}  // namespace sardonyx::cpu
