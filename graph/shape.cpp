#include "graph/shape.h"

#include <algorithm>

namespace sardonyx {

namespace {
template <typename List, typename F>
std::string join(const List& list, F&& text) {
  std::string result = "[";
  for (size_t i = 0; i < list.size(); ++i) result += (i ? ", " : "") + text(list[i]);
  return result + "]";
}
}  // namespace

std::string to_string(const Dims& dims) {
  return join(dims, [](int64_t d) { return std::to_string(d); });
}
std::string to_string(const Shape& shape) {
  return join(shape, [](const Dim& d) { return d.to_string(); });
}
Shape shape_of(const Dims& dims) { return Shape(dims.begin(), dims.end()); }

std::optional<Dims> concrete(const Shape& shape) {
  Dims dims;
  for (const Dim& dim : shape) {
    if (!dim.known()) return std::nullopt;
    dims.push_back(dim.value);
  }
  return dims;
}

int64_t checked_add(int64_t a, int64_t b, const char* what) {
  int64_t sum;
  if (__builtin_add_overflow(a, b, &sum))
    throw LimitError(what, "a 64-bit size", std::to_string(a) + " + " + std::to_string(b));
  return sum;
}

int64_t checked_mul(int64_t a, int64_t b, const char* what) {
  int64_t product;
  if (__builtin_mul_overflow(a, b, &product))
    throw LimitError(what, "a 64-bit size", std::to_string(a) + " x " + std::to_string(b));
  return product;
}

int64_t element_count(const Dims& dims) {
  // What lies beside a zero counts too: strides and offsets made of it must not overflow.
  constexpr int64_t kMost = int64_t{1} << 56;
  int64_t extent = 1;
  bool empty = false;
  for (const int64_t dim : dims) {
    if (dim < 0)
      throw ModelError("shape " + to_string(dims), "dimensions of at least 0", std::to_string(dim));
    empty = empty || dim == 0;
    extent = checked_mul(extent, std::max<int64_t>(dim, 1), "elements of a tensor");
  }
  if (extent > kMost)
    throw LimitError("shape " + to_string(dims), "dimensions of at most 2^56 in all", std::to_string(extent));
  return empty ? 0 : extent;
}

int normalize_axis(int64_t axis, int rank, const char* what) {
  if (axis < -rank || axis >= rank)
    throw ModelError(what, "a value in [" + std::to_string(-rank) + ", " + std::to_string(rank) + ")",
                     std::to_string(axis));
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

Dims broadcast(const Dims& a, const Dims& b) {
  Dims result(std::max(a.size(), b.size()));
  for (size_t i = 0; i < result.size(); ++i) {
    const int64_t da = i < a.size() ? a[a.size() - 1 - i] : 1;
    const int64_t db = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (da != db && da != 1 && db != 1)
      throw InputError("shapes", "two that broadcast", to_string(a) + " and " + to_string(b));
    result[result.size() - 1 - i] = da == 1 ? db : da;
  }
  return result;
}

Dims contiguous_strides(const Dims& dims) {
  Dims strides(dims.size());
  int64_t stride = 1;
  for (size_t i = dims.size(); i-- > 0;) {
    strides[i] = stride;
    stride = checked_mul(stride, std::max<int64_t>(dims[i], 1), "elements of a tensor");
  }
  return strides;
}

}  // namespace sardonyx
