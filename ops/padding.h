// Attributes of Pad.
#pragma once

#include <string>

#include "graph/attributes.h"

namespace sardonyx {

struct PadAttributes {
  std::string mode = "constant";
  template <class V>
  void visit(V&& v) {
    v("mode", mode);
  }
};

}  // namespace sardonyx
