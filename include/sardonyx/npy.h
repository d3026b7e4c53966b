// NumPy's .npy and .npz files (format versions 1 to 3; npz stored or deflated).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "sardonyx/tensor.h"

namespace sardonyx {

// FileError when the file cannot be read or is damaged, UnsupportedError for structured, object or
// big-endian arrays. Fortran order is converted.
SARDONYX_API Tensor read_npy(const std::string& path);
SARDONYX_API std::map<std::string, Tensor> read_npz(const std::string& path);

// Types that numpy lacks are written under numpy's void types ("|V1", "|V2"), as ml_dtypes does; strings as
// unicode arrays. The file appears under its name only when it is complete.
SARDONYX_API void write_npy(const std::string& path, const Tensor& tensor);
SARDONYX_API void write_npz(const std::string& path,
                            const std::vector<std::pair<std::string, Tensor>>& tensors);

}  // namespace sardonyx
