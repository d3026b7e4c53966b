// A serialized model without the bytes of its large tensors.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace sardonyx {

struct OutlinedBytes {
  size_t offset, bytes;  // in the model
};

struct Outline {
  std::string bytes;                   // the model, with a field kOutlinedField in place of what was left out
  std::vector<OutlinedBytes> regions;  // by the number in that field
};

// A field that onnx.TensorProto does not have. A model that has it all the same names other bytes of its own.
inline constexpr int kOutlinedField = 0x1000000;

// Leaves out raw_data of at least `large` bytes (> 0) of the initializers and the attributes of nodes, bodies
// included. Nothing when there is none of these, or the bytes are not of this form: then the parser has the
// last word.
std::optional<Outline> outline_model(const void* data, size_t bytes, size_t large);

}  // namespace sardonyx
