#include "providers/runtime/executor.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <list>
#include <set>

#include "graph/allocation.h"
#include "ops/registry/operator.h"
#include "providers/runtime/log.h"

namespace sardonyx {

namespace {

constexpr int64_t kMaxKeyElements = 64;  // host operands larger than this are not part of a key
constexpr size_t kMaxEntries = 32;       // prepared kernels kept for each node

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t x = a ^ (b + 0x9e3779b97f4a7c15ull + (a << 6) + (a >> 2));
  x ^= x >> 31;
  return x * 0xbf58476d1ce4e5b9ull;
}

// A kernel prepared for one signature.
struct Entry {
  std::vector<int64_t> key;
  Prepared prepared;
  std::vector<PrepareContext::Output> outputs;
  size_t scratch = 0;
  std::string kernel;
};

}  // namespace

// What is known of a node before any run.
struct Executor::Step {
  NodeId id;
  const Node* node;
  Provider* provider;
  const std::vector<KernelEntry>* kernels;
  std::vector<char> host_operand;  // parallel to the inputs
  std::vector<char> last_use;      // parallel to the inputs: nothing reads the value afterwards
  std::vector<ValueId> dies;       // captures whose last reader this is, outputs that nobody reads
  std::map<std::string, std::shared_ptr<Body>> bodies;
  std::string description;

  std::mutex mutex;
  std::list<std::shared_ptr<const Entry>> entries;  // most recent first
};

// One run of one graph.
struct Executor::Run {
  Executor& executor;
  const RunScope& scope;
  std::vector<Value> slots;
  std::vector<Value> captures;
  std::vector<const Tensor*> presets;  // by value id; empty when there are none
  std::map<Provider*, std::unique_ptr<Queue>> queues;
  std::deque<RunContext> in_flight;  // contexts of asynchronous queues
  std::deque<std::shared_ptr<const Entry>> kept;
  std::map<std::pair<int, ValueId>, Value> copies;  // values brought to another device
  RunContext context;                               // reused by synchronous providers
  std::vector<int64_t> key;

  Queue& queue(Provider& provider) {
    auto& slot = queues[&provider];
    if (!slot) slot = provider.make_queue();
    return *slot;
  }
  // Contexts and buffers outlive what is still queued, also when the run ends with an exception.
  ~Run() {
    for (auto& [provider, queue] : queues) {
      try {
        if (!provider->synchronous()) queue->synchronize();
      } catch (...) {
      }
    }
  }
};

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

namespace {

void append_bytes(std::vector<int64_t>& key, const Tensor& tensor) {
  if (tensor.dtype() == DType::String) {
    for (int64_t i = 0; i < tensor.size(); ++i)
      key.push_back(static_cast<int64_t>(std::hash<std::string>{}(tensor.data<std::string>()[i])));
    return;
  }
  const size_t bytes = tensor.bytes(), at = key.size();
  key.resize(at + (bytes + 7) / 8, 0);
  if (bytes != 0) std::memcpy(key.data() + at, tensor.data(), bytes);
}

std::string shapes_of(const std::vector<Value>& values) {
  std::string text;
  for (const Value& value : values)
    text += (text.empty() ? "" : " ") +
            (value.is_tensor() ? dtype_name(value.tensor().dtype()) + to_string(value.tensor().dims())
                               : value.kind_name());
  return text;
}

size_t bytes_of(const std::vector<Value>& values) {
  size_t bytes = 0;
  for (const Value& value : values) bytes += value.is_tensor() ? value.tensor().bytes() : 0;
  return bytes;
}

// Whether every output that the node has is known to have no elements.
bool makes_nothing(const Node& node, const std::vector<PrepareContext::Output>& outputs) {
  for (size_t i = 0; i < outputs.size(); ++i)
    if (node.outputs[i] != kNone &&
        (outputs[i].kind != PrepareContext::OutputKind::Static || outputs[i].desc.size() != 0))
      return false;
  return true;
}

Prepared prepare_first(const std::vector<KernelEntry>& kernels, const std::string& prefer,
                       PrepareContext& ctx, const std::string& description, std::string& chosen) {
  std::string reasons;
  const auto pristine = ctx.outputs_;
  const bool log = log_enabled("dispatch");
  std::vector<const KernelEntry*> order;
  for (const auto& kernel : kernels) order.push_back(&kernel);
  if (!prefer.empty())
    std::stable_sort(order.begin(), order.end(), [&](const KernelEntry* a, const KernelEntry* b) {
      return (a->name == prefer) > (b->name == prefer);
    });
  for (const KernelEntry* kernel : order) {
    Prepared prepared = kernel->prepare(ctx);
    if (prepared.declined.empty()) {
      if (log)
        log_line("dispatch: " + description + ": " + kernel->name + (reasons.empty() ? "" : "; " + reasons));
      chosen = kernel->name;
      // There may be many rows of nothing to walk through.
      if (makes_nothing(ctx.node(), ctx.outputs_)) prepared.run = nullptr;
      return prepared;
    }
    reasons += (reasons.empty() ? "" : "; ") + kernel->name + " declined: " + prepared.declined;
    ctx.outputs_ = pristine;
    ctx.scratch_ = 0;
  }
  throw UnsupportedError("no kernel takes this node (" + reasons + ")");
}

}  // namespace

void Executor::execute(Run& run, Step& step) {
  const Node& node = *step.node;
  Provider& provider = *step.provider;
  const bool synchronous = provider.synchronous();
  RunContext& ctx = synchronous ? run.context : run.in_flight.emplace_back();
  ctx.node_ = &node;
  ctx.cancel_ = run.scope.cancel;
  ctx.loops_ = run.scope.loops;
  ctx.random_ = run.scope.random;
  ctx.body_calls_ = 0;
  ctx.run_ = state_->pool.get();
  ctx.allocate_ = [](void* pool, size_t bytes) { return static_cast<BufferPool*>(pool)->allocate(bytes); };
  ctx.inputs_.resize(node.inputs.size());
  ctx.outputs_.assign(node.outputs.size(), Value());
  ctx.captures_.clear();

  // Where a tensor has to be: on the provider's device, or on the host.
  const auto located = [&](ValueId id, const Value& value, Provider* target) -> Value {
    const int device = target ? target->device() : 0;
    // Strings live on the host only.
    if (!value.is_tensor() || value.tensor().device() == device || value.tensor().dtype() == DType::String)
      return value;
    Value& copy = run.copies[{device, id}];
    if (copy.defined()) return copy;
    const Tensor& from = value.tensor();
    if (device == 0) {
      Tensor host(from.dtype(), from.dims());
      for (const auto& p : state_->providers)
        if (p->device() == from.device()) {
          run.queue(*p).copy_to_host(host, from);
          run.queue(*p).synchronize();
        }
      copy = std::move(host);
    } else {
      Tensor there(from.dtype(), from.dims(), target->allocate(from.bytes()));
      run.queue(*target).copy_from_host(there, from);
      copy = std::move(there);
    }
    return copy;
  };
  const auto value_at = [&](ValueId id) -> Value& {
    Value& slot = run.slots[static_cast<size_t>(id)];
    return slot;
  };
  const auto fetch = [&](ValueId id, Provider* target) -> Value {
    const ValueInfo& info = graph_->value(id);
    const Value& value =
        info.kind == ValueKind::Constant || info.kind == ValueKind::Variable ? info.constant : value_at(id);
    if (value.is_tensor() && target && value.tensor().device() != target->device() &&
        value.tensor().device() != 0)
      return located(id, located(id, value, nullptr), target);
    return located(id, value, target);
  };

  // The key: dtype and dims of every input that is no constant, and the values of small host operands.
  std::vector<int64_t>& key = run.key;
  key.clear();
  bool cacheable = true;
  std::vector<Tensor> host_values;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const ValueId id = node.inputs[i];
    if (id == kNone) {
      ctx.inputs_[i] = Value();
      key.push_back(-1);
      continue;
    }
    const ValueInfo& info = graph_->value(id);
    const bool constant = info.kind == ValueKind::Constant;
    if (constant && (info.constant.is_tensor() ? provider.device() == 0 : true)) {
      ctx.inputs_[i] = info.constant;
      continue;
    }
    if (step.host_operand[i]) {
      Value host = fetch(id, nullptr);
      if (!constant && host.is_tensor()) {
        if (host.tensor().size() <= kMaxKeyElements)
          append_bytes(key, host.tensor());
        else
          cacheable = false;
      }
      if (host.is_tensor()) {
        host_values.resize(node.inputs.size());
        host_values[i] = host.tensor();
      }
    }
    if (synchronous && provider.device() == 0 && step.last_use[i] && value_at(id).is_tensor() &&
        value_at(id).tensor().device() == 0)
      ctx.inputs_[i] = std::move(value_at(id));
    else
      ctx.inputs_[i] = fetch(id, &provider);
    if (constant) continue;
    const Value& value = ctx.inputs_[i];
    if (value.is_tensor()) {
      const Tensor& tensor = value.tensor();
      key.push_back((static_cast<int64_t>(tensor.dtype()) << 8) | tensor.rank());
      key.insert(key.end(), tensor.dims().begin(), tensor.dims().end());
    } else {
      key.push_back(-2);
    }
  }
  for (const ValueId id : node.captures) ctx.captures_.push_back(id == kNone ? Value() : fetch(id, nullptr));

  std::shared_ptr<const Entry> entry;
  if (cacheable) {
    std::lock_guard lock(step.mutex);
    for (auto it = step.entries.begin(); it != step.entries.end(); ++it)
      if ((*it)->key == key) {
        step.entries.splice(step.entries.begin(), step.entries, it);
        entry = step.entries.front();
        break;
      }
  }
  if (!entry) {
    PrepareContext prepare(*graph_, node);
    prepare.threads_ = state_->threads;
    prepare.bodies_ = step.bodies;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      auto& input = prepare.inputs_[i];
      const ValueId id = node.inputs[i];
      input.present = id != kNone && ctx.inputs_[i].defined();
      if (!input.present) continue;
      const ValueInfo& info = graph_->value(id);
      input.is_tensor = ctx.inputs_[i].is_tensor();
      if (!input.is_tensor) continue;
      const Tensor& tensor = ctx.inputs_[i].tensor();
      input.desc = {tensor.dtype(), tensor.dims()};
      input.constant = info.kind == ValueKind::Constant && info.constant.is_tensor();
      if (input.constant)
        input.host = &info.constant.tensor();
      else if (step.host_operand[i])
        input.host = &host_values[i];
    }
    std::string kernel;
    Prepared prepared =
        prepare_first(*step.kernels, state_->prefer_kernel, prepare, step.description, kernel);
    entry = std::make_shared<const Entry>(
        Entry{key, std::move(prepared), std::move(prepare.outputs_), prepare.scratch_, kernel});
    if (cacheable) {
      std::lock_guard lock(step.mutex);
      step.entries.push_front(entry);
      if (step.entries.size() > kMaxEntries) step.entries.pop_back();
    }
  }

  const int64_t begin = state_->profiling ? now_ns() : 0;
  bool dynamic = false;
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const auto& output = entry->outputs[i];
    const bool wanted = node.outputs[i] != kNone;
    if (!wanted && output.kind != PrepareContext::OutputKind::Static) continue;
    if (output.kind == PrepareContext::OutputKind::Alias) {
      ctx.outputs_[i] = ctx.inputs_[static_cast<size_t>(output.shares)].tensor().reshaped(output.desc.dims);
    } else if (output.kind == PrepareContext::OutputKind::Static) {
      const size_t bytes = static_cast<size_t>(checked_mul(
          output.desc.size(), static_cast<int64_t>(element_size(output.desc.dtype)), "bytes of a tensor"));
      const Tensor* preset =
          run.presets.empty() || !wanted ? nullptr : run.presets[static_cast<size_t>(node.outputs[i])];
      if (preset && provider.device() == 0 && preset->dtype() == output.desc.dtype &&
          preset->dims() == output.desc.dims) {
        ctx.outputs_[i] = *preset;
        continue;
      }
      if (output.desc.dtype == DType::String) {
        ctx.outputs_[i] = Tensor(DType::String, output.desc.dims);
        continue;
      }
      if (output.shares >= 0) {
        // The input was moved here by its last reader: nobody else holds its memory.
        Value& input = ctx.inputs_[static_cast<size_t>(output.shares)];
        if (step.last_use[static_cast<size_t>(output.shares)] && input.is_tensor() &&
            input.tensor().buffer().use_count() == 1 && input.tensor().bytes() == bytes &&
            input.tensor().device() == provider.device() && synchronous &&
            graph_->value(node.inputs[static_cast<size_t>(output.shares)]).kind == ValueKind::Transient) {
          ctx.outputs_[i] =
              Tensor(output.desc.dtype, output.desc.dims, input.tensor().buffer(), input.tensor().offset());
          continue;
        }
      }
      ctx.outputs_[i] =
          Tensor(output.desc.dtype, output.desc.dims,
                 provider.device() == 0 ? state_->pool->allocate(bytes) : provider.allocate(bytes));
    } else {
      dynamic = true;
    }
  }
  std::shared_ptr<Buffer> scratch;
  if (entry->scratch != 0) {
    scratch = state_->pool->allocate(entry->scratch);
    ctx.scratch_ = static_cast<std::byte*>(scratch->data());
  }
  if (entry->prepared.run) {
    run.queue(provider).launch(entry->prepared, ctx);
    if (!synchronous) {
      run.kept.push_back(entry);
      if (scratch)
        run.copies[{-1 - static_cast<int>(run.kept.size()), kNone}] =
            Value(Tensor(DType::UInt8, {static_cast<int64_t>(entry->scratch)}, scratch));
      if (dynamic) run.queue(provider).synchronize();
    }
  }
  if (state_->profiling && state_->on_event)
    state_->on_event({graph_.get(), &node, entry->kernel, shapes_of(ctx.inputs_), begin, now_ns(),
                      bytes_of(ctx.inputs_) + bytes_of(ctx.outputs_)});

  for (size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNone) continue;
    if (!ctx.outputs_[i].defined())
      throw UnsupportedError("output " + std::to_string(i), "a value from kernel " + entry->kernel, "none");
    value_at(node.outputs[i]) = synchronous ? std::move(ctx.outputs_[i]) : ctx.outputs_[i];
  }
  if (synchronous)
    for (Value& value : ctx.inputs_) value = Value();
  for (size_t i = 0; i < node.inputs.size(); ++i)
    if (step.last_use[i]) value_at(node.inputs[i]) = Value();
  for (const ValueId id : step.dies) value_at(id) = Value();
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
  for (auto& step : steps_) {
    if (scope.cancel && scope.cancel->load(std::memory_order_relaxed)) throw CancelledError("run cancelled");
    try {
      execute(run, *step);
    } catch (Error& e) {
      e.add_node(step->description);
      throw;
    } catch (const std::bad_alloc&) {
      LimitError error("allocation", "enough memory", "none");
      error.add_node(step->description);
      throw error;
    } catch (const std::exception& e) {
      ProviderError error(std::string("kernel failed: ") + e.what());
      error.add_node(step->description);
      throw error;
    }
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

KernelEvaluator::KernelEvaluator(std::shared_ptr<Provider> cpu, std::shared_ptr<Provider> host)
    : cpu_(std::move(cpu)), host_(std::move(host)) {}

std::vector<Value> KernelEvaluator::evaluate(const Graph& graph, const Node& node,
                                             const std::vector<Value>& inputs) {
  Provider& provider = cpu_->supports(node) ? *cpu_ : *host_;
  const auto& kernels = provider.kernels().find(node.domain, node.op);
  if (kernels.empty()) throw UnsupportedError("operator " + node.op, "a kernel", "none");
  PrepareContext prepare(graph, node);
  for (size_t i = 0; i < inputs.size(); ++i) {
    auto& input = prepare.inputs_[i];
    input.present = inputs[i].defined();
    input.is_tensor = inputs[i].is_tensor();
    if (!input.is_tensor) continue;
    input.desc = {inputs[i].tensor().dtype(), inputs[i].tensor().dims()};
    input.host = &inputs[i].tensor();
  }
  std::string kernel;
  const Prepared prepared = prepare_first(kernels, "ref", prepare, describe(graph, node), kernel);
  RunContext ctx;
  ctx.node_ = &node;
  ctx.inputs_ = inputs;
  ctx.outputs_.resize(node.outputs.size());
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const auto& output = prepare.outputs_[i];
    if (output.kind == PrepareContext::OutputKind::Alias)
      ctx.outputs_[i] = inputs[static_cast<size_t>(output.shares)].tensor().reshaped(output.desc.dims);
    else if (output.kind == PrepareContext::OutputKind::Static)
      ctx.outputs_[i] = Tensor(output.desc.dtype, output.desc.dims);
  }
  std::shared_ptr<Buffer> scratch;
  if (prepare.scratch_ != 0) {
    scratch = Buffer::host(prepare.scratch_);
    ctx.scratch_ = static_cast<std::byte*>(scratch->data());
  }
  if (prepared.run) {
    const auto queue = provider.make_queue();
    queue->launch(prepared, ctx);
    queue->synchronize();
  }
  return ctx.outputs_;
}

}  // namespace sardonyx
