// From ONNX files and bytes to a Model.
#pragma once

#include <memory>
#include <string>

#include "graph/graph.h"

namespace sardonyx {

struct ImportLimits {
  int64_t max_nodes = 2'000'000;  // after function expansion
  int64_t max_nesting = 64;       // bodies and functions within each other
};

// Reads a model as it is written: every node keeps the opset version of its scope, functions are inlined
// (recursion is refused), initializers are constants (from IR 4 on, one that is also an input is an input
// with a default), external data is memory-mapped and must lie inside the model's folder.
// FileError, ModelError, LimitError, or UnsupportedError that lists all unknown operators.
std::shared_ptr<const Model> import_file(const std::string& path, const ImportLimits& limits = {});
std::shared_ptr<const Model> import_bytes(const void* data, size_t bytes, const std::string& folder = "",
                                          const std::string& display_name = "",
                                          const ImportLimits& limits = {});

// One onnx.TensorProto / SequenceProto / OptionalProto in serialized form.
enum class ProtoKind { Tensor, SparseTensor, Sequence, Optional, Map };
Value import_value(const void* data, size_t bytes, ProtoKind kind = ProtoKind::Tensor);

}  // namespace sardonyx
