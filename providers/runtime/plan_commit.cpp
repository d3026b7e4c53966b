// What becomes of a node whose kernel is chosen: a known value, views, or a step of the plan.
#include <algorithm>

#include "ops/registry/operator.h"
#include "providers/runtime/planner.h"

namespace sardonyx {

namespace {
constexpr int64_t kMaxKnownElements = 1024;  // values that the planner computes itself

size_t first_byte(const PrepareContext::Output& output) {
  return static_cast<size_t>(output.first) * element_size(output.desc.dtype);
}
}  // namespace

// Computes now what depends on nothing but shapes and known values, if it is small.
bool Planner::fold(const Node& node, Choice& choice) {
  PrepareContext& ctx = *choice.context;
  const Operator* op = OperatorRegistry::instance().find(node.domain, node.op);
  if (op && op->impure) return false;
  if (ctx.absorbed_ != 0 || choice.memory != Layout::Plain) return false;
  for (size_t i = 0; i < node.inputs.size(); ++i)
    if (!ctx.reads_no_input_ && node.inputs[i] != kNone && !state(node.inputs[i]).known) return false;
  RunContext run;
  run.node_ = &node;
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const auto& output = ctx.outputs_[i];
    if (output.kind == PrepareContext::OutputKind::Unset) {
      run.outputs_.emplace_back();
      continue;
    }
    if (output.desc.size() > kMaxKnownElements || output.desc.layout != Layout::Plain) return false;
    if (output.kind == PrepareContext::OutputKind::Alias) {
      const Tensor* source = state(node.inputs[static_cast<size_t>(output.shares)]).known;
      if (!source) return false;
      run.outputs_.emplace_back(part_of(*source, output.desc.dims, first_byte(output)));
    } else {
      run.outputs_.emplace_back(Tensor(output.desc.dtype, output.desc.dims));
    }
  }
  for (const ValueId id : node.inputs)
    run.inputs_.push_back(id == kNone || !state(id).known ? Value() : Value(*state(id).known));
  run_now(choice.prepared, run, ctx.scratch_);
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNone) continue;
    const Tensor& value = known_.emplace_back(run.outputs_[i].tensor());
    PlanStorage storage;
    storage.kind = PlanStorage::Kind::Constant;
    storage.constant = value;
    add_tensor(node.outputs[i], {value.dtype(), value.dims()}, add_storage(std::move(storage)));
    state(node.outputs[i]).known = &value;
    state(node.outputs[i]).made = true;
  }
  for (const ValueId id : node.inputs) read(id);
  return true;
}

// The storage of an input whose bytes the output may overwrite, or -1.
int Planner::share_storage(const Node& node, const PrepareContext::Output& output, int tensor, size_t bytes) {
  if (output.shares < 0 || tensor < 0) return -1;
  const int storage = plan_.tensors[static_cast<size_t>(tensor)].storage;
  const PlanStorage& s = plan_.storages[static_cast<size_t>(storage)];
  if (s.kind != PlanStorage::Kind::Arena || s.bytes != bytes ||
      plan_.tensors[static_cast<size_t>(tensor)].offset != 0)
    return -1;
  for (const ValueId id : on_storage_[static_cast<size_t>(storage)]) {
    // Reads by this node through another port would see the new bytes.
    if (state(id).uses != 0 || state(id).escapes) return -1;
    int ports = 0;
    for (const ValueId input : node.inputs) ports += input == id;
    if (ports > 1) return -1;
  }
  return storage;
}

// Inputs that may lie in output 0 are moved there, where nothing but this plan holds their bytes.
void Planner::place_inputs(const PrepareContext& ctx, const PlanStep& step) {
  for (size_t i = 0; i < ctx.node().inputs.size() && options_.views; ++i) {
    if (ctx.inputs_[i].place < 0 || step.inputs[i] < 0) continue;
    const PlanTensor& whole = plan_.tensors[static_cast<size_t>(step.outputs[0])];
    const PlanTensor& tensor = plan_.tensors[static_cast<size_t>(step.inputs[i])];
    const size_t part = static_cast<size_t>(tensor.storage), into = static_cast<size_t>(whole.storage);
    PlanStorage& storage = plan_.storages[part];
    const size_t element = element_size(tensor.desc.dtype);
    if (storage.kind != PlanStorage::Kind::Arena || tensor.offset != 0 || part == into ||
        storage.bytes != static_cast<size_t>(tensor.desc.size()) * element ||
        std::any_of(on_storage_[part].begin(), on_storage_[part].end(),
                    [&](ValueId id) { return state(id).escapes; }))
      continue;
    storage.kind = PlanStorage::Kind::Inside;
    storage.inside = whole.storage;
    storage.offset = whole.offset + static_cast<size_t>(ctx.inputs_[i].place) * element;
    on_storage_[into].insert(on_storage_[into].end(), on_storage_[part].begin(), on_storage_[part].end());
  }
}

void Planner::commit(NodeId id, Choice& choice, const std::vector<ValueId>& operands) {
  const Node& node = graph_.node(id);
  PrepareContext& ctx = *choice.context;
  PlanStep step;
  step.node = &node;
  step.id = id;
  step.prepared = std::move(choice.prepared);
  step.kernel = std::move(choice.kernel);
  std::vector<ValueId> reads = node.inputs;
  if (!waiting_[static_cast<size_t>(id)])
    for (const ValueId value : node.inputs) read(value);
  ValueId made = node.output(0);
  for (size_t k = 0; k < ctx.absorbed_; ++k) {
    const auto& follower = ctx.followers_[k];
    step.absorbed.push_back(follower.node);
    const size_t absorbed = static_cast<size_t>(graph_.producer(follower.node->output(0)));
    if (!waiting_[absorbed]) {
      absorbed_[absorbed] = 1;
      for (const ValueId value : follower.node->inputs) read(value);
    }
    for (const auto& source : follower.inputs) {
      if (source.made >= 0 || source.input < first_operand(node)) continue;
      if (reads.size() <= source.input) reads.resize(source.input + 1, kNone);
      reads[source.input] = operands[source.input - first_operand(node)];
    }
    made = follower.node->output(0);
  }
  bool runs = false;
  for (const auto& output : ctx.outputs_) runs = runs || output.kind == PrepareContext::OutputKind::Static;
  for (size_t i = 0; i < reads.size(); ++i) {
    if (reads[i] == kNone || ctx.reads_no_input_) {
      step.inputs.push_back(-1);
      continue;
    }
    bool aliased = runs;
    for (const auto& output : ctx.outputs_)
      aliased = aliased ||
                (output.kind == PrepareContext::OutputKind::Alias && output.shares == static_cast<int>(i));
    Layout layout = ctx.inputs_[i].wanted;
    if (choice.memory != Layout::Plain)
      layout = desc_of(reads[i]).dims.size() == memory_rank_ ? choice.memory : Layout::Plain;
    step.inputs.push_back(aliased ? tensor_in(reads[i], layout) : -1);
  }
  for (const int tensor : step.inputs)
    if (tensor >= 0) used(tensor);
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const auto& output = ctx.outputs_[i];
    const ValueId value = i == 0 ? made : node.outputs[i];
    // A first output that nobody wants is made all the same.
    if (output.kind == PrepareContext::OutputKind::Unset ||
        (value == kNone && output.kind == PrepareContext::OutputKind::Alias)) {
      step.outputs.push_back(-1);
      continue;
    }
    if (value != kNone) state(value).made = true;
    TensorDesc desc = output.desc;
    if (choice.memory != Layout::Plain) {
      desc.dims = logical_dims(desc.dims, choice.memory);
      desc.layout = choice.memory;
    }
    if (output.kind == PrepareContext::OutputKind::Alias) {
      const int source = step.inputs[static_cast<size_t>(output.shares)];
      const PlanTensor& whole = plan_.tensors[static_cast<size_t>(source)];
      const size_t offset = whole.offset + first_byte(output);
      step.outputs.push_back(add_tensor(value, std::move(desc), whole.storage, offset));
      if (const Tensor* known = state(node.inputs[static_cast<size_t>(output.shares)]).known;
          known && choice.memory == Layout::Plain && output.desc.layout == Layout::Plain)
        state(value).known = &known_.emplace_back(part_of(*known, output.desc.dims, first_byte(output)));
      continue;
    }
    const size_t bytes = desc.bytes();
    int storage = output.shares < 0
                      ? -1
                      : share_storage(node, output, step.inputs[static_cast<size_t>(output.shares)], bytes);
    if (storage < 0) {
      PlanStorage fresh;
      fresh.bytes = bytes;
      fresh.maker = id;
      storage = add_storage(std::move(fresh));
    } else {
      on_storage_[static_cast<size_t>(storage)].clear();
    }
    step.outputs.push_back(add_tensor(value, std::move(desc), storage));
    used(step.outputs.back());
  }
  if (!runs) return;  // nothing but views
  place_inputs(ctx, step);
  add_step(std::move(step), ctx.scratch_);
}

}  // namespace sardonyx
