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

  void add(DType dtype, const Dims& shape) {
    text += (text.empty() ? "" : " ") + (dtype_name(dtype) + to_string(shape));
    dims.emplace_back(shape);
    bytes += static_cast<size_t>(element_count(shape)) * element_size(dtype);
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
      const TensorDesc& desc = plan.tensors[static_cast<size_t>(tensors[i])].desc;
      side.add(desc.dtype, desc.dims);
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
      side.add(value.tensor().dtype(), value.tensor().dims());
    else
      side.add_other(value.defined() ? value.kind_name() : "_");
  return side;
}

NodeEvent event(const Graph& graph, const Node& node, std::string kernel, Side in, Side out, int64_t begin_ns,
                int64_t end_ns) {
  const auto flops = node_flops(node, in.dims, out.dims);
  return {&graph,
          &node,
          std::move(kernel),
          std::move(in.text),
          std::move(out.text),
          begin_ns,
          end_ns,
          in.bytes + out.bytes,
          flops};
}

}  // namespace

NodeEvent profile_step(const Graph& graph, const Plan& plan, const PlanStep& step, int64_t begin_ns,
                       int64_t end_ns) {
  std::string kernel = step.kernel;
  for (const Node* node : step.absorbed) kernel += "+" + node->op;
  return event(graph, *step.node, std::move(kernel), side_of(plan, step.inputs, step.node->inputs.size()),
               side_of(plan, step.outputs, step.node->outputs.size()), begin_ns, end_ns);
}

NodeEvent profile_node(const Graph& graph, const Node& node, const std::string& kernel,
                       const std::vector<Value>& inputs, const std::vector<Value>& outputs, int64_t begin_ns,
                       int64_t end_ns) {
  return event(graph, node, kernel, side_of(inputs), side_of(outputs), begin_ns, end_ns);
}

}  // namespace sardonyx
