#include "providers/runtime/profile.h"

#include "ops/registry/flops.h"
#include "providers/runtime/plan.h"

namespace sardonyx {

namespace {

// One side of a node: what is said of it, and what operations are counted from.
struct Side {
  std::string text;
  PortDims dims;
  size_t bytes = 0;

  void add(const TensorDesc& desc) {
    text += (text.empty() ? "" : " ") + (dtype_name(desc.dtype) + to_string(desc.dims));
    dims.emplace_back(desc.dims);
    bytes += desc.bytes();
  }
  void add_other(const char* kind) {
    text += (text.empty() ? "" : " ") + std::string(kind);
    dims.emplace_back();
  }
};

Side side_of(const Plan& plan, const std::vector<int>& tensors, size_t ports) {
  Side side;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i] >= 0) {
      side.add(plan.tensors[static_cast<size_t>(tensors[i])].desc);
    } else if (i < ports) {
      side.add_other("_");
    } else {
      side.dims.emplace_back();  // between the node's own inputs and those of the nodes computed with it
    }
  }
  return side;
}

Side side_of(const std::vector<Value>& values) {
  Side side;
  for (const Value& value : values)
    if (value.is_tensor())
      side.add({value.tensor().dtype(), value.tensor().dims()});
    else
      side.add_other(value.defined() ? value.kind_name() : "_");
  return side;
}

void fill(NodeEvent& event, Side in, Side out) {
  event.flops = node_flops(*event.node, in.dims, out.dims);
  event.inputs = std::move(in.text);
  event.outputs = std::move(out.text);
  event.bytes = in.bytes + out.bytes;
}

NodeEvent event_of(const Graph& graph, const Node& node, int64_t begin_ns, int64_t end_ns) {
  NodeEvent event{};
  event.graph = &graph;
  event.node = &node;
  event.begin_ns = begin_ns;
  event.end_ns = end_ns;
  return event;
}

}  // namespace

NodeEvent profile_step(const Graph& graph, std::shared_ptr<const Plan> plan, size_t step, int64_t begin_ns,
                       int64_t end_ns) {
  NodeEvent event = event_of(graph, *plan->steps[step].node, begin_ns, end_ns);
  event.plan = std::move(plan);
  event.step = step;
  return event;
}

void complete(NodeEvent& event) {
  if (!event.plan) return;
  const PlanStep& step = event.plan->steps[event.step];
  event.kernel = step.kernel;
  for (const Node* node : step.absorbed) event.kernel += "+" + node->op;
  fill(event, side_of(*event.plan, step.inputs, step.node->inputs.size()),
       side_of(*event.plan, step.outputs, step.node->outputs.size()));
}

NodeEvent profile_node(const Graph& graph, const Node& node, const std::string& kernel,
                       const std::vector<Value>& inputs, const std::vector<Value>& outputs, int64_t begin_ns,
                       int64_t end_ns) {
  NodeEvent event = event_of(graph, node, begin_ns, end_ns);
  event.kernel = kernel;
  fill(event, side_of(inputs), side_of(outputs));
  return event;
}

}  // namespace sardonyx
