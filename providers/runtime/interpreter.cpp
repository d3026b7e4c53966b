// Nodes whose kernel is chosen while the graph runs, and graphs of asynchronous providers.
#include <algorithm>
#include <cstring>

#include "providers/runtime/dispatch.h"
#include "providers/runtime/executor_impl.h"

namespace sardonyx {

namespace {
constexpr int64_t kMaxKeyElements = 64;  // host operands larger than this are not part of a key
constexpr size_t kMaxEntries = 32;       // prepared kernels kept for each node
}  // namespace

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

void append_signature(std::vector<int64_t>& key, const Value& value) {
  if (!value.is_tensor()) {
    key.push_back(-2);
    return;
  }
  const Tensor& tensor = value.tensor();
  key.push_back((static_cast<int64_t>(tensor.dtype()) << 8) | tensor.rank());
  key.insert(key.end(), tensor.dims().begin(), tensor.dims().end());
}

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
  ctx.kept_.reset();
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
      copy = on_host(run, from);
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
    const Value& value = value_of(run, id);
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
    append_signature(key, ctx.inputs_[i]);
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
        prepare_first(*step.kernels, state_->plan_options.prefer_kernel, prepare, step.description, kernel);
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
      const size_t bytes = output.desc.bytes();
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
  if (state_->profiling && state_->on_event) {
    const int64_t end = now_ns();
    state_->on_event(profile_node(*graph_, node, entry->kernel, ctx.inputs_, ctx.outputs_, begin, end));
  }

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
