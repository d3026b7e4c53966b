// Conversion of elements between any two dtypes, as ONNX's Cast has it.
#pragma once

#include <string>
#include <string_view>

#include "sardonyx/small_types.h"

namespace sardonyx::cpu {

struct CastRules {
  bool saturate = true;                      // to float8: the largest number instead of infinity or NaN
  E8M0Rounding rounding = E8M0Rounding::Up;  // to float8e8m0
};

// Real and integer dtypes and bool, in any combination. Every conversion to a float rounds once; integers
// keep their low bits; floats become integers as truncate_to (integers.h) says. dst may be src where the
// elements have one size.
void cast_numbers(DType from, const void* src, DType to, void* dst, int64_t n, const CastRules& rules);

// The shortest text that reads back as the same number of this dtype, laid out as Python does; "True" and
// "False" for bool.
std::string number_to_text(DType dtype, const void* element);
// The number in a text: decimal, INF, NaN (in any case), True, False. InputError for anything else.
void text_to_number(std::string_view text, DType dtype, void* element, const CastRules& rules);

}  // namespace sardonyx::cpu
