#include "onnx_import/outline.h"

#include <cstdint>

#include "onnx_import/parse.h"

namespace sardonyx {

namespace {

// Protocol Buffers' wire types.
enum Wire : uint32_t { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };

enum class Message { Model, Graph, Node, Attribute, Tensor, Other };

// What is read into, of messages within a message.
Message inner(Message message, uint32_t field) {
  switch (message) {
    case Message::Model:
      return field == 7 ? Message::Graph : Message::Other;
    case Message::Graph:
      return field == 1 ? Message::Node : field == 5 ? Message::Tensor : Message::Other;
    case Message::Node:
      return field == 5 ? Message::Attribute : Message::Other;
    case Message::Attribute:
      return field == 5 || field == 10   ? Message::Tensor
             : field == 6 || field == 11 ? Message::Graph
                                         : Message::Other;
    default:
      return Message::Other;
  }
}

constexpr uint32_t kRawData = 9;
constexpr size_t kMostLeft = size_t{64}
                             << 20;  // of a model that is mostly something else, there would be copies

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

class Outliner {
 public:
  Outliner(const uint8_t* data, size_t large) : data_(data), large_(large) {}
  std::vector<OutlinedBytes> regions;

  // The message in [at, end), appended to `out`; false when it is not well formed.
  bool copy(Message message, size_t at, size_t end, int depth, std::string& out) {
    if (depth > kMaxMessageDepth) return false;
    size_t plain = at;  // from here on nothing has been appended
    const auto flush = [&](size_t to) {
      if (out.size() + (to - plain) > kMostLeft) return false;
      out.append(reinterpret_cast<const char*>(data_) + plain, to - plain);
      return true;
    };
    while (at < end) {
      const size_t begin = at;
      uint64_t key = 0, length = 0;
      if (!varint(at, end, key) || key > UINT32_MAX) return false;
      const uint32_t field = static_cast<uint32_t>(key) >> 3;
      switch (key & 7) {
        case kVarint:
          if (!varint(at, end, length)) return false;
          break;
        case kFixed64:
        case kFixed32:
          length = (key & 7) == kFixed64 ? 8 : 4;
          if (length > end - at) return false;
          at += length;
          break;
        case kLength:
          if (!varint(at, end, length) || length > end - at) return false;
          at += length;
          break;
        default:
          return false;  // groups, which ONNX does not have
      }
      const size_t body = at - length;
      if (message == Message::Tensor && field == kOutlinedField) {
        if (!flush(begin)) return false;
        plain = at;
      } else if ((key & 7) != kLength) {
        continue;
      } else if (message == Message::Tensor && field == kRawData && length >= large_) {
        if (!flush(begin)) return false;
        put_varint(out, uint64_t{kOutlinedField} << 3 | kVarint);
        put_varint(out, regions.size());
        regions.push_back({body, static_cast<size_t>(length)});
        plain = at;
      } else if (inner(message, field) != Message::Other && length >= large_) {
        std::string shorter;
        if (!copy(inner(message, field), body, at, depth + 1, shorter)) return false;
        if (!flush(begin)) return false;
        put_varint(out, key);
        put_varint(out, shorter.size());
        out += shorter;
        plain = at;
      }
    }
    return flush(end);
  }

 private:
  bool varint(size_t& at, size_t end, uint64_t& value) const {
    value = 0;
    for (int shift = 0; shift < 64 && at < end; shift += 7) {
      const uint8_t byte = data_[at++];
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  const uint8_t* data_;
  size_t large_;
};

}  // namespace

std::optional<Outline> outline_model(const void* data, size_t bytes, size_t large) {
  Outliner outliner(static_cast<const uint8_t*>(data), large);
  Outline outline;
  if (!outliner.copy(Message::Model, 0, bytes, 0, outline.bytes) || outliner.regions.empty())
    return std::nullopt;
  outline.regions = std::move(outliner.regions);
  return outline;
}

}  // namespace sardonyx
