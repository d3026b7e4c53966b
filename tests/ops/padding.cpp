#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_padding(CaseTable& t) {
  for (const char* mode : {"constant", "reflect", "edge", "wrap"})
    t.add("Pad", {f32({3, 4, 5}), constant<int64_t>({1, 0, 2, 0, 2, 1})}).text("mode", mode);
  t.add("Pad", {f32({3, 4, 5}), constant<int64_t>({-1, 2}), none(), constant<int64_t>({1})});
  t.add("Pad", {f32({3, 4}), constant<int64_t>({1, 1, 1, 1}), constant<float>({7}, {})});
  // Pads on one side, crops on the other; the value is an input.
  for (const char* mode : {"constant", "reflect", "edge", "wrap"})
    t.add("Pad", {f32({4, 5, 3}), constant<int64_t>({2, -1, -1, 3}), none(), constant<int64_t>({1, -1})})
        .text("mode", mode);
  t.add("Pad", {f32({3, 4}), constant<int64_t>({1, -1, 2, 0}), f32({})});
  // The operator of which the gradients are made.
  for (const char* mode : {"reflect", "edge", "wrap", "constant"}) {
    t.add("PadBackward",
          {f32({2, 3, 7, 8}), constant<int64_t>({0, 0, 2, -1, 0, 0, 1, 4}), constant<int64_t>({2, 3, 4, 5})})
        .text("mode", mode)
        .domain = "ai.sardonyx";
    t.add("PadBackward",
          {f32({6, 4, 5}), constant<int64_t>({1, 2}), constant<int64_t>({3, 4, 5}), constant<int64_t>({-3})})
        .text("mode", mode)
        .domain = "ai.sardonyx";
  }
}

}  // namespace sardonyx::test
