#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_signal(CaseTable& t) {
  t.add("DFT", {f32({1, 10, 1}), none(), constant<int64_t>({1}, {})}).within(1e-3);
  t.add("DFT", {f32({2, 16, 2}), none(), constant<int64_t>({1}, {})}).integer("inverse", 1).within(1e-3);
  t.add("DFT", {f32({1, 7, 1}), none(), constant<int64_t>({1}, {})}).integer("onesided", 1).within(1e-3);
  // Lengths that cut off or add zeros, other axes, real input of an inverse transform.
  for (const int64_t length : {5, 12, 13})
    for (const int64_t parts : {1, 2}) {
      t.add("DFT", {f32({2, 9, parts}), constant<int64_t>({length}, {}), constant<int64_t>({-2}, {})})
          .within(1e-3);
      t.add("DFT", {f32({9, 2, parts}), constant<int64_t>({length}, {}), constant<int64_t>({0}, {})})
          .integer("inverse", 1)
          .within(1e-3);
    }
  for (const int64_t length : {8, 9}) {
    t.add("DFT", {f32({3, 5, 2}), constant<int64_t>({length}, {})})
        .integer("inverse", 1)
        .integer("onesided", 1)
        .within(1e-3);
    t.add("DFT", {f32({9, 3, 1}), constant<int64_t>({length}, {}), constant<int64_t>({0}, {})})
        .integer("onesided", 1)
        .within(1e-3);
  }
  t.add("DFT", {f32({2, 5, 2})}).integer("inverse", 1).integer("onesided", 1).within(1e-3);
  for (const int64_t onesided : {0, 1}) {
    t.add("STFT", {f32({2, 20, 1}), constant<int64_t>({3}, {}), f32({6})})
        .integer("onesided", onesided)
        .within(1e-3);
    t.add("STFT", {f32({1, 12, 1}), constant<int64_t>({4}, {}), none(), constant<int64_t>({5}, {})})
        .integer("onesided", onesided)
        .within(1e-3);
  }
  t.add("STFT", {f32({1, 12, 2}), constant<int64_t>({4}, {}), f32({5}), constant<int64_t>({5}, {})})
      .integer("onesided", 0)
      .within(1e-3);
  for (const char* op : {"HannWindow", "HammingWindow", "BlackmanWindow"})
    t.add(op, {constant<int64_t>({10}, {})});
}

}  // namespace sardonyx::test
