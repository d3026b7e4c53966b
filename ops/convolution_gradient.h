// Sliding windows in decompositions and gradients, shared by convolution and pooling.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ops/convolution.h"
#include "ops/registry/operator.h"

namespace sardonyx {

// The attributes of a grid of windows, with the defaults filled in.
struct GridSpec {
  std::string auto_pad;
  std::vector<int64_t> strides, dilations, pads;
  GridSpec(size_t rank, std::string auto_pad, const std::optional<std::vector<int64_t>>& strides,
           const std::optional<std::vector<int64_t>>& dilations,
           const std::optional<std::vector<int64_t>>& pads);
  size_t rank() const { return strides.size(); }
  bool same() const { return auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER"; }
  // auto_pad becomes numbers, if what is known of the dims of X and of the kernel suffices.
  bool resolve(const Shape* x, const std::vector<int64_t>& kernel);
};

// The kernel's dims, from the attribute or a type of [.., .., kernel...]; empty where they are not known.
std::vector<int64_t> known_kernel(const std::optional<std::vector<int64_t>>& attribute, const Type& weights);

// The dims from `first` on, as a value.
ValueId dims_from(Compose& c, ValueId x, int64_t first);
// One dim, as a value of one element.
ValueId dim_of(Compose& c, ValueId x, int64_t axis);
// The elements that all windows span together: (out - 1) * stride + (kernel - 1) * dilation + 1, all values
// of [rank] elements.
ValueId spanned(Compose& c, const GridSpec& grid, ValueId out, ValueId kernel);
// The pads at the beginning: a constant, or for SAME what follows from the sizes.
ValueId pads_begin(Compose& c, const GridSpec& grid, ValueId in, ValueId out, ValueId kernel);
// x with spatial pads; negative ones crop.
ValueId pad_spatial(Compose& c, ValueId x, ValueId begin, ValueId end);

// Every position of dY [N, M, out...] times W [M, C / group, kernel...], added up where its window lies in an
// image of [in...] (a value): the transpose of a convolution. `begin` are its pads.
ValueId fold_windows(Compose& c, ValueId dy, ValueId w, ValueId in, ValueId begin, const GridSpec& grid,
                     int64_t group);

}  // namespace sardonyx
