#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_normalization(CaseTable& t) {
  t.add("BatchNormalization", {f32({2, 3, 5, 7}), f32({3}), f32({3}), f32({3}), f32({3}, Fill::Positive)});
  t.add("BatchNormalization", {f32({4, 3, 5}), f32({3}), f32({3}), f32({3}), f32({3}, Fill::Positive)})
      .integer("training_mode", 1)
      .gives(3);
  t.add("BatchNormalization", {f32({7}), f32({1}), f32({1}), f32({1}), f32({1}, Fill::Positive)});
  t.add("BatchNormalization", {f32({4, 3}), f32({3}), f32({3}), f32({3}), f32({3}, Fill::Positive)})
      .integer("training_mode", 1)
      .number("momentum", 0.7f)
      .number("epsilon", 0.01f)
      .gives(3);
  t.add("BatchNormalization", {f32({9}), f32({1}), f32({1}), f32({1}), f32({1}, Fill::Positive)})
      .integer("training_mode", 1)
      .gives(3);
  for (const int64_t axis : {-1, 1})
    t.add("LayerNormalization",
          {f32({3, 6, 40}), f32(axis == 1 ? Dims{6, 40} : Dims{40}), f32(axis == 1 ? Dims{6, 40} : Dims{40})})
        .integer("axis", axis)
        .within(1e-3);
  t.add("LayerNormalization", {f32({3, 6, 40}), f32({40})})
      .gives(3)
      .within(1e-3)
      .only_f32();  // its statistics are f32 in both
  t.add("LayerNormalization", {f32({3, 4, 5, 6}), f32({5, 6}), f32({5, 6})}).integer("axis", -2).within(1e-3);
  t.add("LayerNormalization", {f32({3, 4, 5}), f32({3, 4, 5}), f32({3, 4, 5})})
      .integer("axis", 0)
      .within(1e-3);
  t.add("LayerNormalization", {f32({3, 6, 40}), f32({40})}).number("epsilon", 0.1f).within(1e-3);
  t.add("LayerNormalization", {f32({3, 6, 40}), f32({6, 1}), f32({1})}).integer("axis", 1).within(1e-3);
  t.add("LayerNormalization", {f32({3, 6, 40}), f32({1}), f32({6, 40})}).integer("axis", 1).within(1e-3);
  t.add("RMSNormalization", {f32({3, 6, 40}), f32({40})}).within(1e-3);
  t.add("RMSNormalization", {f32({3, 6, 40}), f32({6, 1})}).integer("axis", 1).within(1e-3);
  t.add("RMSNormalization", {f32({3, 4, 5}), f32({3, 4, 5})}).integer("axis", 0).number("epsilon", 0.1f);
  t.add("InstanceNormalization", {f32({2, 3, 5}), f32({3}), f32({3})}).number("epsilon", 0.1f).within(1e-3);
  t.add("GroupNormalization", {f32({2, 6, 5}), f32({6}), f32({6})})
      .integer("num_groups", 1)
      .number("epsilon", 0.1f)
      .within(1e-3);
  t.add("GroupNormalization", {f32({2, 4, 3, 2, 5}), f32({4}), f32({4})})
      .integer("num_groups", 2)
      .within(1e-3);
  t.add("InstanceNormalization", {f32({2, 3, 5, 7}), f32({3}), f32({3})}).within(1e-3);
  t.add("GroupNormalization", {f32({2, 6, 5, 7}), f32({6}), f32({6})}).integer("num_groups", 3).within(1e-3);
  t.add("LpNormalization", {f32({3, 6, 8})}).integer("axis", 1).integer("p", 2);
  t.add("LpNormalization", {f32({3, 6, 8})}).integer("p", 1);
  t.add("LpNormalization", {f32({3, 6, 8})}).integer("axis", -3).integer("p", 1);
  t.add("LpNormalization", {f32({7})});
  t.add("LRN", {f32({2, 6, 4, 4})}).integer("size", 3);
  for (const int64_t size : {1, 4, 5})
    t.add("LRN", {f32({2, 6, 4, 4})})
        .integer("size", size)
        .number("alpha", 0.7f)
        .number("beta", 0.6f)
        .number("bias", 2);
  // With its default axes the inference of ONNX itself fails on its function body.
  t.add("MeanVarianceNormalization", {f32({2, 3, 4, 4})}).ints("axes", {0, 2, 3}).within(1e-3);
  t.add("MeanVarianceNormalization", {f32({2, 3, 4, 4})}).ints("axes", {-1}).within(1e-3);
  t.add("MeanVarianceNormalization", {f32({2, 3, 4})}).ints("axes", {0, 2}).within(1e-3);
}

}  // namespace sardonyx::test
