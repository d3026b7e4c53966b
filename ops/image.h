// Attribute struct of ImageDecoder.
#pragma once

#include <string>

namespace sardonyx {

struct ImageDecoderAttributes {
  std::string pixel_format = "RGB";
  template <class V>
  void visit(V&& v) {
    v("pixel_format", pixel_format);
  }
};

}  // namespace sardonyx
