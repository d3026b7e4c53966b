#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_loss(CaseTable& t) {
  const std::pair<Dims, Dims> shapes[] = {
      {{6, 5}, {6}}, {{3, 5, 4}, {3, 4}}, {{2, 4, 3, 5}, {2, 3, 5}}, {{1, 1}, {1}}};
  for (const char* op : {"SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"})
    for (const auto& [scores, labels] : shapes)
      for (const char* reduction : {"none", "sum", "mean"}) {
        t.add(op, {f32(scores), index(labels, scores[1])}).text("reduction", reduction);
        t.add(op, {f32(scores), index(labels, scores[1]), f32({scores[1]}, Fill::Positive)})
            .text("reduction", reduction);
        if (scores[1] == 1) continue;  // all would be ignored
        t.add(op, {f32(scores), index(labels, scores[1])})
            .text("reduction", reduction)
            .integer("ignore_index", 1);
        t.add(op, {f32(scores), index(labels, scores[1]), f32({scores[1]}, Fill::Positive)})
            .text("reduction", reduction)
            .integer("ignore_index", 2);
      }
  for (const char* reduction : {"none", "sum", "mean"}) {
    t.add("SoftmaxCrossEntropyLoss", {f32({6, 5}), index({6}, 5)}).text("reduction", reduction).gives(2);
    t.add("SoftmaxCrossEntropyLoss", {f32({2, 5, 3}), index({2, 3}, 5), f32({5}, Fill::Positive)})
        .text("reduction", reduction)
        .integer("ignore_index", 0)
        .gives(2);
  }
  t.add("SoftmaxCrossEntropyLoss", {f32({6, 5}), typed(DType::Int32, {6}, Fill::Index)});  // all of class 0
}

}  // namespace sardonyx::test
