#include "providers/runtime/plan.h"

#include <algorithm>
#include <atomic>
#include <set>

#include "ops/registry/operator.h"
#include "providers/runtime/dispatch.h"
#include "providers/runtime/planner.h"

namespace sardonyx {

void Planner::count_uses() {
  for (const NodeId n : scope_) {
    const Node& node = graph_.node(n);
    for (const ValueId id : node.inputs) {
      if (id == kNone) continue;
      ++state(id).uses;
      state(id).readers.push_back(n);
    }
    for (const ValueId id : node.captures) {
      if (id == kNone) continue;
      state(id).uses += 2;  // bodies may read it often
      state(id).escapes = true;
    }
  }
  for (const ValueId id : graph_.outputs()) {
    state(id).uses += 2;
    state(id).escapes = true;
  }
}

int Planner::add_storage(PlanStorage storage) {
  storage.first = storage.last = static_cast<int>(plan_.steps.size());
  plan_.storages.push_back(std::move(storage));
  on_storage_.emplace_back();
  return static_cast<int>(plan_.storages.size()) - 1;
}

int Planner::add_tensor(ValueId id, TensorDesc desc, int storage, size_t offset) {
  const int index = static_cast<int>(plan_.tensors.size());
  if (id != kNone) {
    state(id).tensors[static_cast<size_t>(desc.layout)] = index;
    for (int s = storage; s >= 0; s = plan_.storages[static_cast<size_t>(s)].inside)
      on_storage_[static_cast<size_t>(s)].push_back(id);
  }
  plan_.tensors.push_back({std::move(desc), storage, offset});
  return index;
}

void Planner::add_input(const PlanInput& input) {
  if (!input.is_tensor) return;
  PlanStorage storage;
  storage.kind = PlanStorage::Kind::Input;
  storage.input = input.id;
  add_tensor(input.id, input.desc, add_storage(std::move(storage)));
  if (input.known) state(input.id).known = &known_.emplace_back(*input.known);
}

void Planner::add_constants() {
  for (size_t v = 0; v < values_.size(); ++v) {
    const ValueInfo& info = graph_.values()[v];
    const bool constant = info.kind == ValueKind::Constant || info.kind == ValueKind::Variable;
    if (!constant || !info.constant.is_tensor() || values_[v].uses == 0) continue;
    PlanStorage storage;
    storage.kind = PlanStorage::Kind::Constant;
    storage.constant = info.constant.tensor();
    const int index = add_storage(std::move(storage));
    add_tensor(static_cast<ValueId>(v), {info.constant.tensor().dtype(), info.constant.tensor().dims()},
               index);
    if (info.kind == ValueKind::Constant) values_[v].known = &info.constant.tensor();
  }
}

const TensorDesc& Planner::desc_of(ValueId id) {
  const ValueState& s = state(id);
  return plan_.tensors[static_cast<size_t>(s.tensors[s.tensors[1] >= 0 ? 1 : 0])].desc;
}

void Planner::used(int tensor) {
  PlanStorage& storage = storage_of(tensor);
  storage.last = std::max(storage.last, static_cast<int>(plan_.steps.size()));
}

void Planner::add_step(PlanStep step, size_t scratch) {
  if (scratch != 0) {
    PlanStorage storage;
    storage.bytes = scratch;
    step.scratch = add_storage(std::move(storage));
  }
  plan_.steps.push_back(std::move(step));
}

void Planner::run_now(const Prepared& prepared, RunContext& run, size_t scratch) {
  const std::shared_ptr<Buffer> memory = Buffer::host(std::max<size_t>(scratch, 1));
  run.scratch_ = static_cast<std::byte*>(memory->data());
  if (prepared.run) prepared.run(run);
}

// The value in the wanted layout: as it is, or brought into it by a step of its own.
int Planner::tensor_in(ValueId id, Layout layout) {
  ValueState& s = state(id);
  const int have = s.tensors[static_cast<size_t>(layout)];
  if (have >= 0) return have;
  const int other = s.tensors[1 - static_cast<size_t>(layout)];
  const PlanTensor& tensor = plan_.tensors[static_cast<size_t>(other)];
  if (layouts_agree(tensor.desc.dims)) {
    TensorDesc desc = tensor.desc;
    desc.layout = layout;
    return add_tensor(id, std::move(desc), tensor.storage, tensor.offset);
  }
  return add_reorder(id, other, layout);
}

int Planner::add_reorder(ValueId id, int from, Layout to) {
  const TensorDesc source = plan_.tensors[static_cast<size_t>(from)].desc;
  const size_t rank = source.dims.size();
  std::vector<int64_t> perm = {0};
  if (to == Layout::ChannelsLast) {
    for (size_t i = 2; i < rank; ++i) perm.push_back(static_cast<int64_t>(i));
    perm.push_back(1);
  } else {
    perm.push_back(static_cast<int64_t>(rank) - 1);
    for (size_t i = 1; i + 1 < rank; ++i) perm.push_back(static_cast<int64_t>(i));
  }
  Node& node = plan_.reorders.emplace_back();
  node.op = "Transpose";
  node.name = "reorder " + graph_.value(id).name;
  node.inputs = {id};
  node.outputs = {id};
  node.attributes.set("perm", perm);

  // Any provider that has the operator; all that a plan holds work on host memory.
  const NodeId maker = graph_.producer(id);
  const Provider* provider = nullptr;
  if (maker != kNone && !nodes_[static_cast<size_t>(maker)].provider->kernels().find("", "Transpose").empty())
    provider = nodes_[static_cast<size_t>(maker)].provider;
  for (const PlanNode& candidate : nodes_)
    if (!provider && !candidate.provider->kernels().find("", "Transpose").empty())
      provider = candidate.provider;
  PrepareContext ctx(graph_, node);
  ctx.threads_ = options_.threads;
  ctx.inputs_[0].present = ctx.inputs_[0].is_tensor = true;
  ctx.inputs_[0].desc = {source.dtype, memory_dims(source.dims, source.layout)};
  PlanStep step;
  step.prepared = prepare_first(provider->kernels().find("", "Transpose"), "", ctx, node.name, step.kernel);
  step.kernel = "reorder-" + step.kernel;
  step.node = &node;
  step.inputs = {from};
  const bool constant = storage_of(from).kind == PlanStorage::Kind::Constant;
  PlanStorage storage;
  storage.kind = constant ? PlanStorage::Kind::Constant : PlanStorage::Kind::Arena;
  storage.bytes = source.bytes();
  TensorDesc desc = source;
  desc.layout = to;
  if (constant) {
    RunContext run;
    run.node_ = &node;
    run.inputs_ = {Value(part_of(storage_of(from).constant, ctx.inputs_[0].desc.dims,
                                 plan_.tensors[static_cast<size_t>(from)].offset))};
    storage.constant = Tensor(source.dtype, memory_dims(source.dims, to));
    run.outputs_ = {Value(storage.constant)};
    run_now(step.prepared, run, ctx.scratch_);
    return add_tensor(id, std::move(desc), add_storage(std::move(storage)));
  }
  used(from);
  const int result = add_tensor(id, std::move(desc), add_storage(std::move(storage)));
  step.outputs = {result};
  add_step(std::move(step), ctx.scratch_);
  return result;
}

// The last read of a value that was left to its readers is the last read of what it is made of.
void Planner::read(ValueId id) {
  if (id == kNone || --state(id).uses != 0) return;
  const NodeId maker = graph_.producer(id);
  if (maker == kNone || !waiting_[static_cast<size_t>(maker)]) return;
  for (const ValueId input : graph_.node(maker).inputs) read(input);
}

bool Planner::waits_for_readers(NodeId id) {
  const Node& node = graph_.node(id);
  const Operator* op = OperatorRegistry::instance().find(node.domain, node.op);
  if (!op || !op->is_computed_where_read || !options_.epilogues || !op->elementwise_in(graph_, node))
    return false;
  const ValueState& s = state(node.outputs[0]);
  return !s.escapes && readiness(id) == Readiness::Ready && !state(node.inputs[0]).known &&
         std::any_of(s.readers.begin(), s.readers.end(),
                     [&](NodeId reader) { return is_elementwise(graph_.node(reader)); });
}

bool Planner::plan_waiting_inputs(NodeId id) {
  const Node& node = graph_.node(id);
  const auto waits = [&](ValueId value) {
    return value != kNone && graph_.producer(value) != kNone && !state(value).available() &&
           waiting_[static_cast<size_t>(graph_.producer(value))] != 0;
  };
  const auto size = [&](ValueId value) {
    return element_count(desc_of(graph_.node(graph_.producer(value)).inputs[0]).dims);
  };
  ValueId largest = kNone;
  for (const ValueId input : node.inputs)
    if (waits(input) && (largest == kNone || size(input) > size(largest))) largest = input;
  if (largest == kNone) return false;
  const auto plan = [&](NodeId maker, NodeId reader) {
    Choice choice;
    std::vector<ValueId> operands;
    const Node& made = graph_.node(maker);
    memory_rank_ = desc_of(made.inputs[0]).dims.size();
    may_read_.emplace();
    if (reader != kNone) may_read_->insert(reader);
    choose(maker, choice, operands);
    may_read_.reset();
    if (reader != kNone && choice.context->absorbed_ == 0) return;
    commit(maker, choice, operands);
  };
  if (is_elementwise(node)) {
    plan(graph_.producer(largest), id);
    if (absorbed_[static_cast<size_t>(id)]) return true;
  }
  for (const ValueId input : node.inputs)
    if (waits(input)) plan(graph_.producer(input), kNone);
  return false;
}

void Planner::plan_node(NodeId id) {
  if (absorbed_[static_cast<size_t>(id)] || begun_[static_cast<size_t>(id)]) return;
  begun_[static_cast<size_t>(id)] = 1;
  if (waits_for_readers(id)) {
    waiting_[static_cast<size_t>(id)] = 1;
    return;
  }
  if (plan_waiting_inputs(id)) return;
  const Readiness ready = readiness(id);
  if (ready == Readiness::Deferred) return defer(id);
  if (ready == Readiness::Never) return interpret(id);
  const Node& node = graph_.node(id);
  Choice choice;
  std::vector<ValueId> operands;
  memory_rank_ = 0;
  for (const ValueId input : node.inputs)
    if (input != kNone) memory_rank_ = std::max(memory_rank_, desc_of(input).dims.size());
  if (!choose(id, choice, operands)) return interpret(id);
  if (!fold(node, choice)) commit(id, choice, operands);
}

// Tensors that lie inside another's storage name that one from here on.
void Planner::resolve_parts() {
  for (PlanTensor& tensor : plan_.tensors) {
    for (const PlanStorage* part = &plan_.storages[static_cast<size_t>(tensor.storage)];
         part->kind == PlanStorage::Kind::Inside;
         part = &plan_.storages[static_cast<size_t>(tensor.storage)]) {
      PlanStorage& whole = plan_.storages[static_cast<size_t>(part->inside)];
      whole.first = std::min(whole.first, part->first);
      whole.last = std::max(whole.last, part->last);
      tensor.offset += part->offset;
      tensor.storage = part->inside;
    }
  }
}

// What the run reads after the plan: outputs of the graph, and what the deferred nodes read.
void Planner::add_results() {
  std::vector<ValueId> read = graph_.outputs();
  for (const NodeId n : plan_.rest)
    for (const auto* ids : {&graph_.node(n).inputs, &graph_.node(n).captures})
      read.insert(read.end(), ids->begin(), ids->end());
  std::set<ValueId> listed = {kNone};
  for (const ValueId id : read)
    if (listed.insert(id).second && state(id).made)
      plan_.results.emplace_back(id, tensor_in(id, Layout::Plain));
  resolve_parts();
  const auto keep = [&](int tensor) {
    PlanStorage& storage = storage_of(tensor);
    if (storage.kind == PlanStorage::Kind::Arena) storage.kind = PlanStorage::Kind::Fresh;
  };
  for (const auto& [id, tensor] : plan_.results) keep(tensor);
  // Sequences, bodies and their results may hold on to what such a node reads.
  for (const PlanStep& step : plan_.steps)
    for (const auto& [id, tensor] : step.reads) keep(tensor);
}

void Planner::list_run_tensors() {
  const auto changes = [&](int tensor) {
    if (tensor < 0) return false;
    const auto kind = storage_of(tensor).kind;
    return kind != PlanStorage::Kind::Constant && kind != PlanStorage::Kind::Arena;
  };
  for (size_t t = 0; t < plan_.tensors.size(); ++t)
    if (changes(static_cast<int>(t))) plan_.run_tensors.push_back(static_cast<int>(t));
  for (size_t s = 0; s < plan_.steps.size(); ++s) {
    const PlanStep& step = plan_.steps[s];
    for (size_t i = 0; i < step.inputs.size(); ++i)
      if (changes(step.inputs[i])) plan_.per_run.push_back({step.inputs[i], static_cast<int>(s), i, false});
    for (size_t i = 0; i < step.outputs.size(); ++i)
      if (changes(step.outputs[i])) plan_.per_run.push_back({step.outputs[i], static_cast<int>(s), i, true});
  }
}

Plan Planner::run(const std::vector<PlanInput>& inputs) {
  count_uses();
  for (const PlanInput& input : inputs) add_input(input);
  add_constants();
  for (const NodeId n : scope_) at_node(*nodes_[static_cast<size_t>(n)].description, [&] { plan_node(n); });
  add_results();
  plan_.arena = place_storages(plan_.storages);
  size_t most = 0;
  for (const PlanStorage& storage : plan_.storages)
    if (storage.kind == PlanStorage::Kind::Arena && storage.maker != kNone && storage.bytes > most) {
      most = storage.bytes;
      plan_.largest = storage.maker;
    }
  static std::atomic<uint64_t> ids{0};
  plan_.id = ++ids;
  list_run_tensors();
  return std::move(plan_);
}

const std::vector<std::string>& plan_pass_names() {
  static const std::vector<std::string> names = {"layouts", "epilogues", "views", "segments"};
  return names;
}

Plan make_plan(const Graph& graph, const std::vector<PlanNode>& nodes, const std::vector<NodeId>& scope,
               const std::vector<PlanInput>& inputs, const PlanOptions& options) {
  return Planner(graph, nodes, scope, options).run(inputs);
}

}  // namespace sardonyx
