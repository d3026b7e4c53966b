// Typed errors of Sardonyx. Every error carries, where they are known, the file, the node, what was
// wrong, what was expected and what was found; what() joins them into one line:
//   model.onnx: node 'conv1' (Conv): input 'W' dim 1: expected 64, got 63
#pragma once

#include <exception>
#include <string>

#define SARDONYX_API __attribute__((visibility("default")))

namespace sardonyx {

// The parts of a message. Empty parts are left out of what().
struct ErrorParts {
  std::string file;
  std::string node;  // "'conv1' (Conv)"
  std::string what;  // the thing that is wrong, and where: "input 'W' dim 1"
  std::string expected;
  std::string got;
};

class SARDONYX_API Error : public std::exception {
 public:
  explicit Error(std::string what, std::string expected = "", std::string got = "");
  explicit Error(ErrorParts parts);
  const char* what() const noexcept override { return message_.c_str(); }
  const ErrorParts& parts() const noexcept { return parts_; }
  // Fills in a part that is still empty; the innermost context wins.
  void add_file(const std::string& file);
  void add_node(const std::string& node);

 private:
  void compose();
  ErrorParts parts_;
  std::string message_;
};

// The file or bytes are not a model this runtime can accept: damaged, inconsistent, out of limits.
class SARDONYX_API ModelError : public Error {
 public:
  using Error::Error;
};
// An operator, version or type has no implementation here.
class SARDONYX_API UnsupportedError : public Error {
 public:
  using Error::Error;
};
// What the caller passed (feeds, names, options, shapes) does not fit the model.
class SARDONYX_API InputError : public Error {
 public:
  using Error::Error;
};
// A configured limit (memory, nodes, nesting, loop iterations) would be exceeded.
class SARDONYX_API LimitError : public Error {
 public:
  using Error::Error;
};
// The run was cancelled through its CancelToken.
class SARDONYX_API CancelledError : public Error {
 public:
  using Error::Error;
};
// A device, library or provider cannot start or failed while running.
class SARDONYX_API ProviderError : public Error {
 public:
  using Error::Error;
};
// A file could not be read or written.
class SARDONYX_API FileError : public Error {
 public:
  using Error::Error;
};

}  // namespace sardonyx
