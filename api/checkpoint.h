// The state of a training run in a file.
#pragma once

#include <map>
#include <string>

#include "sardonyx/tensor.h"

namespace sardonyx {

// Where the parts of the state are, by name.
struct CheckpointParts {
  std::map<std::string, Tensor> tensors;  // which share memory with the state
  std::map<std::string, double*> numbers;
  std::map<std::string, int64_t*> counters;  // never negative
};

// As safetensors; numbers and counters are JSON in the metadata `sardonyx`. FileError when it cannot be
// written.
void save_checkpoint(const std::string& path, const CheckpointParts& parts);

// Reads all parts; others in the file are ignored. FileError for what is no complete checkpoint, InputError
// where a part is missing or of another dtype or shape: then nothing changes.
void load_checkpoint(const std::string& path, const CheckpointParts& parts);

}  // namespace sardonyx
