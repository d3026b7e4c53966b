#include "sardonyx/dtype.h"

#include <array>
#include <string>

namespace sardonyx {

namespace {
enum class Class { Other, Float, Signed, Unsigned, Complex };
struct Facts {
  const char* name;
  size_t size;  // bytes in memory
  int bits;     // bits in a file
  Class kind;
};
constexpr std::array<Facts, kDTypeCount> kFacts = {{
    {"undefined", 0, 0, Class::Other},
    {"float", 4, 32, Class::Float},
    {"uint8", 1, 8, Class::Unsigned},
    {"int8", 1, 8, Class::Signed},
    {"uint16", 2, 16, Class::Unsigned},
    {"int16", 2, 16, Class::Signed},
    {"int32", 4, 32, Class::Signed},
    {"int64", 8, 64, Class::Signed},
    {"string", sizeof(std::string), 0, Class::Other},
    {"bool", 1, 8, Class::Other},
    {"float16", 2, 16, Class::Float},
    {"double", 8, 64, Class::Float},
    {"uint32", 4, 32, Class::Unsigned},
    {"uint64", 8, 64, Class::Unsigned},
    {"complex64", 8, 64, Class::Complex},
    {"complex128", 16, 128, Class::Complex},
    {"bfloat16", 2, 16, Class::Float},
    {"float8e4m3fn", 1, 8, Class::Float},
    {"float8e4m3fnuz", 1, 8, Class::Float},
    {"float8e5m2", 1, 8, Class::Float},
    {"float8e5m2fnuz", 1, 8, Class::Float},
    {"uint4", 1, 4, Class::Unsigned},
    {"int4", 1, 4, Class::Signed},
    {"float4e2m1", 1, 4, Class::Float},
    {"float8e8m0", 1, 8, Class::Float},
    {"uint2", 1, 2, Class::Unsigned},
    {"int2", 1, 2, Class::Signed},
    {"float6e2m3", 1, 6, Class::Float},
    {"float6e3m2", 1, 6, Class::Float},
}};
const Facts& facts(DType dtype) {
  const auto i = static_cast<size_t>(dtype);
  return kFacts[i < kFacts.size() ? i : 0];
}
}  // namespace

size_t element_size(DType dtype) { return facts(dtype).size; }
int element_bits(DType dtype) { return facts(dtype).bits; }
const char* dtype_name(DType dtype) { return facts(dtype).name; }

DType dtype_from_name(std::string_view name) {
  for (size_t i = 1; i < kFacts.size(); ++i)
    if (name == kFacts[i].name) return static_cast<DType>(i);
  return DType::Undefined;
}

bool is_valid_dtype(int32_t onnx_value) { return onnx_value > 0 && onnx_value < kDTypeCount; }
bool is_float(DType dtype) { return facts(dtype).kind == Class::Float; }
bool is_signed_integer(DType dtype) { return facts(dtype).kind == Class::Signed; }
bool is_integer(DType dtype) { return is_signed_integer(dtype) || facts(dtype).kind == Class::Unsigned; }
bool is_complex(DType dtype) { return facts(dtype).kind == Class::Complex; }

}  // namespace sardonyx
