// Between our types and ONNX's protobuf messages. Only for files that may include ONNX headers.
#pragma once

#include <onnx/onnx_pb.h>

#include <string>

#include "graph/graph.h"

namespace sardonyx {

onnx::TypeProto to_proto(const Type& type);
Type from_proto(const onnx::TypeProto& type);
// A dense host tensor; narrow types are packed, strings written as such.
void to_proto(const Tensor& tensor, onnx::TensorProto& proto);
// False for what has no message without a file around it (graphs, and values other than tensors).
bool to_proto(const std::string& name, const Attribute& attribute, onnx::AttributeProto& proto);

// Bytes of `count` elements in a file: narrow types are packed, low bits first.
int64_t packed_bytes(DType dtype, int64_t count);
void pack_elements(DType dtype, const void* elements, int64_t count, uint8_t* packed);
void unpack_elements(DType dtype, const uint8_t* packed, int64_t count, void* elements);

}  // namespace sardonyx
