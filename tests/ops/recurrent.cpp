#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_recurrent(CaseTable& t) {
  for (const char* direction : {"forward", "reverse", "bidirectional"}) {
    const int64_t d = std::string(direction) == "bidirectional" ? 2 : 1;
    t.add("LSTM", {f32({5, 3, 4}), f32({d, 24, 4}, Fill::Unit), f32({d, 24, 6}, Fill::Unit),
                   f32({d, 48}, Fill::Unit)})
        .integer("hidden_size", 6)
        .text("direction", direction)
        .gives(3);
    t.add("GRU", {f32({5, 3, 4}), f32({d, 18, 4}, Fill::Unit), f32({d, 18, 6}, Fill::Unit),
                  f32({d, 36}, Fill::Unit)})
        .integer("hidden_size", 6)
        .text("direction", direction)
        .gives(2);
    t.add("RNN", {f32({5, 3, 4}), f32({d, 6, 4}, Fill::Unit), f32({d, 6, 6}, Fill::Unit)})
        .integer("hidden_size", 6)
        .text("direction", direction)
        .gives(2);
  }
  t.add("LSTM", {f32({1, 1, 128}), f32({1, 512, 128}, Fill::Unit), f32({1, 512, 128}, Fill::Unit), none(),
                 none(), f32({1, 1, 128}), f32({1, 1, 128})})
      .integer("hidden_size", 128)
      .gives(3)
      .within(1e-3);
  t.add("LSTM", {f32({5, 3, 4}), f32({1, 24, 4}, Fill::Unit), f32({1, 24, 6}, Fill::Unit), none(),
                 constant<int32_t>({5, 2, 4}), none(), none(), f32({1, 18}, Fill::Unit)})
      .integer("hidden_size", 6)
      .gives(3);
  t.add("GRU",
        {f32({5, 3, 4}), f32({1, 18, 4}, Fill::Unit), f32({1, 18, 6}, Fill::Unit), f32({1, 36}, Fill::Unit)})
      .integer("hidden_size", 6)
      .integer("linear_before_reset", 1)
      .gives(2);
  t.add("GRU", {f32({3, 5, 4}), f32({1, 18, 4}, Fill::Unit), f32({1, 18, 6}, Fill::Unit)})
      .integer("hidden_size", 6)
      .integer("layout", 1)
      .gives(2);
  // Every form that changes the formula: lengths, first states, peepholes, clip, coupled gates, functions
  // with parameters, the batch in front, and outputs that nobody wants.
  for (const char* direction : {"forward", "reverse", "bidirectional"})
    for (const int64_t layout : {0, 1}) {
      const int64_t d = std::string(direction) == "bidirectional" ? 2 : 1;
      const Dims x = layout == 0 ? Dims{5, 3, 2} : Dims{3, 5, 2};
      const Dims state = layout == 0 ? Dims{d, 3, 4} : Dims{3, d, 4};
      const auto add = [&](const char* op, int64_t gates) -> Case& {
        std::vector<Input> inputs = {f32(x),
                                     f32({d, gates * 4, 2}, Fill::Unit),
                                     f32({d, gates * 4, 4}, Fill::Unit),
                                     f32({d, gates * 8}, Fill::Unit),
                                     constant<int32_t>({5, 1, 3}),
                                     f32(state)};
        if (gates == 4) inputs.insert(inputs.end(), {f32(state), f32({d, 12}, Fill::Unit)});
        return t.add(op, inputs)
            .integer("hidden_size", 4)
            .integer("layout", layout)
            .text("direction", direction);
      };
      add("RNN", 1).gives(2);
      add("GRU", 3).gives(2);
      add("GRU", 3).integer("linear_before_reset", 1).gives(1);
      add("LSTM", 4).gives(3);
      add("LSTM", 4).integer("input_forget", 1).number("clip", 0.75f).gives(1);
    }
  const auto with_functions = [&](const char* op, int64_t gates, std::vector<std::string> names,
                                  std::vector<float> alpha, std::vector<float> beta) {
    t.add(op, {f32({4, 2, 3}), f32({1, gates * 5, 3}, Fill::Unit), f32({1, gates * 5, 5}, Fill::Unit)})
        .integer("hidden_size", 5)
        .with("activations", std::move(names))
        .with("activation_alpha", std::move(alpha))
        .with("activation_beta", std::move(beta))
        .gives(2);
  };
  with_functions("RNN", 1, {"Relu"}, {}, {});
  with_functions("RNN", 1, {"Affine"}, {0.5f}, {0.1f});
  with_functions("RNN", 1, {"LeakyRelu"}, {0.3f}, {});
  with_functions("RNN", 1, {"ThresholdedRelu"}, {0.2f}, {});
  with_functions("GRU", 3, {"HardSigmoid", "ScaledTanh"}, {0.3f, 0.8f}, {0.4f, 0.7f});
  with_functions("GRU", 3, {"Softsign", "Elu"}, {0.6f}, {});
  with_functions("LSTM", 4, {"Sigmoid", "Softplus", "Softsign"}, {}, {});
}

}  // namespace sardonyx::test
