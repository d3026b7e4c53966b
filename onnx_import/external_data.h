// Tensor data that lies in files beside the model.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "sardonyx/tensor.h"

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
std::shared_ptr<Buffer> map_file(const std::string& path);

}  // namespace sardonyx
