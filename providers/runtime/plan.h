// Nodes prepared for one signature of what they read: a flat list of kernels over buffers whose places are
// known.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "graph/graph.h"
#include "providers/provider.h"

namespace sardonyx {

// Bytes that tensors of a plan lie in.
struct PlanStorage {
  enum class Kind {
    Constant,
    Input,   // a value that the run has before the plan starts
    Arena,   // at `offset` in the memory of the run
    Fresh,   // made anew in each run: it may outlive the run, or its place in it
    Inside,  // at `offset` in the storage `inside`; no tensor names it in a finished plan
  };
  Kind kind = Kind::Arena;
  ValueId input = kNone;  // Input: which
  size_t bytes = 0, offset = 0;
  int inside = -1;
  int first = 0, last = 0;  // the steps between which the bytes are needed
  Tensor constant;
  NodeId maker = kNone;
};

struct PlanTensor {
  TensorDesc desc;
  int storage = -1;
  size_t offset = 0;  // of its first byte in the storage
};

struct PlanStep {
  const Node* node = nullptr;
  NodeId id = kNone;  // kNone: a reorder that the planner put in
  // The kernel is chosen while running: the shapes of its outputs are not known before, or it has bodies.
  // Its outputs are values of the run, not tensors of the plan.
  bool interpreted = false;
  Prepared prepared = decline("");
  std::string kernel;
  std::vector<int> inputs, outputs;            // indices of plan tensors, or -1
  std::vector<std::pair<ValueId, int>> reads;  // interpreted: values that are tensors of the plan
  int scratch = -1;                            // a storage
  std::vector<const Node*> absorbed;           // nodes that the kernel computes too
};

struct Plan {
  struct Binding {
    int tensor, step;
    size_t port;
    bool is_output;
  };
  std::vector<PlanTensor> tensors;
  std::vector<PlanStorage> storages;
  std::vector<PlanStep> steps;
  std::deque<Node> reorders;                     // nodes of the planner's own steps
  std::vector<std::pair<ValueId, int>> results;  // what is read after the plan, and its tensors
  std::vector<NodeId> rest;      // nodes that are left for another plan: they wait for values of this one
  std::vector<Binding> per_run;  // where tensors stand whose bytes change from run to run
  std::vector<int> run_tensors;  // the tensors of these
  size_t arena = 0;
  NodeId largest = kNone;  // the maker of the largest tensor of the arena
  uint64_t id = 0;         // no two plans of a process have the same
};

// The elements from byte `offset` on, under other dims.
inline Tensor part_of(const Tensor& whole, Dims dims, size_t offset) {
  return Tensor(whole.dtype(), std::move(dims), whole.buffer(), whole.offset() + offset);
}

// What the planner is told about each value that the run has before the plan starts.
struct PlanInput {
  ValueId id = kNone;
  bool is_tensor = false;
  TensorDesc desc;
  std::optional<Tensor> known;  // the value, where the plan is made for it
};

// What the planner asks about the graph's nodes; answered by the executor.
struct PlanNode {
  const Provider* provider;
  const std::vector<KernelEntry>* kernels;
  const std::vector<char>* host_operand;  // parallel to the inputs
  const std::string* description;
};

// What a plan may do beyond running node by node: names for SessionOptions::disabled_passes.
const std::vector<std::string>& plan_pass_names();

struct PlanOptions {
  int threads = 1;
  std::string prefer_kernel;
  bool layouts = true;    // tensors may be stored channels last
  bool epilogues = true;  // kernels may take elementwise nodes that follow
  bool views = true;      // tensors may lie inside others: parts of a Split, inputs of a Concat
  bool segments = true;   // nodes behind values that are known only while running get plans of their own
};

// Of the nodes `scope`, in order; `nodes` is parallel to those of the graph. Errors of kernels carry the node
// they came from.
Plan make_plan(const Graph& graph, const std::vector<PlanNode>& nodes, const std::vector<NodeId>& scope,
               const std::vector<PlanInput>& inputs, const PlanOptions& options);

// One step a line: kernel, node, shapes and layouts, places in memory; then the sums.
std::string print_plan(const Graph& graph, const Plan& plan);

// Gives each Arena storage its offset, so that no two that are needed at once overlap; returns the size.
size_t place_storages(std::vector<PlanStorage>& storages);

}  // namespace sardonyx
