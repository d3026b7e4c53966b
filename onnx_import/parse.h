// Protobuf parsing within limits.
#pragma once

#include <cstddef>

namespace google::protobuf {
class MessageLite;
}

namespace sardonyx {

// Messages within each other: a body takes three levels, and real models stay below thirty of them.
inline constexpr int kMaxMessageDepth = 1000;

// False when the bytes are not such a message, are more than 2 GB, or nest deeper than kMaxMessageDepth.
bool parse_message(const void* data, size_t bytes, google::protobuf::MessageLite& message);

}  // namespace sardonyx
