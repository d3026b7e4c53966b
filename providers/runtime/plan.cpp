#include "providers/runtime/plan.h"

#include <algorithm>
#include <atomic>
#include <optional>

#include "graph/print.h"
#include "ops/registry/operator.h"
#include "providers/runtime/dispatch.h"
#include "providers/runtime/log.h"

namespace sardonyx {

namespace {

constexpr int64_t kMaxKnownElements = 1024;  // values that the planner computes itself
constexpr size_t kMaxFollowers = 4;

class Planner {
 public:
  Planner(const Graph& graph, const std::vector<PlanNode>& nodes, const PlanOptions& options)
      : graph_(graph),
        nodes_(nodes),
        options_(options),
        values_(graph.values().size()),
        absorbed_(nodes.size(), 0) {}
  Plan run(const std::vector<PlanInput>& inputs, const std::vector<PlanInput>& captures);

 private:
  struct ValueState {
    int tensors[2] = {-1, -1};  // by layout
    const Tensor* known = nullptr;
    int uses = 0;           // reads that are still to come
    NodeId reader = kNone;  // the only one, if there is one
    bool is_output = false;
    bool available() const { return tensors[0] >= 0 || tensors[1] >= 0; }
  };
  // What one kernel was offered and answered.
  struct Choice {
    std::optional<PrepareContext> context;
    Prepared prepared = decline("");
    std::string kernel;
    Layout memory = Layout::Plain;  // of an elementwise node: all dims stand in this order
    std::vector<char> is_memory;    // parallel to the inputs
  };

  ValueState& state(ValueId id) { return values_[static_cast<size_t>(id)]; }
  void count_uses();
  int add_storage(PlanStorage storage);
  int add_tensor(ValueId id, TensorDesc desc, int storage);
  void add_input(ValueId id, const PlanInput& input, PlanStorage::Kind kind, size_t index);
  const TensorDesc& desc_of(ValueId id);
  int tensor_in(ValueId id, Layout layout);
  int add_reorder(ValueId id, int from, Layout to);
  void used(int tensor);
  void plan_node(NodeId id);
  bool can_plan(NodeId id) const;
  void interpret(NodeId id);
  std::vector<PrepareContext::Follower> followers_of(const Node& node, std::vector<ValueId>& operands);
  void fill_input(PrepareContext& ctx, size_t i, ValueId id, Layout layout);
  Layout elementwise_layout(const Node& node);
  bool choose(NodeId id, Choice& choice, std::vector<ValueId>& operands);
  void commit(NodeId id, Choice& choice, const std::vector<ValueId>& operands);
  bool fold(const Node& node, Choice& choice);
  int share_storage(const Node& node, const PrepareContext::Output& output, int tensor, size_t bytes);

  const Graph& graph_;
  const std::vector<PlanNode>& nodes_;
  const PlanOptions& options_;
  std::vector<ValueState> values_;
  std::vector<char> absorbed_;
  std::vector<std::vector<ValueId>> on_storage_;  // the values whose bytes a storage holds
  std::deque<Tensor> known_;
  size_t memory_rank_ = 0;  // the largest rank among the inputs of the node at hand
  Plan plan_;
};

void Planner::count_uses() {
  for (size_t n = 0; n < graph_.nodes().size(); ++n) {
    const Node& node = graph_.nodes()[n];
    for (const ValueId id : node.inputs)
      if (id != kNone) {
        ++state(id).uses;
        state(id).reader = static_cast<NodeId>(n);
      }
    for (const ValueId id : node.captures)
      if (id != kNone) state(id).uses += 2;  // bodies may read it often
  }
  for (const ValueId id : graph_.outputs()) {
    state(id).uses += 2;
    state(id).is_output = true;
  }
  for (ValueState& s : values_)
    if (s.uses != 1) s.reader = kNone;
}

int Planner::add_storage(PlanStorage storage) {
  storage.first = storage.last = static_cast<int>(plan_.steps.size());
  plan_.storages.push_back(std::move(storage));
  on_storage_.emplace_back();
  return static_cast<int>(plan_.storages.size()) - 1;
}

int Planner::add_tensor(ValueId id, TensorDesc desc, int storage) {
  const int index = static_cast<int>(plan_.tensors.size());
  if (id != kNone) {
    state(id).tensors[static_cast<size_t>(desc.layout)] = index;
    on_storage_[static_cast<size_t>(storage)].push_back(id);
  }
  plan_.tensors.push_back({std::move(desc), storage});
  return index;
}

void Planner::add_input(ValueId id, const PlanInput& input, PlanStorage::Kind kind, size_t index) {
  if (id == kNone || !input.is_tensor) return;
  PlanStorage storage;
  storage.kind = kind;
  storage.index = index;
  add_tensor(id, input.desc, add_storage(std::move(storage)));
}

const TensorDesc& Planner::desc_of(ValueId id) {
  const ValueState& s = state(id);
  return plan_.tensors[static_cast<size_t>(s.tensors[s.tensors[1] >= 0 ? 1 : 0])].desc;
}

void Planner::used(int tensor) {
  PlanStorage& storage =
      plan_.storages[static_cast<size_t>(plan_.tensors[static_cast<size_t>(tensor)].storage)];
  storage.last = std::max(storage.last, static_cast<int>(plan_.steps.size()));
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
    return add_tensor(id, std::move(desc), tensor.storage);
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
  const NodeId reader = graph_.producer(id);
  const Provider* provider = nullptr;
  if (reader != kNone &&
      !nodes_[static_cast<size_t>(reader)].provider->kernels().find("", "Transpose").empty())
    provider = nodes_[static_cast<size_t>(reader)].provider;
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
  step.provider = provider;
  step.inputs = {from};
  const bool constant =
      plan_.storages[static_cast<size_t>(plan_.tensors[static_cast<size_t>(from)].storage)].kind ==
      PlanStorage::Kind::Constant;
  PlanStorage storage;
  storage.kind = constant ? PlanStorage::Kind::Constant : PlanStorage::Kind::Arena;
  storage.bytes = static_cast<size_t>(
      checked_mul(source.size(), static_cast<int64_t>(element_size(source.dtype)), "bytes of a tensor"));
  TensorDesc desc = source;
  desc.layout = to;
  if (constant) {
    RunContext run;
    run.node_ = &node;
    const Tensor& tensor =
        plan_.storages[static_cast<size_t>(plan_.tensors[static_cast<size_t>(from)].storage)].constant;
    run.inputs_ = {Value(tensor.reshaped(ctx.inputs_[0].desc.dims))};
    storage.constant = Tensor(source.dtype, memory_dims(source.dims, to));
    run.outputs_ = {Value(storage.constant)};
    std::shared_ptr<Buffer> scratch = Buffer::host(std::max<size_t>(ctx.scratch_, 1));
    run.scratch_ = static_cast<std::byte*>(scratch->data());
    step.prepared.run(run);
    return add_tensor(id, std::move(desc), add_storage(std::move(storage)));
  }
  used(from);
  const int result = add_tensor(id, std::move(desc), add_storage(std::move(storage)));
  step.outputs = {result};
  if (ctx.scratch_ != 0) {
    PlanStorage scratch;
    scratch.bytes = ctx.scratch_;
    step.scratch = add_storage(std::move(scratch));
  }
  plan_.steps.push_back(std::move(step));
  return result;
}

bool Planner::can_plan(NodeId id) const {
  const Node& node = graph_.node(id);
  const PlanNode& info = nodes_[static_cast<size_t>(id)];
  if (!node.captures.empty() || info.kernels->empty()) return false;
  for (const auto& [name, attribute] : node.attributes)
    if (std::holds_alternative<GraphPtr>(attribute)) return false;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (node.inputs[i] == kNone) continue;
    const ValueState& s = values_[static_cast<size_t>(node.inputs[i])];
    if (!s.available()) return false;
    if ((*info.host_operand)[i] && !s.known) return false;
  }
  return true;
}

// Left to the run: its inputs are brought into plain order.
void Planner::interpret(NodeId id) {
  const Node& node = graph_.node(id);
  PlanStep step;
  step.node = &node;
  step.id = id;
  step.interpreted = true;
  step.provider = nodes_[static_cast<size_t>(id)].provider;
  std::vector<ValueId> reads = node.inputs;
  reads.insert(reads.end(), node.captures.begin(), node.captures.end());
  for (const ValueId value : reads)
    if (value != kNone && state(value).available() && graph_.value(value).kind != ValueKind::Constant)
      step.reads.emplace_back(value, tensor_in(value, Layout::Plain));
  for (const auto& [value, tensor] : step.reads) used(tensor);
  for (const ValueId value : node.inputs)
    if (value != kNone) --state(value).uses;
  plan_.steps.push_back(std::move(step));
}

// The chain of elementwise readers of the node's only output whose other operands are there already.
std::vector<PrepareContext::Follower> Planner::followers_of(const Node& node,
                                                            std::vector<ValueId>& operands) {
  std::vector<PrepareContext::Follower> chain;
  if (!options_.epilogues) return chain;
  for (size_t i = 1; i < node.outputs.size(); ++i)
    if (node.outputs[i] != kNone) return chain;
  ValueId value = node.output(0);
  while (chain.size() < kMaxFollowers && value != kNone && state(value).reader != kNone) {
    const Node& next = graph_.node(state(value).reader);
    const Operator* op = OperatorRegistry::instance().find(next.domain, next.op);
    if (!op || !op->is_elementwise || next.outputs.size() != 1 || next.output(0) == kNone) break;
    PrepareContext::Follower follower{&next, 0, 0};
    bool fits = true;
    int others = 0;
    for (size_t i = 0; i < next.inputs.size(); ++i) {
      if (next.inputs[i] == value)
        follower.port = i;
      else if (next.inputs[i] != kNone) {
        fits = fits && state(next.inputs[i]).available();
        if (!graph_.is_constant(next.inputs[i])) ++others;
      }
    }
    if (!fits || others > 1) break;
    if (next.inputs.size() == 2 && next.inputs[1 - follower.port] != kNone) {
      follower.operand = node.inputs.size() + operands.size();
      operands.push_back(next.inputs[1 - follower.port]);
    }
    chain.push_back(follower);
    value = next.output(0);
  }
  return chain;
}

void Planner::fill_input(PrepareContext& ctx, size_t i, ValueId id, Layout layout) {
  auto& input = ctx.inputs_[i];
  input.present = id != kNone;
  if (!input.present) return;
  input.is_tensor = true;
  input.desc = desc_of(id);
  input.desc.layout = layout;
  input.wanted = layout;
  input.constant = graph_.is_constant(id);
  input.host = state(id).known;
}

namespace {
Dims padded_to(Dims dims, size_t rank) {
  dims.insert(dims.begin(), static_cast<std::ptrdiff_t>(rank - dims.size()), 1);
  return dims;
}
}  // namespace

// Elementwise nodes run channels last when an input of the full rank lies so, and those of lower ranks, whose
// axes would stand elsewhere, read the same either way.
Layout Planner::elementwise_layout(const Node& node) {
  Layout layout = Layout::Plain;
  for (const ValueId id : node.inputs) {
    if (id == kNone) continue;
    const TensorDesc& desc = desc_of(id);
    if (desc.dims.size() < memory_rank_ && !layouts_agree(padded_to(desc.dims, memory_rank_)))
      return Layout::Plain;
    if (desc.layout == Layout::ChannelsLast && desc.dims.size() == memory_rank_ && !layouts_agree(desc.dims))
      layout = Layout::ChannelsLast;
  }
  return layout;
}

// False: a kernel took the node, but makes its outputs while running.
bool Planner::choose(NodeId id, Choice& choice, std::vector<ValueId>& operands) {
  const Node& node = graph_.node(id);
  const PlanNode& info = nodes_[static_cast<size_t>(id)];
  const Operator* op = OperatorRegistry::instance().find(node.domain, node.op);
  const Layout memory = op && op->is_elementwise ? elementwise_layout(node) : Layout::Plain;
  std::deque<Tensor> reshaped;
  std::string reasons;
  for (const KernelEntry* kernel : in_order(*info.kernels, options_.prefer_kernel)) {
    operands.clear();
    const bool aware = kernel->layouts == LayoutRule::Aware && memory == Layout::Plain;
    std::vector<PrepareContext::Follower> followers;
    if (aware) followers = followers_of(node, operands);
    PrepareContext& ctx = choice.context.emplace(graph_, node);
    ctx.threads_ = options_.threads;
    ctx.layouts_ = aware && options_.layouts;
    ctx.inputs_.resize(node.inputs.size() + operands.size());
    for (size_t i = 0; i < ctx.inputs_.size(); ++i) {
      const ValueId input = i < node.inputs.size() ? node.inputs[i] : operands[i - node.inputs.size()];
      fill_input(ctx, i, input, aware && input != kNone ? desc_of(input).layout : Layout::Plain);
      if (input == kNone || memory == Layout::Plain) continue;
      // The kernel sees the dims as they lie in memory, and knows nothing of layouts.
      auto& seen = ctx.inputs_[i];
      seen.desc.dims = memory_dims(padded_to(seen.desc.dims, memory_rank_), memory);
      if (seen.host && layouts_agree(padded_to(seen.host->dims(), memory_rank_)))
        seen.host = &reshaped.emplace_back(seen.host->reshaped(seen.desc.dims));
      else
        seen.host = nullptr, seen.constant = false;
    }
    ctx.followers_ = std::move(followers);
    Prepared prepared = prepare_kernel(*kernel, ctx);
    if (!prepared.declined.empty()) {
      reasons += (reasons.empty() ? "" : "; ") + kernel->name + " declined: " + prepared.declined;
      continue;
    }
    if (log_enabled("dispatch"))
      log_line("dispatch: " + *info.description + ": " + kernel->name +
               (reasons.empty() ? "" : "; " + reasons));
    choice.prepared = std::move(prepared);
    choice.kernel = kernel->name;
    choice.memory = memory;
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      const auto& output = ctx.outputs_[i];
      if (node.outputs[i] != kNone && output.kind == PrepareContext::OutputKind::Unset) return false;
      if (output.kind == PrepareContext::OutputKind::Static && output.desc.dtype == DType::String)
        return false;
    }
    return true;
  }
  throw UnsupportedError("no kernel takes this node (" + reasons + ")");
}

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
      run.outputs_.emplace_back(source->reshaped(output.desc.dims));
    } else {
      run.outputs_.emplace_back(Tensor(output.desc.dtype, output.desc.dims));
    }
  }
  for (const ValueId id : node.inputs)
    run.inputs_.push_back(id == kNone || !state(id).known ? Value() : Value(*state(id).known));
  const std::shared_ptr<Buffer> scratch = Buffer::host(std::max<size_t>(ctx.scratch_, 1));
  run.scratch_ = static_cast<std::byte*>(scratch->data());
  if (choice.prepared.run) choice.prepared.run(run);
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNone) continue;
    const Tensor& value = known_.emplace_back(run.outputs_[i].tensor());
    PlanStorage storage;
    storage.kind = PlanStorage::Kind::Constant;
    storage.constant = value;
    add_tensor(node.outputs[i], {value.dtype(), value.dims()}, add_storage(std::move(storage)));
    state(node.outputs[i]).known = &value;
  }
  for (const ValueId id : node.inputs)
    if (id != kNone) --state(id).uses;
  return true;
}

// The storage of an input whose bytes the output may overwrite, or -1.
int Planner::share_storage(const Node& node, const PrepareContext::Output& output, int tensor, size_t bytes) {
  if (output.shares < 0 || tensor < 0) return -1;
  const int storage = plan_.tensors[static_cast<size_t>(tensor)].storage;
  const PlanStorage& s = plan_.storages[static_cast<size_t>(storage)];
  if (s.kind != PlanStorage::Kind::Arena || s.bytes != bytes) return -1;
  for (const ValueId id : on_storage_[static_cast<size_t>(storage)]) {
    // Reads by this node through another port would see the new bytes.
    if (state(id).uses != 0 || state(id).is_output) return -1;
    int ports = 0;
    for (const ValueId input : node.inputs) ports += input == id;
    if (ports > 1) return -1;
  }
  return storage;
}

void Planner::commit(NodeId id, Choice& choice, const std::vector<ValueId>& operands) {
  const Node& node = graph_.node(id);
  PrepareContext& ctx = *choice.context;
  PlanStep step;
  step.node = &node;
  step.id = id;
  step.prepared = std::move(choice.prepared);
  step.kernel = std::move(choice.kernel);
  step.provider = nodes_[static_cast<size_t>(id)].provider;
  std::vector<ValueId> reads = node.inputs;
  for (const ValueId value : node.inputs)
    if (value != kNone) --state(value).uses;
  ValueId made = node.output(0);
  for (size_t k = 0; k < ctx.absorbed_; ++k) {
    const auto& follower = ctx.followers_[k];
    step.absorbed.push_back(follower.node);
    absorbed_[static_cast<size_t>(graph_.producer(follower.node->output(0)))] = 1;
    for (const ValueId value : follower.node->inputs)
      if (value != kNone) --state(value).uses;
    if (follower.operand != 0) {
      reads.resize(follower.operand + 1, kNone);
      reads[follower.operand] = operands[follower.operand - node.inputs.size()];
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
    TensorDesc desc = output.desc;
    if (choice.memory != Layout::Plain) {
      desc.dims = logical_dims(desc.dims, choice.memory);
      desc.layout = choice.memory;
    }
    if (output.kind == PrepareContext::OutputKind::Alias) {
      const int source = step.inputs[static_cast<size_t>(output.shares)];
      const int storage = plan_.tensors[static_cast<size_t>(source)].storage;
      step.outputs.push_back(add_tensor(value, std::move(desc), storage));
      if (const Tensor* known = state(node.inputs[static_cast<size_t>(output.shares)]).known;
          known && choice.memory == Layout::Plain)
        state(value).known = &known_.emplace_back(known->reshaped(output.desc.dims));
      continue;
    }
    const size_t bytes = static_cast<size_t>(
        checked_mul(desc.size(), static_cast<int64_t>(element_size(desc.dtype)), "bytes of a tensor"));
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
  if (ctx.scratch_ != 0) {
    PlanStorage scratch;
    scratch.bytes = ctx.scratch_;
    step.scratch = add_storage(std::move(scratch));
  }
  plan_.steps.push_back(std::move(step));
}

void Planner::plan_node(NodeId id) {
  if (absorbed_[static_cast<size_t>(id)]) return;
  if (!can_plan(id)) return interpret(id);
  const Node& node = graph_.node(id);
  Choice choice;
  std::vector<ValueId> operands;
  memory_rank_ = 0;
  for (const ValueId input : node.inputs)
    if (input != kNone) memory_rank_ = std::max(memory_rank_, desc_of(input).dims.size());
  if (!choose(id, choice, operands)) return interpret(id);
  if (!fold(node, choice)) commit(id, choice, operands);
}

Plan Planner::run(const std::vector<PlanInput>& inputs, const std::vector<PlanInput>& captures) {
  count_uses();
  for (size_t i = 0; i < inputs.size(); ++i)
    add_input(graph_.inputs()[i], inputs[i], PlanStorage::Kind::Input, i);
  for (size_t i = 0; i < captures.size(); ++i)
    add_input(graph_.captures()[i], captures[i], PlanStorage::Kind::Capture, i);
  for (size_t v = 0; v < values_.size(); ++v) {
    const ValueInfo& info = graph_.values()[v];
    const bool constant = info.kind == ValueKind::Constant || info.kind == ValueKind::Variable;
    if (!constant || !info.constant.is_tensor()) continue;
    PlanStorage storage;
    storage.kind = PlanStorage::Kind::Constant;
    storage.constant = info.constant.tensor();
    const int index = add_storage(std::move(storage));
    add_tensor(static_cast<ValueId>(v), {info.constant.tensor().dtype(), info.constant.tensor().dims()},
               index);
    if (info.kind == ValueKind::Constant) values_[v].known = &info.constant.tensor();
  }
  for (size_t n = 0; n < nodes_.size(); ++n) {
    try {
      plan_node(static_cast<NodeId>(n));
    } catch (Error& e) {
      e.add_node(*nodes_[n].description);
      throw;
    }
  }
  const auto keep = [&](int tensor) {
    PlanStorage& storage =
        plan_.storages[static_cast<size_t>(plan_.tensors[static_cast<size_t>(tensor)].storage)];
    if (storage.kind == PlanStorage::Kind::Arena) storage.kind = PlanStorage::Kind::Fresh;
  };
  for (const ValueId id : graph_.outputs()) {
    const int tensor = state(id).available() ? tensor_in(id, Layout::Plain) : -1;
    plan_.outputs.push_back(tensor);
    if (tensor >= 0) keep(tensor);
  }
  // Sequences, bodies and their results may hold on to what such a node reads.
  for (const PlanStep& step : plan_.steps)
    for (const auto& [id, tensor] : step.reads) keep(tensor);
  plan_.arena = place_storages(plan_.storages);
  size_t most = 0;
  for (const PlanStorage& storage : plan_.storages)
    if (storage.kind == PlanStorage::Kind::Arena && storage.maker != kNone && storage.bytes > most) {
      most = storage.bytes;
      plan_.largest = storage.maker;
    }
  static std::atomic<uint64_t> ids{0};
  plan_.id = ++ids;
  const auto changes = [&](int tensor) {
    if (tensor < 0) return false;
    const auto kind =
        plan_.storages[static_cast<size_t>(plan_.tensors[static_cast<size_t>(tensor)].storage)].kind;
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
  return std::move(plan_);
}

}  // namespace

const std::vector<std::string>& plan_pass_names() {
  static const std::vector<std::string> names = {"layouts", "epilogues"};
  return names;
}

Plan make_plan(const Graph& graph, const std::vector<PlanNode>& nodes, const std::vector<PlanInput>& inputs,
               const std::vector<PlanInput>& captures, const PlanOptions& options) {
  return Planner(graph, nodes, options).run(inputs, captures);
}

}  // namespace sardonyx
