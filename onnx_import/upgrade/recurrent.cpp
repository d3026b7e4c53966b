#include "onnx_import/upgrade/rules.h"

namespace sardonyx::upgrade {

namespace {

// The default of the direction was misspelt.
void gru_3(Rewrite& r) {
  if (r.node.attributes.get<std::string>("direction", "") == "foward")
    r.node.attributes.set("direction", std::string("forward"));
}

// Whether the sequence is an output is seen from the outputs.
void drop_output_sequence(Rewrite& r) { r.node.attributes.erase("output_sequence"); }

}  // namespace

std::vector<Step> recurrent_steps() {
  return {{"GRU", 3, gru_3, ""},
          {"GRU", 7, drop_output_sequence, ""},
          {"LSTM", 7, drop_output_sequence, ""},
          {"RNN", 7, drop_output_sequence, ""}};
}

}  // namespace sardonyx::upgrade
