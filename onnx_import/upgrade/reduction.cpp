#include "onnx_import/upgrade/rules.h"

namespace sardonyx::upgrade {

namespace {

// No axes, or an empty list, mean all axes before and after.
void axes_to_input(Rewrite& r) {
  std::vector<int64_t> axes = r.take<std::vector<int64_t>>("axes", {});
  if (!axes.empty()) r.set_input(1, r.ints(std::move(axes)));
}

}  // namespace

std::vector<Step> reduction_steps() {
  std::vector<Step> steps = {{"ReduceSum", 13, axes_to_input, ""},
                             {"ReduceLogSum", 28, in_float64, ""},
                             {"ReduceLogSumExp", 28, in_float64, ""}};
  for (const char* op : {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
                         "ReduceMin", "ReduceProd", "ReduceSumSquare"})
    steps.push_back({op, 18, axes_to_input, ""});
  return steps;
}

}  // namespace sardonyx::upgrade
