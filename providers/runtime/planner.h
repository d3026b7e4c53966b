// What the files of the planner share.
#pragma once

#include <algorithm>
#include <deque>
#include <optional>
#include <set>
#include <vector>

#include "providers/runtime/plan.h"

namespace sardonyx {

// Walks the nodes in order, and gives every value its tensor and every tensor its storage.
class Planner {
 public:
  Planner(const Graph& graph, const std::vector<PlanNode>& nodes, const std::vector<NodeId>& scope,
          const PlanOptions& options)
      : graph_(graph),
        nodes_(nodes),
        scope_(scope),
        options_(options),
        values_(graph.values().size()),
        absorbed_(nodes.size(), 0),
        begun_(nodes.size(), 1),
        waiting_(nodes.size(), 0) {
    for (const NodeId n : scope) begun_[static_cast<size_t>(n)] = 0;
  }
  Plan run(const std::vector<PlanInput>& inputs);

 private:
  // Where a value comes from that is no tensor of the plan so far.
  enum class Origin : uint8_t {
    Outside,   // the run has it before; it is no tensor
    Step,      // a step of this plan makes it, but its dims are not known
    Deferred,  // a node of Plan::rest makes it
  };
  enum class Readiness : uint8_t {
    Ready,
    Deferred,  // another plan, made when the inputs are there, may hold it
    Never,     // no plan can hold it
  };
  struct ValueState {
    int tensors[2] = {-1, -1};  // by layout
    const Tensor* known = nullptr;
    int uses = 0;  // reads that are still to come
    std::vector<NodeId> readers;
    bool escapes = false;  // an output, or read by bodies and by nodes that are left to the run
    bool made = false;     // a tensor that a node of this plan makes
    Origin origin = Origin::Outside;
    bool available() const { return tensors[0] >= 0 || tensors[1] >= 0; }
  };
  // What one kernel was offered and answered.
  struct Choice {
    std::optional<PrepareContext> context;
    Prepared prepared = decline("");
    std::string kernel;
    Layout memory = Layout::Plain;  // of an elementwise node: all dims stand in this order
  };

  ValueState& state(ValueId id) { return values_[static_cast<size_t>(id)]; }
  void count_uses();
  int add_storage(PlanStorage storage);
  int add_tensor(ValueId id, TensorDesc desc, int storage, size_t offset = 0);
  void add_input(const PlanInput& input);
  void add_constants();
  void add_results();
  void resolve_parts();
  void list_run_tensors();
  const TensorDesc& desc_of(ValueId id);
  int tensor_in(ValueId id, Layout layout);
  int add_reorder(ValueId id, int from, Layout to);
  void used(int tensor);
  PlanStorage& storage_of(int tensor) {
    return plan_.storages[static_cast<size_t>(plan_.tensors[static_cast<size_t>(tensor)].storage)];
  }
  // Appends the step, with a place for its scratch memory.
  void add_step(PlanStep step, size_t scratch);
  // Runs a kernel while planning.
  static void run_now(const Prepared& prepared, RunContext& run, size_t scratch);
  void plan_node(NodeId id);
  Readiness readiness(NodeId id) const;
  // Whether a node waits for its readers, each of which computes it anew, or has it made when nothing else
  // helps.
  bool waits_for_readers(NodeId id);
  // Makes the inputs that were left to their readers; true when the node is computed together with one of
  // them.
  bool plan_waiting_inputs(NodeId id);
  bool is_elementwise(const Node& node) const;
  // A read of a value is planned.
  void read(ValueId id);
  void interpret(NodeId id);
  void defer(NodeId id);
  bool may_follow(const Node& node, const std::vector<ValueId>& made, Layout memory);
  std::vector<PrepareContext::Follower> followers_of(const Node& node, Layout memory,
                                                     std::vector<ValueId>& operands);
  // Plans a small elementwise node, whose inputs are there, before its turn; false when it is not such a
  // node.
  bool plan_early(NodeId id);
  // The nodes that must be computed for `next` to follow, of those that wait for readers; false when it
  // cannot.
  bool missing_inputs(const Node& next, const std::vector<ValueId>& made, Layout memory,
                      std::vector<NodeId>& missing);
  void fill_input(PrepareContext& ctx, size_t i, ValueId id, Layout layout);
  Layout elementwise_layout(const Node& node);
  bool choose(NodeId id, Choice& choice, std::vector<ValueId>& operands);
  void commit(NodeId id, Choice& choice, const std::vector<ValueId>& operands);
  bool fold(const Node& node, Choice& choice);
  // Operands of followers stand behind any optional input that a node may leave out.
  static size_t first_operand(const Node& node) { return std::max<size_t>(16, node.inputs.size()); }
  void place_inputs(const PrepareContext& ctx, const PlanStep& step);
  int share_storage(const Node& node, const PrepareContext::Output& output, int tensor, size_t bytes);

  const Graph& graph_;
  const std::vector<PlanNode>& nodes_;
  const std::vector<NodeId>& scope_;
  const PlanOptions& options_;
  std::vector<ValueState> values_;
  std::vector<char> absorbed_;
  std::vector<char> begun_;                       // nodes whose turn has come, or that are not in scope
  std::vector<char> waiting_;                     // nodes that are left to their readers
  std::optional<std::set<NodeId>> may_read_;      // the readers of the node at hand that may follow; all
  std::vector<std::vector<ValueId>> on_storage_;  // the values whose bytes a storage holds
  std::deque<Tensor> known_;
  size_t memory_rank_ = 0;  // the largest rank among the inputs of the node at hand
  Plan plan_;
};

}  // namespace sardonyx
