#include "providers/runtime/executor.h"

#include <algorithm>
#include <set>

#include "graph/allocation.h"
#include "ops/registry/operator.h"
#include "providers/runtime/dispatch.h"
#include "providers/runtime/executor_impl.h"
#include "providers/runtime/log.h"

namespace sardonyx {

namespace {

constexpr size_t kMaxPlans = 32;  // kept for each graph

uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t x = a ^ (b + 0x9e3779b97f4a7c15ull + (a << 6) + (a >> 2));
  x ^= x >> 31;
  return x * 0xbf58476d1ce4e5b9ull;
}

}  // namespace

class Executor::BodyRunner final : public Body {
 public:
  BodyRunner(GraphPtr graph, std::shared_ptr<RuntimeState> state)
      : executor_(std::move(graph), std::move(state)) {}
  const Graph& graph() const override { return executor_.graph(); }
  std::vector<Value> run(RunContext& outer, std::vector<Value> inputs) override {
    outer.check_cancelled();
    RunScope scope{outer.cancel_, outer.random_, outer.loops_};
    scope.random.loop_path = mix(outer.random_.loop_path, ++outer.body_calls_);
    return executor_.run(std::move(inputs), outer.captures_, scope);
  }

 private:
  Executor executor_;
};

Executor::Executor(GraphPtr graph, std::shared_ptr<RuntimeState> state)
    : graph_(std::move(graph)), state_(std::move(state)) {
  std::set<std::string> missing;
  for (const Node& node : graph_->nodes()) {
    bool found = state_->host->supports(node);
    for (const auto& provider : state_->providers) found = found || provider->supports(node);
    if (!found)
      missing.insert((node.domain.empty() ? "" : node.domain + ".") + node.op + " of " +
                     describe(*graph_, node));
  }
  if (!missing.empty()) {
    std::string list;
    for (const auto& m : missing) list += (list.empty() ? "" : "; ") + m;
    throw UnsupportedError("operators without a kernel: " + list);
  }
  for (size_t n = 0; n < graph_->nodes().size(); ++n) build_step(static_cast<NodeId>(n));
  // Plans hold host memory and run on the calling thread.
  plannable_ = std::all_of(steps_.begin(), steps_.end(), [](const auto& step) {
    return step->provider->synchronous() && step->provider->device() == 0;
  });

  std::vector<char> needed(graph_->values().size(), 0);
  for (const ValueId id : graph_->outputs()) needed[static_cast<size_t>(id)] = 1;
  for (size_t n = steps_.size(); n-- > 0;) {
    Step& step = *steps_[n];
    for (const ValueId id : step.node->outputs)
      if (id != kNone && !needed[static_cast<size_t>(id)]) step.dies.push_back(id);
    const auto last = [&](ValueId id) {
      if (id == kNone || needed[static_cast<size_t>(id)]) return false;
      const ValueKind kind = graph_->value(id).kind;
      needed[static_cast<size_t>(id)] = 1;
      return kind != ValueKind::Constant && kind != ValueKind::Variable;
    };
    for (const ValueId id : step.node->captures)
      if (last(id)) step.dies.push_back(id);
    // Of several uses in one node the last input is the one that may give its memory away.
    for (size_t i = step.node->inputs.size(); i-- > 0;) step.last_use[i] = last(step.node->inputs[i]);
  }
}

Executor::~Executor() = default;

void Executor::build_step(NodeId id) {
  auto step = std::make_unique<Step>();
  const Node& node = graph_->node(id);
  step->id = id;
  step->node = &node;
  step->provider = state_->host.get();
  for (const auto& provider : state_->providers)
    if (provider->supports(node)) {
      step->provider = provider.get();
      break;
    }
  step->kernels = &step->provider->kernels().find(node.domain, node.op);
  step->host_operand.assign(node.inputs.size(), 0);
  step->last_use.assign(node.inputs.size(), 0);
  if (const Operator* op = OperatorRegistry::instance().find(node.domain, node.op))
    for (const int i : op->host_operands)
      if (static_cast<size_t>(i) < node.inputs.size()) step->host_operand[static_cast<size_t>(i)] = 1;
  for (const auto& [name, attribute] : node.attributes)
    if (const auto* body = std::get_if<GraphPtr>(&attribute))
      step->bodies[name] = std::make_shared<BodyRunner>(*body, state_);
  step->description = describe(*graph_, node);
  steps_.push_back(std::move(step));
}

const std::string& Executor::placement(NodeId node) const {
  return steps_[static_cast<size_t>(node)]->provider->name();
}

std::vector<int64_t> Executor::key_of(const Run& run) const {
  std::vector<int64_t> key;
  for (const ValueId id : graph_->inputs()) append_signature(key, run.slots[static_cast<size_t>(id)]);
  for (const ValueId id : graph_->captures())
    if (id != kNone) append_signature(key, run.slots[static_cast<size_t>(id)]);
  return key;
}

std::shared_ptr<const Plan> Executor::plan_for(const Run& run) {
  std::vector<int64_t> key = key_of(run);
  {
    std::lock_guard lock(plans_mutex_);
    for (auto it = plans_.begin(); it != plans_.end(); ++it)
      if (it->first == key) {
        plans_.splice(plans_.begin(), plans_, it);
        return plans_.front().second;
      }
  }
  const auto describe_all = [&](const std::vector<ValueId>& ids) {
    std::vector<PlanInput> inputs;
    for (const ValueId id : ids) {
      PlanInput& input = inputs.emplace_back();
      if (id == kNone) continue;
      const Value& value = run.slots[static_cast<size_t>(id)];
      input.is_tensor = value.is_tensor();
      if (input.is_tensor) input.desc = {value.tensor().dtype(), value.tensor().dims()};
    }
    return inputs;
  };
  std::vector<PlanNode> nodes;
  for (const auto& step : steps_)
    nodes.push_back({step->provider, step->kernels, &step->host_operand, &step->description});
  auto plan = std::make_shared<Plan>(make_plan(*graph_, nodes, describe_all(graph_->inputs()),
                                               describe_all(graph_->captures()), state_->plan_options));
  if (log_enabled("plan")) log_line(print_plan(*graph_, *plan));
  std::lock_guard lock(plans_mutex_);
  plans_.emplace_front(std::move(key), plan);
  if (plans_.size() > kMaxPlans) plans_.pop_back();
  return plan;
}

std::string Executor::latest_plan() {
  std::lock_guard lock(plans_mutex_);
  return plans_.empty() ? "" : print_plan(*graph_, *plans_.front().second);
}

// Puts this run's feeds and fresh outputs where the plan's steps look for them.
void Executor::bind(Run& run, const Plan& plan, Frame& frame) {
  std::vector<std::pair<std::shared_ptr<Buffer>, size_t>> made(plan.storages.size());
  for (size_t i = 0; i < plan.outputs.size(); ++i) {
    if (run.presets.empty() || plan.outputs[i] < 0) continue;
    const PlanTensor& tensor = plan.tensors[static_cast<size_t>(plan.outputs[i])];
    const PlanStorage& storage = plan.storages[static_cast<size_t>(tensor.storage)];
    const Tensor* preset = run.presets[static_cast<size_t>(graph_->outputs()[i])];
    if (preset && storage.kind == PlanStorage::Kind::Fresh && preset->dtype() == tensor.desc.dtype &&
        preset->dims() == tensor.desc.dims && preset->bytes() == storage.bytes)
      made[static_cast<size_t>(tensor.storage)] = {preset->buffer(), preset->offset()};
  }
  for (const int t : plan.run_tensors) {
    const PlanTensor& tensor = plan.tensors[static_cast<size_t>(t)];
    const PlanStorage& storage = plan.storages[static_cast<size_t>(tensor.storage)];
    auto& place = made[static_cast<size_t>(tensor.storage)];
    if (!place.first && storage.kind == PlanStorage::Kind::Fresh) {
      const auto make = [&] { place.first = state_->pool->allocate(storage.bytes); };
      if (storage.maker == kNone)
        make();
      else
        at_node(steps_[static_cast<size_t>(storage.maker)]->description, make);
    } else if (!place.first) {
      const auto& ids = storage.kind == PlanStorage::Kind::Input ? graph_->inputs() : graph_->captures();
      const Tensor& feed = run.slots[static_cast<size_t>(ids[storage.index])].tensor();
      place = {feed.buffer(), feed.offset()};
    }
    frame.tensors[static_cast<size_t>(t)] = Tensor(
        tensor.desc.dtype, memory_dims(tensor.desc.dims, tensor.desc.layout), place.first, place.second);
  }
  for (const Plan::Binding& b : plan.per_run) {
    RunContext& ctx = frame.contexts[static_cast<size_t>(b.step)];
    (b.is_output ? ctx.outputs_ : ctx.inputs_)[b.port] = frame.tensors[static_cast<size_t>(b.tensor)];
  }
}

void Executor::unbind(const Plan& plan, Frame& frame) {
  for (const Plan::Binding& b : plan.per_run) {
    RunContext& ctx = frame.contexts[static_cast<size_t>(b.step)];
    (b.is_output ? ctx.outputs_ : ctx.inputs_)[b.port] = Value();
  }
  for (const int t : plan.run_tensors) frame.tensors[static_cast<size_t>(t)] = Tensor();
}

void Executor::run_step(Run& run, const std::shared_ptr<const Plan>& plan, Frame& frame, size_t index) {
  const PlanStep& step = plan->steps[index];
  if (step.interpreted) {
    for (const auto& [id, tensor] : step.reads)
      run.slots[static_cast<size_t>(id)] = frame.tensors[static_cast<size_t>(tensor)];
    execute(run, *steps_[static_cast<size_t>(step.id)]);
    return;
  }
  RunContext& ctx = frame.contexts[index];
  if (run.scope.cancel || ctx.cancel_) ctx.cancel_ = run.scope.cancel;
  ctx.loops_ = run.scope.loops;
  ctx.random_ = run.scope.random;
  if (!state_->profiling) {
    step.prepared.run(ctx);
    return;
  }
  const int64_t begin = now_ns();
  step.prepared.run(ctx);
  const int64_t end = now_ns();
  state_->on_event(profile_step(*graph_, plan, index, begin, end));
}

std::vector<Value> Executor::run_plan(Run& run) {
  const std::shared_ptr<const Plan> plan = plan_for(run);
  std::unique_ptr<Frame> frame = state_->frames.take(plan->id);
  if (!frame) {
    if (plan->largest == kNone)
      frame = make_frame(*plan, *state_->pool);
    else
      at_node(steps_[static_cast<size_t>(plan->largest)]->description,
              [&] { frame = make_frame(*plan, *state_->pool); });
  }
  bind(run, *plan, *frame);
  for (size_t i = 0; i < plan->steps.size(); ++i) {
    const PlanStep& step = plan->steps[i];
    if (run.scope.cancel && run.scope.cancel->load(std::memory_order_relaxed))
      throw CancelledError("run cancelled");
    at_node(step.id == kNone ? step.node->name : steps_[static_cast<size_t>(step.id)]->description,
            [&] { run_step(run, plan, *frame, i); });
  }
  std::vector<Value> outputs;
  for (size_t i = 0; i < plan->outputs.size(); ++i) {
    const ValueId id = graph_->outputs()[i];
    const ValueInfo& info = graph_->value(id);
    if (plan->outputs[i] >= 0)
      outputs.emplace_back(frame->tensors[static_cast<size_t>(plan->outputs[i])]);
    else
      outputs.push_back(info.kind == ValueKind::Constant || info.kind == ValueKind::Variable
                            ? info.constant
                            : run.slots[static_cast<size_t>(id)]);
  }
  unbind(*plan, *frame);
  state_->frames.give(plan->id, std::move(frame));
  return outputs;
}

std::vector<Value> Executor::run(std::vector<Value> inputs, const std::vector<Value>& captures,
                                 const RunScope& scope, const std::vector<Tensor>* presets) {
  const AllocationScope allocations(
      [](void* pool, size_t bytes) { return static_cast<BufferPool*>(pool)->allocate(bytes); },
      state_->pool.get());
  Run run{*this, scope, {}, {}, {}, {}, {}, {}, {}, {}, {}};
  run.slots.resize(graph_->values().size());
  if (inputs.size() != graph_->inputs().size())
    throw InputError("graph '" + graph_->name() + "'", std::to_string(graph_->inputs().size()) + " inputs",
                     std::to_string(inputs.size()));
  for (size_t i = 0; i < inputs.size(); ++i)
    run.slots[static_cast<size_t>(graph_->inputs()[i])] = std::move(inputs[i]);
  inputs.clear();
  for (size_t i = 0; i < graph_->captures().size(); ++i)
    if (graph_->captures()[i] != kNone)
      run.slots[static_cast<size_t>(graph_->captures()[i])] = captures.at(i);
  if (presets && !presets->empty()) {
    run.presets.assign(graph_->values().size(), nullptr);
    for (size_t i = 0; i < presets->size(); ++i)
      if ((*presets)[i].defined()) run.presets[static_cast<size_t>(graph_->outputs()[i])] = &(*presets)[i];
  }
  if (plannable_) return run_plan(run);
  for (auto& step : steps_) {
    if (scope.cancel && scope.cancel->load(std::memory_order_relaxed)) throw CancelledError("run cancelled");
    at_node(step->description, [&] { execute(run, *step); });
  }
  std::vector<Value> outputs;
  for (size_t i = 0; i < graph_->outputs().size(); ++i) {
    const ValueId id = graph_->outputs()[i];
    const ValueInfo& info = graph_->value(id);
    Value value = info.kind == ValueKind::Constant || info.kind == ValueKind::Variable
                      ? info.constant
                      : run.slots[static_cast<size_t>(id)];
    if (value.is_tensor() && value.tensor().device() != 0) {
      Tensor host(value.tensor().dtype(), value.tensor().dims());
      for (const auto& provider : state_->providers)
        if (provider->device() == value.tensor().device()) {
          run.queue(*provider).copy_to_host(host, value.tensor());
          run.queue(*provider).synchronize();
        }
      value = std::move(host);
    }
    outputs.push_back(std::move(value));
  }
  for (auto& [provider, queue] : run.queues)
    if (!provider->synchronous()) queue->synchronize();
  return outputs;
}

}  // namespace sardonyx
