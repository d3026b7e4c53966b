// Attribute struct of Softmax and LogSoftmax.
#pragma once

#include <cstdint>

namespace sardonyx {

struct SoftmaxAttributes {
  int64_t axis = -1;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
  }
};

}  // namespace sardonyx
