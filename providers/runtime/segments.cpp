// Which nodes are planned together, and for which values.
#include <algorithm>
#include <set>

#include "graph/bodies.h"
#include "ops/registry/propagate.h"
#include "providers/runtime/executor_impl.h"
#include "providers/runtime/log.h"

namespace sardonyx {

namespace {
constexpr size_t kMaxPlans = 32;           // kept for each segment
constexpr size_t kMaxValuePlans = 8;       // for the same shapes; afterwards values are found while running
constexpr int64_t kMaxValueElements = 64;  // of a value that is part of a key
constexpr int kMaxSegments = 32;           // of one run
}  // namespace

Executor::Segment::Segment(const Executor& executor, std::vector<NodeId> in_order, When planned_when,
                           int segments_before)
    : nodes(std::move(in_order)), when(planned_when), depth(segments_before) {
  const Graph& graph = executor.graph();
  std::set<ValueId> made, read, dims_depend;
  for (const NodeId n : nodes) {
    const Node& node = graph.node(n);
    for (const auto* ids : {&node.inputs, &node.captures})
      for (const ValueId id : *ids) {
        if (id == kNone || made.count(id) != 0) continue;
        const ValueKind kind = graph.value(id).kind;
        if (kind == ValueKind::Constant || kind == ValueKind::Variable) continue;
        if (read.insert(id).second) inputs.push_back(id);
      }
    made.insert(node.outputs.begin(), node.outputs.end());
  }
  // Backward from the operands that dims follow from, through arithmetic of scalars and vectors.
  for (size_t k = nodes.size(); k-- > 0;) {
    const Node& node = graph.node(nodes[k]);
    const auto& host_operand = executor.steps_[static_cast<size_t>(nodes[k])]->host_operand;
    const bool passes = !has_bodies(node) && !measures(node) &&
                        std::any_of(node.outputs.begin(), node.outputs.end(),
                                    [&](ValueId id) { return dims_depend.count(id) != 0; });
    for (size_t i = 0; i < node.inputs.size(); ++i)
      if (node.inputs[i] != kNone &&
          (host_operand[i] || (passes && graph.value(node.inputs[i]).type.rank() <= 1)))
        dims_depend.insert(node.inputs[i]);
  }
  for (const ValueId id : inputs) valued.push_back(dims_depend.count(id) != 0);
}

namespace {
bool in_key(const Value& value) {
  return value.is_tensor() && value.tensor().device() == 0 && value.tensor().size() <= kMaxValueElements;
}
}  // namespace

std::vector<PlanInput> Executor::describe_inputs(const Run& run, const Segment& segment,
                                                 bool by_value) const {
  std::vector<PlanInput> inputs;
  for (size_t i = 0; i < segment.inputs.size(); ++i) {
    const Value& value = run.slots[static_cast<size_t>(segment.inputs[i])];
    PlanInput& input = inputs.emplace_back();
    input.id = segment.inputs[i];
    input.is_tensor = value.is_tensor();
    if (!input.is_tensor) continue;
    input.desc = {value.tensor().dtype(), value.tensor().dims()};
    if (by_value && segment.valued[i] && in_key(value)) input.known = value.tensor().clone();
  }
  return inputs;
}

std::shared_ptr<const Executor::SegmentPlan> Executor::plan_segment(Run& run, Segment& segment) {
  std::vector<int64_t>& key = run.key;
  key.clear();
  for (const ValueId id : segment.inputs) append_signature(key, run.slots[static_cast<size_t>(id)]);
  const size_t shapes = key.size();
  const auto keep = [&](SegmentPlan made) {
    segment.planned.push_front(std::make_shared<const SegmentPlan>(std::move(made)));
    if (segment.planned.size() > kMaxPlans) segment.planned.pop_back();
  };
  bool by_value;
  {
    std::lock_guard lock(plans_mutex_);
    const auto find = [&] {
      return std::find_if(segment.planned.begin(), segment.planned.end(),
                          [&](const auto& p) { return p->key == key; });
    };
    if (segment.by_value)
      for (size_t i = 0; i < segment.inputs.size(); ++i) {
        const Value& value = run.slots[static_cast<size_t>(segment.inputs[i])];
        if (segment.valued[i] && in_key(value)) append_bytes(key, value.tensor());
      }
    auto it = find();
    if (it == segment.planned.end() && key.size() > shapes) {
      const auto alike = std::count_if(segment.planned.begin(), segment.planned.end(), [&](const auto& p) {
        return p->shapes == shapes &&
               std::equal(key.begin(), key.begin() + static_cast<std::ptrdiff_t>(shapes), p->key.begin());
      });
      if (static_cast<size_t>(alike) >= kMaxValuePlans) {
        segment.by_value = false;
        segment.planned.clear();
        key.resize(shapes);
        it = segment.planned.end();
      }
    }
    by_value = segment.by_value;
    if (it != segment.planned.end()) {
      segment.planned.splice(segment.planned.begin(), segment.planned, it);
      if ((*it)->plan) return *it;
    } else if (segment.when == Segment::When::SeenAgain) {
      keep(SegmentPlan{key, shapes, nullptr, nullptr, {}});
      return segment.planned.front();
    }
  }
  std::vector<PlanNode> nodes;
  for (const auto& step : steps_)
    nodes.push_back({step->provider, step->kernels, &step->host_operand, &step->description});
  PlanOptions options = state_->plan_options;
  options.segments = options.segments && segment.depth < kMaxSegments;
  auto plan = std::make_shared<Plan>(
      make_plan(*graph_, nodes, segment.nodes, describe_inputs(run, segment, by_value), options));
  if (log_enabled("plan")) log_line(print_plan(*graph_, *plan));
  SegmentPlan planned{std::move(key), shapes, plan, nullptr, {}};
  std::lock_guard lock(plans_mutex_);
  if (!plan->rest.empty()) {
    auto& rest = segments_[plan->rest];
    if (!rest)
      rest = std::make_unique<Segment>(*this, plan->rest, Segment::When::SeenAgain, segment.depth + 1);
    planned.rest = rest.get();
    std::set<ValueId> read(rest->inputs.begin(), rest->inputs.end());
    read.insert(graph_->outputs().begin(), graph_->outputs().end());
    for (const ValueId id : segment.inputs)
      if (read.count(id) == 0) planned.drops.push_back(id);
  }
  segment.planned.remove_if([&](const auto& p) { return p->key == planned.key; });
  keep(std::move(planned));
  return segment.planned.front();
}

Executor::Segment* Executor::run_segment(Run& run, Segment& segment) {
  std::shared_ptr<const SegmentPlan> planned;
  if (segment.when != Segment::When::Never) planned = plan_segment(run, segment);
  if (!planned || !planned->plan) {
    run_nodes(run, segment.nodes);
    return nullptr;
  }
  run_plan(run, planned->plan);
  for (const ValueId id : planned->drops) run.slots[static_cast<size_t>(id)] = Value();
  return planned->rest;
}

}  // namespace sardonyx
