// Tensor data that lies in files beside the model.
#pragma once

#include <ctime>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "graph/bytes.h"

namespace sardonyx {

// The only way from a name in a model to a file. A location is a relative path below the model's folder
// without `..`, and every part of it is opened from the folder's descriptor without following symbolic
// links; only regular files are read.
class ExternalFiles {
 public:
  // An empty folder refuses all external data.
  explicit ExternalFiles(std::string folder) : folder_(std::move(folder)) {}

  struct Region {
    std::shared_ptr<Buffer> buffer;  // the mapped file, shared by all of its regions
    size_t offset = 0;
  };
  // Bytes [offset, offset + bytes) of a file, mapped copy-on-write. ModelError when the location is not
  // contained or the file is too short, FileError when it cannot be read.
  Region region(const std::string& location, int64_t offset, int64_t bytes);

 private:
  std::shared_ptr<Buffer> map(const std::string& location);
  std::string folder_;
  std::map<std::string, std::shared_ptr<Buffer>> mapped_;
};

// A file of the caller's choice, mapped whole. FileError when it cannot be read or is not a regular file.
class MappedFile final : public ByteSource {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile() override;
  const void* data() const { return mapping_->data(); }
  size_t bytes() const { return mapping_->bytes(); }
  // FileError when the file was changed in place since it was mapped: reading past its new end would be a
  // fault.
  const void* open(size_t offset, size_t bytes) const override;
  // Gives the pages back that lie wholly within; the file has them again.
  void close(size_t offset, size_t bytes) const noexcept override;

 private:
  std::string path_;
  int descriptor_ = -1;
  struct timespec changed_ {};
  std::shared_ptr<Buffer> mapping_;
};

}  // namespace sardonyx
