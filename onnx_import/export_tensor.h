// From values to onnx.TensorProto and its relatives.
#pragma once

#include <onnx/onnx-data.pb.h>
#include <onnx/onnx_pb.h>

#include <cstdint>
#include <string>

#include "sardonyx/tensor.h"

namespace sardonyx {

// Where the elements of a file's tensors go: into the messages, or into one file beside the model.
class TensorWriter {
 public:
  TensorWriter() = default;
  // Tensors of at least `threshold` bytes are appended to `path`, which messages call `location`. FileError.
  TensorWriter(std::string path, std::string location, int64_t threshold);
  ~TensorWriter();
  TensorWriter(const TensorWriter&) = delete;
  TensorWriter& operator=(const TensorWriter&) = delete;

  // InputError for a tensor that is not in host memory.
  void write(const Tensor& tensor, const std::string& name, onnx::TensorProto& proto);
  void write(const SparseTensor& sparse, const std::string& name, onnx::SparseTensorProto& proto);
  // Whether anything went to the file.
  bool used() const { return offset_ > 0; }
  // Brings the file to the disk and closes it.
  void finish();

 private:
  void append(const void* data, int64_t bytes);

  std::string path_, location_;
  int64_t threshold_ = -1;
  int64_t offset_ = 0;
  int fd_ = -1;
};

// Bytes of a tensor in a file.
int64_t stored_bytes(const Tensor& tensor);

}  // namespace sardonyx
