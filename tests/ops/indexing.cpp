#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_indexing(CaseTable& t) {
  for (const int64_t axis : {0, 1, -1})
    t.add("Gather", {f32({5, 6, 7}), index({3, 2}, 5)}).integer("axis", axis);
  t.add("Gather", {f32({5, 6}), constant<int64_t>({-1, 0, -5}, {3})});
  t.add("GatherElements", {f32({5, 6}), index({3, 6}, 5)}).integer("axis", 0);
  t.add("GatherND", {f32({3, 4, 5}), index({2, 2}, 3)});
  t.add("ScatterElements", {f32({5, 6}), constant<int64_t>({0, 2, 4}, {1, 3}), f32({1, 3})})
      .integer("axis", 1);
  t.add("ScatterElements", {f32({5, 6}), constant<int64_t>({0, 0, 4}, {1, 3}), f32({1, 3})})
      .integer("axis", 1)
      .text("reduction", "add");
  t.add("ScatterND", {f32({5, 6}), constant<int64_t>({4, 1}, {2, 1}), f32({2, 6})});
  t.add("TopK", {f32({4, 9}), constant<int64_t>({3})}).gives(2);
  t.add("TopK", {f32({4, 9}), constant<int64_t>({2})}).integer("axis", 0).integer("largest", 0).gives(2);
  for (const char* op : {"ArgMax", "ArgMin"}) {
    t.add(op, {f32({4, 5, 6})}).integer("axis", 1);
    t.add(op, {f32({4, 5, 6})}).integer("axis", -1).integer("keepdims", 0);
  }
  t.add("OneHot", {index({4}, 5), constant<int64_t>({5}, {1}), constant<float>({0, 1})});
  t.add("Unique", {constant<float>({3, 1, 1, 2, 3})}).gives(4);
  t.add("NonZero", {typed(DType::Int32, {4, 5})});
  t.add("Compress", {f32({4, 5}), typed(DType::Bool, {4}, Fill::Ones)}).integer("axis", 0);
}

}  // namespace sardonyx::test
