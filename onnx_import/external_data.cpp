#include "onnx_import/external_data.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace sardonyx {

namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  int get() const { return fd_; }
  int take() { return std::exchange(fd_, -1); }
  bool open() const { return fd_ >= 0; }

 private:
  int fd_;
};

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISLNK(mode)) return "a symbolic link";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "another kind of file";
}

std::shared_ptr<Buffer> map_descriptor(const Descriptor& file, size_t bytes, const std::string& what) {
  if (bytes == 0) return Buffer::host(0);
  // Private and writable: a write to a tensor stays in this process. Not reserved: clean pages cost nothing.
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file.get(), 0);
  if (data == MAP_FAILED) throw FileError(what, "a file that can be mapped", std::strerror(errno));
  return std::make_shared<Buffer>(data, bytes, [bytes](void* p) { ::munmap(p, bytes); });
}

// The parts of a location, or ModelError when it could lead out of the folder.
std::vector<std::string> contained_parts(const std::string& location, const std::string& what) {
  const auto refuse = [&](const char* why) {
    throw ModelError(what, "a relative path inside the model's folder", why);
  };
  if (location.empty()) refuse("an empty path");
  if (location.find('\0') != std::string::npos) refuse("a path with a null character");
  if (location.front() == '/') refuse("an absolute path");
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= location.size();) {
    const size_t end = std::min(location.find('/', begin), location.size());
    std::string part = location.substr(begin, end - begin);
    if (part == "..") refuse("a path with '..'");
    if (!part.empty() && part != ".") parts.push_back(std::move(part));
    begin = end + 1;
  }
  if (parts.empty()) refuse("a path without a file name");
  return parts;
}

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const std::string what = "file '" + path + "'";
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file.open()) throw FileError(what, "a readable file", std::strerror(errno));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) throw FileError(what, "a readable file", std::strerror(errno));
  if (!S_ISREG(info.st_mode)) throw FileError(what, "a regular file", kind_of(info.st_mode));
  mapping_ = map_descriptor(file, static_cast<size_t>(info.st_size), what);
  changed_ = info.st_mtim;
  descriptor_ = file.take();
}

MappedFile::~MappedFile() { ::close(descriptor_); }

const void* MappedFile::open(size_t offset, size_t) const {
  struct stat info {};
  if (::fstat(descriptor_, &info) != 0 || static_cast<size_t>(info.st_size) != bytes() ||
      info.st_mtim.tv_sec != changed_.tv_sec || info.st_mtim.tv_nsec != changed_.tv_nsec)
    throw FileError("file '" + path_ + "'", "the file that was loaded, of which weights are still to be read",
                    "one that was written to since");
  return static_cast<const char*>(data()) + offset;
}

void MappedFile::close(size_t offset, size_t bytes) const noexcept {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = (offset + page - 1) / page * page, end = (offset + bytes) / page * page;
  if (end > begin) ::madvise(static_cast<char*>(mapping_->data()) + begin, end - begin, MADV_DONTNEED);
}

std::shared_ptr<Buffer> ExternalFiles::map(const std::string& location) {
  const std::string what = "external data '" + location + "'";
  if (folder_.empty()) throw ModelError(what, "a model loaded with a folder", "a model in memory");
  const std::vector<std::string> parts = contained_parts(location, what);

  Descriptor folder(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.open()) throw FileError("folder '" + folder_ + "'", "a readable folder", std::strerror(errno));
  for (size_t i = 0; i < parts.size(); ++i) {
    const bool last = i + 1 == parts.size();
    struct stat info {};
    if (::fstatat(folder.get(), parts[i].c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
      throw FileError(what, "a readable file", std::strerror(errno));
    // Asked before opening, because opening a device can have effects; asked again of what was opened.
    if (last ? !S_ISREG(info.st_mode) : !S_ISDIR(info.st_mode))
      throw ModelError(what, last ? "a regular file" : "a folder at '" + parts[i] + "'",
                       kind_of(info.st_mode));
    const int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | (last ? O_NONBLOCK | O_NOCTTY : O_DIRECTORY);
    Descriptor next(::openat(folder.get(), parts[i].c_str(), flags));
    if (!next.open()) throw FileError(what, "a readable file", std::strerror(errno));
    folder = std::move(next);
  }
  struct stat info {};
  if (::fstat(folder.get(), &info) != 0) throw FileError(what, "a readable file", std::strerror(errno));
  if (!S_ISREG(info.st_mode)) throw ModelError(what, "a regular file", kind_of(info.st_mode));
  return map_descriptor(folder, static_cast<size_t>(info.st_size), what);
}

ExternalFiles::Region ExternalFiles::region(const std::string& location, int64_t offset, int64_t bytes) {
  auto it = mapped_.find(location);
  if (it == mapped_.end()) it = mapped_.emplace(location, map(location)).first;
  const auto size = static_cast<int64_t>(it->second->bytes());
  if (offset < 0 || bytes < 0 || offset > size || bytes > size - offset)
    throw ModelError("external data '" + location + "'",
                     std::to_string(bytes) + " bytes from offset " + std::to_string(offset),
                     "a file of " + std::to_string(size) + " bytes");
  return {it->second, static_cast<size_t>(offset)};
}

}  // namespace sardonyx
