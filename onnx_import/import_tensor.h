// From onnx.TensorProto and its relatives to values.
#pragma once

#include <onnx/onnx-data.pb.h>
#include <onnx/onnx_pb.h>

#include <string>
#include <unordered_map>
#include <vector>

#include "onnx_import/external_data.h"
#include "onnx_import/outline.h"
#include "sardonyx/tensor.h"

namespace sardonyx {

// Reads the tensors of one model. Bytes are taken out of the messages, so each message is read once and
// remembered: reading it again (a function inlined twice) gives the same buffer.
class TensorReader {
 public:
  explicit TensorReader(std::string folder) : files_(std::move(folder)) {}
  // The model's bytes were outlined: tensors that say so have theirs in these parts of a file.
  void outlined(std::vector<OutlinedBytes> regions, std::shared_ptr<const MappedFile> file) {
    regions_ = std::move(regions);
    file_ = std::move(file);
  }

  // ModelError when the message contradicts itself: type, dimensions, storage field or its length.
  Tensor dense(onnx::TensorProto& proto);
  // Indices are checked: in range, ascending, unique.
  SparseTensor sparse(onnx::SparseTensorProto& proto);
  // LimitError when the dense form would be out of proportion to what the file holds.
  Tensor densified(onnx::SparseTensorProto& proto);

  Value sequence(onnx::SequenceProto& proto);
  Value optional(onnx::OptionalProto& proto);
  Value map(onnx::MapProto& proto);

 private:
  Tensor read(onnx::TensorProto& proto);
  Tensor external(const onnx::TensorProto& proto, DType dtype, Dims dims, int64_t bytes,
                  const std::string& what);

  // The part of the file where the bytes of raw_data are, or null.
  const OutlinedBytes* region_of(const onnx::TensorProto& proto) const;

  ExternalFiles files_;
  std::vector<OutlinedBytes> regions_;
  std::shared_ptr<const MappedFile> file_;
  std::unordered_map<const void*, Tensor> read_;
  int64_t sparse_allowance_ = int64_t{1} << 30;  // bytes of dense memory that sparse tensors may still take
};

}  // namespace sardonyx
