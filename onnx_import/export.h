// From a graph to an ONNX file.
#pragma once

#include <string>

#include "graph/graph.h"

namespace sardonyx {

struct ExportOptions {
  int opset = 0;               // 0: the lowest in which every node means what it means here
  int64_t external_bytes = 0;  // tensors of at least this many bytes go to <file>.data; 0: only past 2 GB
};

// The serialized ModelProto. UnsupportedError names the node that the forced opset forbids; LimitError
// when the model needs external data.
std::string export_bytes(const Model& model, const ExportOptions& options = {});
// Written to a temporary file, synced and renamed. FileError.
void export_file(const Model& model, const std::string& path, const ExportOptions& options = {});

// A value as a serialized onnx.TensorProto, SequenceProto, ...
std::string export_value(const Value& value, const std::string& name = "");

}  // namespace sardonyx
