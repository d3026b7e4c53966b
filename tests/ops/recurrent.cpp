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
}

}  // namespace sardonyx::test
