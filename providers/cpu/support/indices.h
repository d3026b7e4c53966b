// Reads the index operands of Gather, Scatter and their kin.
#pragma once

#include <string>

#include "graph/shape.h"
#include "sardonyx/tensor.h"

namespace sardonyx::cpu {

[[noreturn, gnu::noinline, gnu::cold]] inline void throw_index_out_of_range(int64_t index, int64_t size) {
  throw InputError("index", "[" + std::to_string(-size) + ", " + std::to_string(size - 1) + "]",
                   std::to_string(index));
}

// An index along an axis of `size` elements, in [0, size): negative ones count from the end. InputError when
// it is out of range.
inline int64_t wrap_index(int64_t index, int64_t size) {
  const int64_t wrapped = index < 0 ? index + size : index;
  if (static_cast<uint64_t>(wrapped) >= static_cast<uint64_t>(size)) throw_index_out_of_range(index, size);
  return wrapped;
}

// int32 or int64 indices.
class Indices {
 public:
  explicit Indices(const Tensor& tensor) : wide_(tensor.dtype() == DType::Int64), data_(tensor.data()) {}
  int64_t at(int64_t i, int64_t size) const {
    return wrap_index(wide_ ? static_cast<const int64_t*>(data_)[i] : static_cast<const int32_t*>(data_)[i],
                      size);
  }

 private:
  bool wide_;
  const void* data_;
};

inline bool is_index_type(DType dtype) { return dtype == DType::Int32 || dtype == DType::Int64; }

// f(pointer to the indices) with their own type.
template <typename F>
void visit_indices(const Tensor& tensor, F&& f) {
  if (tensor.dtype() == DType::Int64)
    f(tensor.data<int64_t>());
  else
    f(tensor.data<int32_t>());
}

// A tensor seen as [outer, size, inner] around one axis.
struct AxisView {
  int64_t outer = 1, size = 1, inner = 1;
  AxisView(const Dims& dims, size_t axis) : size(dims[axis]) {
    for (size_t i = 0; i < dims.size(); ++i)
      if (i < axis)
        outer = checked_mul(outer, dims[i], "elements before the axis");
      else if (i > axis)
        inner = checked_mul(inner, dims[i], "elements after the axis");
    if (inner == 0) outer = 0;  // nothing to visit, however many rows of nothing there are
  }
};

}  // namespace sardonyx::cpu
