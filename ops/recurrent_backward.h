// Attributes of LSTMBackward, GRUBackward and RNNBackward.
#pragma once

#include <cstdint>

namespace sardonyx {

struct RecurrentBackwardAttributes {
  int64_t reverse = 0;  // the direction ran from the last step to the first
  template <class V>
  void visit(V&& v) {
    v("reverse", reverse);
  }
};

}  // namespace sardonyx
