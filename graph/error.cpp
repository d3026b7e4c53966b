#include "sardonyx/error.h"

#include <unicode/utf8.h>

#include <algorithm>

namespace sardonyx {

namespace {

constexpr int32_t kLongest = 16 << 10;

// Names in a message may come from a damaged or hostile file: what is not text is written as \xNN.
std::string printable(const std::string& text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string result;
  const auto length = static_cast<int32_t>(std::min<size_t>(text.size(), kLongest));
  for (int32_t i = 0; i < length;) {
    const int32_t begin = i;
    UChar32 c = 0;
    U8_NEXT(text.data(), i, length, c);
    if (c == '\n') {
      result += ' ';
      continue;
    }
    if (c >= 0x20 && c != 0x7f) {
      result.append(text, static_cast<size_t>(begin), static_cast<size_t>(i - begin));
      continue;
    }
    for (int32_t k = begin; k < i; ++k) {
      const auto byte = static_cast<unsigned char>(text[static_cast<size_t>(k)]);
      result += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    }
  }
  if (text.size() > static_cast<size_t>(kLongest)) result += "...";
  return result;
}

}  // namespace

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
  for (std::string* part : {&parts_.file, &parts_.node, &parts_.what, &parts_.expected, &parts_.got})
    *part = printable(*part);
  message_.clear();
  if (!parts_.file.empty()) message_ += parts_.file + ": ";
  if (!parts_.node.empty()) message_ += "node " + parts_.node + ": ";
  message_ += parts_.what;
  if (!parts_.expected.empty()) message_ += ": expected " + parts_.expected;
  if (!parts_.got.empty()) message_ += (parts_.expected.empty() ? ": got " : ", got ") + parts_.got;
}

}  // namespace sardonyx
