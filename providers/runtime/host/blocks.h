// Copies between host tensors that differ in one axis: stacking, joining and slicing.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>

#include "graph/shape.h"
#include "sardonyx/tensor.h"

namespace sardonyx::host {

// A tensor seen as [outer, size, inner] around an axis; an axis equal to the rank is one behind the last.
struct Blocks {
  int64_t outer = 1, size = 1, inner = 1;
  Blocks(const Dims& dims, size_t axis) {
    for (size_t i = 0; i < dims.size(); ++i) {
      int64_t& part = i < axis ? outer : i == axis ? size : inner;
      part = i == axis ? dims[i] : checked_mul(part, dims[i], "elements");
    }
  }
};

// Copies `rows` rows of `width` elements. Offsets and pitches (from one row to the next) are in elements.
inline void copy_rows(Tensor& dst, int64_t dst_offset, int64_t dst_pitch, const Tensor& src,
                      int64_t src_offset, int64_t src_pitch, int64_t width, int64_t rows) {
  if (width == 0) return;
  if (src.dtype() == DType::String) {
    for (int64_t r = 0; r < rows; ++r)
      std::copy_n(src.data<std::string>() + src_offset + r * src_pitch, width,
                  dst.mutable_data<std::string>() + dst_offset + r * dst_pitch);
    return;
  }
  const int64_t size = static_cast<int64_t>(element_size(src.dtype()));
  const char* from = static_cast<const char*>(src.data()) + src_offset * size;
  char* to = static_cast<char*>(dst.mutable_data()) + dst_offset * size;
  for (int64_t r = 0; r < rows; ++r)
    std::memcpy(to + r * dst_pitch * size, from + r * src_pitch * size, static_cast<size_t>(width * size));
}

}  // namespace sardonyx::host
