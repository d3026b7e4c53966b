#include "providers/runtime/executor.h"

#include <algorithm>
#include <optional>
#include <set>
#include <sstream>

#include "graph/allocation.h"
#include "ops/registry/operator.h"
#include "providers/runtime/dispatch.h"
#include "providers/runtime/executor_impl.h"
#include "providers/runtime/log.h"

namespace sardonyx {

namespace {

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
  std::string latest_plan() { return executor_.latest_plan(); }

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
  const bool plannable = std::all_of(steps_.begin(), steps_.end(), [](const auto& step) {
    return step->provider->synchronous() && step->provider->device() == 0;
  });
  std::vector<NodeId> every;
  for (const auto& step : steps_) every.push_back(step->id);
  whole_ = std::make_unique<Segment>(*this, std::move(every),
                                     plannable ? Segment::When::AtOnce : Segment::When::Never, 0);

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

std::string Executor::latest_plan() {
  std::string text;
  {
    std::lock_guard lock(plans_mutex_);
    for (const Segment* s = whole_.get(); s && !s->planned.empty(); s = s->planned.front()->rest) {
      if (s != whole_.get()) text += "then, for the values found:\n";
      if (s->planned.front()->plan)
        text += print_plan(*graph_, *s->planned.front()->plan);
      else
        text += std::to_string(s->nodes.size()) +
                " nodes chosen while running, as long as no shapes come again\n";
    }
  }
  for (const auto& step : steps_)
    for (const auto& [name, body] : step->bodies) {
      std::istringstream lines(static_cast<BodyRunner&>(*body).latest_plan());
      std::string line;
      bool first = true;
      while (std::getline(lines, line)) {
        if (first) text += name + " of " + step->description + "\n";
        first = false;
        text += "  " + line + "\n";
      }
    }
  return text;
}

// Puts this run's values and fresh outputs where the plan's steps look for them.
void Executor::bind(Run& run, const Plan& plan, Frame& frame) {
  std::vector<std::pair<std::shared_ptr<Buffer>, size_t>> made(plan.storages.size());
  for (const auto& [id, index] : plan.results) {
    if (run.presets.empty()) break;
    const PlanTensor& tensor = plan.tensors[static_cast<size_t>(index)];
    const PlanStorage& storage = plan.storages[static_cast<size_t>(tensor.storage)];
    const Tensor* preset = run.presets[static_cast<size_t>(id)];
    if (preset && storage.kind == PlanStorage::Kind::Fresh && preset->dtype() == tensor.desc.dtype &&
        preset->dims() == tensor.desc.dims && preset->bytes() == storage.bytes && tensor.offset == 0)
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
      const Tensor& value = run.slots[static_cast<size_t>(storage.input)].tensor();
      place = {value.buffer(), value.offset()};
    }
    frame.tensors[static_cast<size_t>(t)] =
        Tensor(tensor.desc.dtype, memory_dims(tensor.desc.dims, tensor.desc.layout), place.first,
               place.second + tensor.offset);
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

void Executor::run_plan(Run& run, const std::shared_ptr<const Plan>& plan) {
  std::optional<FrameCache::Lease> lease;
  const auto take = [&] { lease.emplace(state_->frames, *plan, *state_->pool); };
  if (plan->largest == kNone)
    take();
  else
    at_node(steps_[static_cast<size_t>(plan->largest)]->description, take);
  Frame& frame = **lease;
  bind(run, *plan, frame);
  for (size_t i = 0; i < plan->steps.size(); ++i) {
    const PlanStep& step = plan->steps[i];
    run.scope.check_cancelled();
    at_node(step.id == kNone ? step.node->name : steps_[static_cast<size_t>(step.id)]->description,
            [&] { run_step(run, plan, frame, i); });
  }
  for (const auto& [id, tensor] : plan->results)
    run.slots[static_cast<size_t>(id)] = frame.tensors[static_cast<size_t>(tensor)];
  unbind(*plan, frame);
  lease->keep();
}

void Executor::run_nodes(Run& run, const std::vector<NodeId>& nodes) {
  for (const NodeId id : nodes) {
    run.scope.check_cancelled();
    Step& step = *steps_[static_cast<size_t>(id)];
    at_node(step.description, [&] { execute(run, step); });
  }
}

const Value& Executor::value_of(const Run& run, ValueId id) const {
  const ValueInfo& info = graph_->value(id);
  return info.kind == ValueKind::Constant || info.kind == ValueKind::Variable
             ? info.constant
             : run.slots[static_cast<size_t>(id)];
}

Tensor Executor::on_host(Run& run, const Tensor& tensor) {
  Tensor host(tensor.dtype(), tensor.dims());
  for (const auto& provider : state_->providers)
    if (provider->device() == tensor.device()) {
      run.queue(*provider).copy_to_host(host, tensor);
      run.queue(*provider).synchronize();
    }
  return host;
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
  for (Segment* segment = whole_.get(); segment;) segment = run_segment(run, *segment);
  std::vector<Value> outputs;
  for (const ValueId id : graph_->outputs()) {
    const Value& value = value_of(run, id);
    const bool elsewhere = value.is_tensor() && value.tensor().device() != 0;
    outputs.push_back(elsewhere ? Value(on_host(run, value.tensor())) : value);
  }
  for (auto& [provider, queue] : run.queues)
    if (!provider->synchronous()) queue->synchronize();
  return outputs;
}

}  // namespace sardonyx
