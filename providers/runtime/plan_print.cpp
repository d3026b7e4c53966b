#include "providers/runtime/plan.h"

namespace sardonyx {

namespace {

std::string place_of(const Graph& graph, const PlanStorage& storage) {
  switch (storage.kind) {
    case PlanStorage::Kind::Constant:
      return "constant";
    case PlanStorage::Kind::Input:
      return "input " + graph.value(storage.input).name;
    case PlanStorage::Kind::Arena:
      return "@" + std::to_string(storage.offset);
    case PlanStorage::Kind::Fresh:
      return "output";
    case PlanStorage::Kind::Inside:
      break;
  }
  return "?";
}

std::string describe_tensor(const Graph& graph, const Plan& plan, int index) {
  if (index < 0) return "_";
  const PlanTensor& tensor = plan.tensors[static_cast<size_t>(index)];
  return std::string(dtype_name(tensor.desc.dtype)) + to_string(tensor.desc.dims) +
         (tensor.desc.layout == Layout::ChannelsLast ? " channels last" : "") + " " +
         place_of(graph, plan.storages[static_cast<size_t>(tensor.storage)]) +
         (tensor.offset ? " from byte " + std::to_string(tensor.offset) : "");
}

}  // namespace

std::string print_plan(const Graph& graph, const Plan& plan) {
  std::string text;
  size_t kernels = 0, reorders = 0, interpreted = 0, absorbed = 0;
  for (const PlanStep& step : plan.steps) {
    (step.id == kNone ? reorders : step.interpreted ? interpreted : kernels) += 1;
    absorbed += step.absorbed.size();
    text += step.interpreted ? "chosen while running" : step.kernel;
    for (const Node* node : step.absorbed) text += "+" + node->op;
    text += "  " + (step.id == kNone ? step.node->name : describe(graph, *step.node));
    if (!step.interpreted) {
      text += "\n   ";
      for (size_t i = 0; i < step.inputs.size(); ++i)
        if (i < step.node->inputs.size() || step.inputs[i] >= 0)
          text += " (" + describe_tensor(graph, plan, step.inputs[i]) + ")";
      text += " ->";
      for (const int output : step.outputs) text += " (" + describe_tensor(graph, plan, output) + ")";
      if (step.scratch >= 0)
        text += " scratch " + std::to_string(plan.storages[static_cast<size_t>(step.scratch)].bytes);
    }
    text += "\n";
  }
  return text + std::to_string(kernels) + " kernels with " + std::to_string(absorbed) + " absorbed nodes, " +
         std::to_string(reorders) + " reorders, " + std::to_string(interpreted) +
         " nodes chosen while running, " +
         (plan.rest.empty() ? "" : std::to_string(plan.rest.size()) + " left for another plan, ") +
         std::to_string(plan.arena) + " bytes of arena\n";
}

}  // namespace sardonyx
