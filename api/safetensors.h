// Tensors by name in a file: https://huggingface.co/docs/safetensors (an 8-byte length, a JSON header, the
// bytes of the tensors one after another).
#pragma once

#include <map>
#include <string>

#include "sardonyx/tensor.h"

namespace sardonyx {

struct SafeTensors {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

// In host memory. The file is complete or what it was before. UnsupportedError for dtypes that the format
// does not have, FileError when it cannot be written.
void write_safetensors(const std::string& path, const SafeTensors& content);

// FileError for what is no complete file of the format; no more is allocated than the file is long.
SafeTensors read_safetensors(const std::string& path);

}  // namespace sardonyx
