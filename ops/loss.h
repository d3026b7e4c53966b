// Attributes of SoftmaxCrossEntropyLoss and NegativeLogLikelihoodLoss.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sardonyx {

struct LossAttributes {
  std::optional<int64_t> ignore_index;
  std::string reduction = "mean";
  template <class V>
  void visit(V&& v) {
    v("ignore_index", ignore_index);
    v("reduction", reduction);
  }
};

}  // namespace sardonyx
