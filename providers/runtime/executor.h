// Runs a graph: by a plan for each signature of its inputs; nodes that no plan can hold, each with the first
// kernel that takes it, prepared once for each signature of the node's inputs.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "graph/evaluate.h"
#include "graph/graph.h"
#include "providers/provider.h"
#include "providers/runtime/frame.h"
#include "providers/runtime/plan.h"
#include "providers/runtime/pool.h"
#include "providers/runtime/profile.h"

namespace sardonyx {

// What the executors of one session share.
struct RuntimeState {
  std::vector<std::shared_ptr<Provider>> providers;  // in order of preference
  std::shared_ptr<Provider> host;                    // kernels that belong to no device
  std::shared_ptr<BufferPool> pool;                  // host memory of transients
  int threads = 1;
  PlanOptions plan_options;
  FrameCache frames;
  std::function<void(NodeEvent)> on_event;  // empty: no profile
  std::atomic<bool> profiling{false};
};

// What one run of a session hands down into bodies.
struct RunScope {
  CancelFlag cancel;
  RandomState random;
  LoopBudget* loops = nullptr;  // outlives the run; null: unbounded
  // CancelledError when the run was cancelled.
  void check_cancelled() const {
    if (cancel && cancel->load(std::memory_order_relaxed)) throw CancelledError("run cancelled");
  }
};

class Executor {
 public:
  // UnsupportedError lists every operator that no provider has.
  Executor(GraphPtr graph, std::shared_ptr<RuntimeState> state);
  ~Executor();
  const Graph& graph() const { return *graph_; }
  // Inputs and captures parallel to the graph's; results parallel to its outputs. `presets` (may be null):
  // memory for outputs, parallel to them, used where dtype and dims fit.
  std::vector<Value> run(std::vector<Value> inputs, const std::vector<Value>& captures, const RunScope& scope,
                         const std::vector<Tensor>* presets = nullptr);
  // The plans of the last run as text; empty before the first, and where there are no plans.
  std::string latest_plan();
  // The provider a node runs on: "cpu", "host".
  const std::string& placement(NodeId node) const;

 private:
  struct Step;
  struct Run;
  class BodyRunner;
  void execute(Run& run, Step& step);
  void build_step(NodeId id);
  struct Segment;
  struct SegmentPlan;
  std::vector<PlanInput> describe_inputs(const Run& run, const Segment& segment, bool by_value) const;
  // For the values of this run; made now if it has to be.
  std::shared_ptr<const SegmentPlan> plan_segment(Run& run, Segment& segment);
  // Runs the segment, and says what runs afterwards.
  Segment* run_segment(Run& run, Segment& segment);
  void run_plan(Run& run, const std::shared_ptr<const Plan>& plan);
  void run_nodes(Run& run, const std::vector<NodeId>& nodes);
  // A constant, a variable, or what the run has for it.
  const Value& value_of(const Run& run, ValueId id) const;
  // A copy of a device's tensor.
  Tensor on_host(Run& run, const Tensor& tensor);
  void bind(Run& run, const Plan& plan, Frame& frame);
  void unbind(const Plan& plan, Frame& frame);
  void run_step(Run& run, const std::shared_ptr<const Plan>& plan, Frame& frame, size_t index);

  GraphPtr graph_;
  std::shared_ptr<RuntimeState> state_;
  std::vector<std::unique_ptr<Step>> steps_;
  std::unique_ptr<Segment> whole_;
  std::mutex plans_mutex_;
  std::map<std::vector<NodeId>, std::unique_ptr<Segment>> segments_;  // by their nodes
};

// Runs single nodes on the host with a provider's kernels, for inference and constant folding.
class KernelEvaluator final : public Evaluator {
 public:
  KernelEvaluator(std::shared_ptr<Provider> cpu, std::shared_ptr<Provider> host);
  std::vector<Value> evaluate(const Graph& graph, const Node& node,
                              const std::vector<Value>& inputs) override;

 private:
  std::shared_ptr<Provider> cpu_, host_;
};

// The pseudo-provider of kernels under runtime/host/.
std::shared_ptr<Provider> make_host_provider();

}  // namespace sardonyx
