// What the gradients of RNN, GRU and LSTM share.
#pragma once

#include "ops/recurrent.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

struct GateFunctionName {
  std::string name;  // in lower case
  float alpha = 0, beta = 0;
};

struct RecurrentForm {
  RecurrentAttributes attributes;
  std::vector<GateFunctionName> functions;  // of all directions
  size_t gates = 1, directions = 1;
  bool linear_before_reset = false, input_forget = false, batch_first = false;
};

// The gradient by products over all steps at once and one operator of this project that goes through the
// steps; false, with nothing done, for a node of another than the common form: functions other than the
// defaults, peepholes, clip, sequence_lens, input_forget, the batch in front, GRU's reset gate before the
// product.
bool differentiate_batched(Differentiate& d, const RecurrentForm& form);

}  // namespace sardonyx
