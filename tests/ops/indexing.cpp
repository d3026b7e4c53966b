#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_indexing(CaseTable& t) {
  for (const int64_t axis : {0, 1, -1})
    t.add("Gather", {f32({5, 6, 7}), index({3, 2}, 5)}).integer("axis", axis);
  t.add("Gather", {f32({5, 6}), constant<int64_t>({-1, 0, -5}, {3})});
  t.add("Gather", {f32({7, 64}), constant<int32_t>({0, 3, 3, -1, 0, 3}, {2, 3})});
  t.add("Gather", {f32({5, 6}), constant<int64_t>({2}, {})}).integer("axis", 1);
  t.add("Gather", {f32({5, 6, 2}), index({0}, 5)}).integer("axis", -2);
  t.add("GatherElements", {f32({5, 6}), index({3, 6}, 5)}).integer("axis", 0);
  t.add("GatherElements", {f32({5, 6, 2}), index({3, 4, 2}, 6)}).integer("axis", -2);
  t.add("GatherND", {f32({3, 4, 5}), index({2, 2}, 3)});
  t.add("GatherND", {f32({3, 4, 5}), index({6, 1}, 3)});
  t.add("GatherND", {f32({3, 4, 5}), index({3, 2, 1}, 4)}).integer("batch_dims", 1);
  t.add("GatherND", {f32({2, 3, 4, 5}), constant<int64_t>({0, 3, -1, 1, 2, 0}, {2, 3, 1})})
      .integer("batch_dims", 2);
  t.add("ScatterElements", {f32({5, 6}), constant<int64_t>({0, 2, 4}, {1, 3}), f32({1, 3})})
      .integer("axis", 1);
  t.add("ScatterElements", {f32({5, 6}), constant<int64_t>({0, 0, 4}, {1, 3}), f32({1, 3})})
      .integer("axis", 1)
      .text("reduction", "add");
  t.add("ScatterND", {f32({5, 6}), constant<int64_t>({4, 1}, {2, 1}), f32({2, 6})});
  for (const char* reduction : {"add", "mul", "max", "min"}) {
    t.add("ScatterElements", {f32({4, 3, 2}), index({5, 3, 2}, 4), f32({5, 3, 2})})
        .integer("axis", -3)
        .text("reduction", reduction);
    t.add("ScatterND", {f32({4, 3}), index({7, 1}, 4), f32({7, 3})}).text("reduction", reduction);
    t.add("ScatterND", {f32({4, 3}), constant<int64_t>({1, 2, -4, 0, 1, 2}, {3, 2}), f32({3})})
        .text("reduction", reduction);
  }
  // Zeros among the factors: one at a place, two at a place, one in the data.
  t.add("ScatterElements",
        {constant<float>({1, 0, 3, 4}), constant<int64_t>({0, 0, 1, 2, 2, 2, 3}), f32({7})})
      .text("reduction", "mul");
  for (const char* mode : {"linear", "circular"})
    t.add("TensorScatter", {f32({2, 3, 4, 5}), f32({2, 3, 2, 5}), constant<int64_t>({1, 2})})
        .text("mode", mode);
  t.add("TensorScatter", {f32({2, 4, 5}), f32({2, 3, 5}), constant<int64_t>({3, 7})})
      .text("mode", "circular")
      .integer("axis", 1);
  t.add("TensorScatter", {f32({2, 4, 5}), f32({2, 4, 2})}).integer("axis", -1);
  t.add("TopK", {f32({4, 9}), constant<int64_t>({3})}).gives(2);
  t.add("TopK", {f32({4, 9}), constant<int64_t>({2})}).integer("axis", 0).integer("largest", 0).gives(2);
  for (const char* op : {"ArgMax", "ArgMin"}) {
    t.add(op, {f32({4, 5, 6})}).integer("axis", 1);
    t.add(op, {f32({4, 5, 6})}).integer("axis", -1).integer("keepdims", 0);
  }
  t.add("TopK", {f32({3, 7, 2}), constant<int64_t>({4})}).integer("axis", -2).gives(2);
  t.add("OneHot", {index({4}, 5), constant<int64_t>({5}, {1}), constant<float>({0, 1})});
  t.add("OneHot", {index({4, 2}, 9), constant<int64_t>({5}, {1}), f32({2})}).integer("axis", 1);
  t.add("Unique", {constant<float>({3, 1, 1, 2, 3})}).gives(4);
  t.add("Unique", {f32({3, 4})}).gives(2);
  t.add("Unique", {f32({3, 4})}).integer("axis", -1).integer("sorted", 0).gives(1);
  t.add("NonZero", {typed(DType::Int32, {4, 5})});
  t.add("Compress", {f32({4, 5}), typed(DType::Bool, {4}, Fill::Ones)}).integer("axis", 0);
  t.add("Compress", {f32({4, 5}), constant<bool>({false, true, true, false, true})}).integer("axis", -1);
  t.add("Compress", {f32({4, 5}), constant<bool>({false, true, true, false, true, true})});
  t.add("Hardmax", {f32({3, 4})});
  t.add("ArrayFeatureExtractor", {f32({3, 5}), constant<int64_t>({4, 0, 4})}).domain = "ai.onnx.ml";
}

}  // namespace sardonyx::test
