// A graph prepared for one signature of its inputs: a flat list of kernels over buffers whose places are
// known.
#pragma once

#include <deque>
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
    Input,    // a feed of this run
    Capture,  // a value of the enclosing graph in this run
    Arena,    // at `offset` in the memory of the run
    Fresh,    // made anew in each run: it may outlive the run, or its place in it
  };
  Kind kind = Kind::Arena;
  size_t index = 0;  // Input, Capture: which
  size_t bytes = 0, offset = 0;
  int first = 0, last = 0;  // the steps between which the bytes are needed
  Tensor constant;
  NodeId maker = kNone;
};

struct PlanTensor {
  TensorDesc desc;
  int storage = -1;
};

struct PlanStep {
  const Node* node = nullptr;
  NodeId id = kNone;  // kNone: a reorder that the planner put in
  // The kernel is chosen while running: the shapes of its inputs, or values that its shape depends on, are
  // not known before. Its outputs are values of the run, not tensors of the plan.
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
  std::deque<Node> reorders;  // nodes of the planner's own steps
  std::vector<int> outputs;   // parallel to the graph's: a plan tensor, or -1 for a value made while running
  std::vector<Binding> per_run;  // where tensors stand whose bytes change from run to run
  std::vector<int> run_tensors;  // the tensors of these
  size_t arena = 0;
  NodeId largest = kNone;  // the maker of the largest tensor of the arena
  uint64_t id = 0;         // no two plans of a process have the same
};

// What the planner is told about each input and capture of the graph.
struct PlanInput {
  bool is_tensor = false;
  TensorDesc desc;
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
};

// Errors of kernels carry the node they came from.
Plan make_plan(const Graph& graph, const std::vector<PlanNode>& nodes, const std::vector<PlanInput>& inputs,
               const std::vector<PlanInput>& captures, const PlanOptions& options);

// One step a line: kernel, node, shapes and layouts, places in memory; then the sums.
std::string print_plan(const Graph& graph, const Plan& plan);

// Gives each Arena storage its offset, so that no two that are needed at once overlap; returns the size.
size_t place_storages(std::vector<PlanStorage>& storages);

}  // namespace sardonyx
