// Template members of Tensor; included by sardonyx/tensor.h.
#pragma once

#include <algorithm>

#include "sardonyx/small_types.h"

namespace sardonyx {

template <typename T>
Tensor Tensor::of(const std::vector<T>& values) {
  return of(values, {static_cast<int64_t>(values.size())});
}

template <typename T>
Tensor Tensor::of(const std::vector<T>& values, Dims dims) {
  Tensor tensor(dtype_of<T>, std::move(dims));
  if (tensor.size() != static_cast<int64_t>(values.size()))
    throw InputError("Tensor::of", std::to_string(tensor.size()) + " values", std::to_string(values.size()));
  std::copy(values.begin(), values.end(), tensor.mutable_data<T>());
  return tensor;
}

}  // namespace sardonyx
