// Symbolic shapes and checked size arithmetic.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sardonyx/tensor.h"

namespace sardonyx {

// One dimension: a number, a named unknown ("batch"), or an unknown without a name.
struct Dim {
  int64_t value = -1;  // >= 0 when known
  std::string symbol;
  Dim() = default;
  Dim(int64_t v) : value(v) {}
  explicit Dim(std::string name) : symbol(std::move(name)) {}
  bool known() const { return value >= 0; }
  bool operator==(const Dim&) const = default;
  std::string to_string() const { return known() ? std::to_string(value) : symbol.empty() ? "?" : symbol; }
};

using Shape = std::vector<Dim>;

std::string to_string(const Shape& shape);
Shape shape_of(const Dims& dims);
// The concrete dims, if every one is known.
std::optional<Dims> concrete(const Shape& shape);

// Arithmetic on sizes that come from a model. LimitError on overflow; `what` names the size.
int64_t checked_add(int64_t a, int64_t b, const char* what);
int64_t checked_mul(int64_t a, int64_t b, const char* what);

// axis in [-rank, rank) -> [0, rank). ModelError naming `what` when it is out of range.
int normalize_axis(int64_t axis, int rank, const char* what = "axis");

// numpy's broadcast of two shapes; InputError when they do not fit.
Dims broadcast(const Dims& a, const Dims& b);
// Row-major strides in elements.
Dims contiguous_strides(const Dims& dims);

}  // namespace sardonyx
