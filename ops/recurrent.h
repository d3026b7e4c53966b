// Attribute structs of RNN, GRU and LSTM.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sardonyx {

struct RecurrentAttributes {
  std::optional<float> clip;
  std::optional<std::vector<float>> activation_alpha, activation_beta;
  std::optional<int64_t> hidden_size;
  int64_t layout = 0;
  std::string direction = "forward";
  template <class V>
  void visit(V&& v) {
    v("clip", clip);
    v("activation_alpha", activation_alpha);
    v("activation_beta", activation_beta);
    v("hidden_size", hidden_size);
    v("layout", layout);
    v("direction", direction);
  }
};

struct RnnAttributes : RecurrentAttributes {
  std::vector<std::string> activations = {"Tanh", "Tanh"};
  template <class V>
  void visit(V&& v) {
    RecurrentAttributes::visit(v);
    v("activations", activations);
  }
};

struct GruAttributes : RecurrentAttributes {
  std::optional<std::vector<std::string>> activations;
  int64_t linear_before_reset = 0;
  template <class V>
  void visit(V&& v) {
    RecurrentAttributes::visit(v);
    v("activations", activations);
    v("linear_before_reset", linear_before_reset);
  }
};

struct LstmAttributes : RecurrentAttributes {
  std::optional<std::vector<std::string>> activations;
  int64_t input_forget = 0;
  template <class V>
  void visit(V&& v) {
    RecurrentAttributes::visit(v);
    v("activations", activations);
    v("input_forget", input_forget);
  }
};

}  // namespace sardonyx
