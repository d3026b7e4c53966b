#include "sardonyx/error.h"

namespace sardonyx {

Error::Error(std::string what, std::string expected, std::string got)
    : parts_{"", "", std::move(what), std::move(expected), std::move(got)} {
  compose();
}

Error::Error(ErrorParts parts) : parts_(std::move(parts)) { compose(); }

void Error::add_file(const std::string& file) {
  if (parts_.file.empty()) parts_.file = file;
  compose();
}

void Error::add_node(const std::string& node) {
  if (parts_.node.empty()) parts_.node = node;
  compose();
}

void Error::compose() {
  message_.clear();
  if (!parts_.file.empty()) message_ += parts_.file + ": ";
  if (!parts_.node.empty()) message_ += "node " + parts_.node + ": ";
  message_ += parts_.what;
  if (!parts_.expected.empty()) message_ += ": expected " + parts_.expected;
  if (!parts_.got.empty()) message_ += (parts_.expected.empty() ? ": got " : ", got ") + parts_.got;
}

}  // namespace sardonyx
