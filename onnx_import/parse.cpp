#include "onnx_import/parse.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/message_lite.h>

#include <cstdint>
#include <limits>

namespace sardonyx {

bool parse_message(const void* data, size_t bytes, google::protobuf::MessageLite& message) {
  constexpr int kMost = std::numeric_limits<int>::max();
  if (bytes > static_cast<size_t>(kMost)) return false;
  google::protobuf::io::CodedInputStream stream(static_cast<const uint8_t*>(data), static_cast<int>(bytes));
  stream.SetTotalBytesLimit(kMost);
  stream.SetRecursionLimit(kMaxMessageDepth);
  return message.ParseFromCodedStream(&stream) && stream.ConsumedEntireMessage();
}

}  // namespace sardonyx
