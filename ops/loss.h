// Attributes of the losses.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sardonyx {

// SoftmaxCrossEntropyLoss and NegativeLogLikelihoodLoss.
struct LossAttributes {
  std::optional<int64_t> ignore_index;
  std::string reduction = "mean";
  template <class V>
  void visit(V&& v) {
    v("ignore_index", ignore_index);
    v("reduction", reduction);
  }
};

// CTCLoss and CTCLossBackward.
struct CtcAttributes {
  int64_t blank = 0;
  int64_t zero_infinity = 0;
  template <class V>
  void visit(V&& v) {
    v("blank", blank);
    v("zero_infinity", zero_infinity);
  }
};

}  // namespace sardonyx
