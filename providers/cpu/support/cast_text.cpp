#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include "providers/cpu/support/cast.h"

namespace sardonyx::cpu {

namespace {

// "d.ddde+XX" with as few digits as tell the number from its neighbours of the dtype.
std::string shortest_scientific(DType dtype, const void* element, double value) {
  char text[64];
  std::to_chars_result end{};
  if (dtype == DType::Float64) {
    end = std::to_chars(text, text + sizeof(text), value, std::chars_format::scientific);
  } else if (dtype == DType::Float32) {
    end = std::to_chars(text, text + sizeof(text), static_cast<float>(value), std::chars_format::scientific);
  } else {
    const size_t size = element_size(dtype);
    for (int digits = 0; digits <= 8; ++digits) {
      end = std::to_chars(text, text + sizeof(text), value, std::chars_format::scientific, digits);
      double back = 0;
      std::from_chars(text, end.ptr, back);
      char again[16];
      cast_numbers(DType::Float64, &back, dtype, again, 1,
                   {.saturate = true, .rounding = E8M0Rounding::Nearest});
      if (std::memcmp(again, element, size) == 0) break;
    }
  }
  return {text, end.ptr};
}

// Python's layout of a number's digits: plain from 1e-4 up to 1e16, always with a point or an exponent.
std::string python_layout(double value, const std::string& scientific) {
  const bool negative = scientific[0] == '-';
  const size_t e = scientific.find('e');
  const int exponent = std::stoi(scientific.substr(e + 1));
  std::string digits = scientific.substr(negative, e - negative);
  digits.erase(std::remove(digits.begin(), digits.end(), '.'), digits.end());
  while (digits.size() > 1 && digits.back() == '0') digits.pop_back();
  std::string text;
  const double magnitude = std::fabs(value);
  if (magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e16)) {
    text = digits.substr(0, 1) + (digits.size() > 1 ? "." + digits.substr(1) : "") + scientific.substr(e);
  } else if (exponent < 0) {
    text = "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  } else {
    const size_t whole = static_cast<size_t>(exponent) + 1;
    if (digits.size() <= whole)
      text = digits + std::string(whole - digits.size(), '0') + ".0";
    else
      text = digits.substr(0, whole) + "." + digits.substr(whole);
  }
  return negative ? "-" + text : text;
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\r\f\v";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// The whole text as a T.
template <typename T>
bool parse(std::string_view text, T* value) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, *value);
  if (result.ptr != end || text.empty()) return false;
  if constexpr (std::is_floating_point_v<T>) {
    if (result.ec == std::errc::result_out_of_range) {
      // Too large or too small: the sign of the exponent says which.
      const bool small =
          text.find("e-") != std::string_view::npos || text.find("E-") != std::string_view::npos;
      const T magnitude = small ? T(0) : std::numeric_limits<T>::infinity();
      *value = text[0] == '-' ? -magnitude : magnitude;
      return true;
    }
  }
  return result.ec == std::errc();
}

}  // namespace

std::string number_to_text(DType dtype, const void* element) {
  if (dtype == DType::Bool) return *static_cast<const bool*>(element) ? "True" : "False";
  if (dtype == DType::UInt64) return std::to_string(*static_cast<const uint64_t*>(element));
  if (!is_float(dtype)) {
    int64_t value = 0;
    cast_numbers(dtype, element, DType::Int64, &value, 1, {});
    return std::to_string(value);
  }
  double value = 0;
  cast_numbers(dtype, element, DType::Float64, &value, 1, {});
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  return python_layout(value, shortest_scientific(dtype, element, value));
}

void text_to_number(std::string_view text, DType dtype, void* element, const CastRules& rules) {
  std::string_view number = trimmed(text);
  if (number.size() > 1 && number[0] == '+' && number[1] != '-') number.remove_prefix(1);
  const auto give = [&](DType from, const void* value) {
    cast_numbers(from, value, dtype, element, 1, rules);
  };
  if (dtype == DType::Float32) {
    float value = 0;
    if (parse(number, &value)) return give(DType::Float32, &value);
  }
  if (!is_float(dtype)) {
    int64_t value = 0;
    if (parse(number, &value)) return give(DType::Int64, &value);
    uint64_t large = 0;
    if (parse(number, &large)) return give(DType::UInt64, &large);
  }
  double value = 0;
  if (parse(number, &value)) return give(DType::Float64, &value);
  const std::string word = lower(number);
  if (word == "true" || word == "false") {
    const bool truth = word == "true";
    return give(DType::Bool, &truth);
  }
  throw InputError("Cast from string", "a number", "'" + std::string(text) + "'");
}

}  // namespace sardonyx::cpu
