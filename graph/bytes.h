// Bytes of tensors that lie in a file until they are needed.
#pragma once

#include <memory>
#include <vector>

#include "sardonyx/tensor.h"

namespace sardonyx {

// A file, or what stands for one, whose bytes can be had again and again.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Where `bytes` from `offset` on lie, at any alignment, until they are closed. FileError when they are no
  // longer what they were at first.
  virtual const void* open(size_t offset, size_t bytes) const = 0;
  // Nobody reads them at the moment: their memory may be taken. Safe while others have them open.
  virtual void close(size_t offset, size_t bytes) const noexcept = 0;
};

// Reads a tensor once, for a form of it that is kept instead: what still lies in a file is not kept in memory
// for it. Tensor::data(), in contrast, copies it for good.
class TensorBytes {
 public:
  explicit TensorBytes(const Tensor& tensor);
  ~TensorBytes();
  TensorBytes(const TensorBytes&) = delete;
  TensorBytes& operator=(const TensorBytes&) = delete;
  const void* data() const { return data_; }
  template <typename T>
  const T* data() const {
    return static_cast<const T*>(data_);
  }

 private:
  const Tensor& tensor_;
  std::shared_ptr<const ByteSource> source_;
  std::shared_ptr<Buffer> copy_;  // where the bytes lie at an alignment that their type does not have
  const void* data_;
};

}  // namespace sardonyx
