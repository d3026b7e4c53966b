#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_reduction(CaseTable& t) {
  for (const char* op : {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2",
                         "ReduceSumSquare", "ReduceLogSumExp"})
    for (const std::vector<int64_t>& axes : {std::vector<int64_t>{0}, {1}, {-1}, {0, 2}, {0, 1, 2}})
      t.add(op, {f32({6, 35, 40}), constant<int64_t>(axes)}).integer("keepdims", axes.size() == 2 ? 0 : 1);
  for (const char* op : {"ReduceSum", "ReduceMean", "ReduceMax"}) t.add(op, {f32({3, 4})});
  t.add("ReduceProd", {f32({3, 4, 5}, Fill::Positive), constant<int64_t>({1})});
  // Lines with no zero, one, several.
  const Input whole{DType::Float32, {3, 4, 2}, Fill::Index, 5, {}, false, false};
  t.add("ReduceProd", {whole, constant<int64_t>({1})});
  t.add("ReduceProd", {whole, constant<int64_t>({-1, 0})}).integer("keepdims", 0);
  t.add("ReduceProd", {{DType::Float32, {3, 2}, Fill::Index, 6, {}, false, false}});
  t.add("ReduceProd", {f32({})});
  t.add("ReduceLogSum", {f32({3, 4, 5}, Fill::Positive), constant<int64_t>({1})});
  t.add("ReduceSum", {f32({3, 0, 5}), constant<int64_t>({1})});
  t.add("ReduceSum", {f32({3, 4}), none()}).integer("noop_with_empty_axes", 1);
  t.add("ReduceMax", {typed(DType::Int64, {3, 4, 5}), constant<int64_t>({1})});
  t.add("ReduceSum", {typed(DType::Int32, {3, 4, 5}), constant<int64_t>({-1})});
  t.add("ReduceMean", {f32({1, 64, 49, 33}), constant<int64_t>({2, 3})});
}

}  // namespace sardonyx::test
