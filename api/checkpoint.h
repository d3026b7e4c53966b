// The state of a training run in a file.
#pragma once

#include <limits>
#include <map>
#include <string>

#include "sardonyx/tensor.h"

namespace sardonyx {

// Where the parts of the state are, by name.
struct CheckpointParts {
  struct Counter {  // never negative
    int64_t* at;
    int64_t most = std::numeric_limits<int64_t>::max();
  };
  std::map<std::string, Tensor> tensors;  // which share memory with the state
  std::map<std::string, double*> numbers;
  std::map<std::string, Counter> counters;
};

// As safetensors; numbers and counters are JSON in the metadata `sardonyx`. FileError when it cannot be
// written.
void save_checkpoint(const std::string& path, const CheckpointParts& parts);

// Reads all parts; others in the file are ignored. FileError for what is no complete checkpoint, InputError
// where a part is missing, of another dtype or shape, or a counter too large: then nothing changes.
void load_checkpoint(const std::string& path, const CheckpointParts& parts);

}  // namespace sardonyx
