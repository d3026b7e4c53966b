#include "onnx_import/upgrade/rules.h"

namespace sardonyx::upgrade {

namespace {

// Until opset 12 all dimensions from `axis` on are one: the input is seen as a matrix.
void softmax_13(Rewrite& r) {
  int64_t axis = r.take<int64_t>("axis", 1);
  const ValueId x = r.in(0);
  const int64_t rank = r.rank(x);
  if (rank >= 0) {
    const int64_t from_front = axis < 0 ? axis + rank : axis;
    if (from_front < 0 || from_front > rank)
      throw ModelError("attribute 'axis'", "a dimension of " + to_string(*r.type(x).shape),
                       std::to_string(axis));
    if (from_front == rank - 1) {
      r.node.attributes.set("axis", int64_t{-1});
      return;
    }
    axis = from_front;
  }
  r.set_input(0, r.op("Flatten", {x}, attributes({{"axis", axis}})));
  r.node.attributes.set("axis", int64_t{1});
  const auto [matrix, output] = r.detach(0);
  r.finish(output, "Reshape", {matrix, r.shape(x)}, attributes({{"allowzero", int64_t{1}}}));
}

}  // namespace

std::vector<Step> softmax_steps() {
  return {
      {"Softmax", 13, softmax_13, ""}, {"LogSoftmax", 13, softmax_13, ""}, {"Hardmax", 13, softmax_13, ""}};
}

}  // namespace sardonyx::upgrade
