// Which kernel a node gets, in which layouts, and with which of the nodes behind it.
#include <algorithm>
#include <set>
#include <utility>

#include "graph/bodies.h"
#include "ops/registry/operator.h"
#include "providers/runtime/dispatch.h"
#include "providers/runtime/log.h"
#include "providers/runtime/planner.h"

namespace sardonyx {

namespace {
constexpr size_t kMaxFollowers = 24;
}  // namespace

Planner::Readiness Planner::readiness(NodeId id) const {
  const Node& node = graph_.node(id);
  const PlanNode& info = nodes_[static_cast<size_t>(id)];
  const auto value = [&](ValueId v) -> const ValueState& { return values_[static_cast<size_t>(v)]; };
  for (const auto* ids : {&node.inputs, &node.captures})
    for (const ValueId v : *ids)
      if (v != kNone && !value(v).available() && value(v).origin == Origin::Deferred)
        return Readiness::Deferred;
  if (!node.captures.empty() || has_bodies(node) || info.kernels->empty()) return Readiness::Never;
  bool waits = false;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (node.inputs[i] == kNone) continue;
    const ValueState& s = value(node.inputs[i]);
    if (!s.available()) {
      const Type& type = graph_.value(node.inputs[i]).type;
      if (s.origin == Origin::Outside || (type.known() && !type.is_tensor())) return Readiness::Never;
      waits = true;
    } else if ((*info.host_operand)[i] && !s.known) {
      // The next plan may be made for the value.
      if (!s.made) return Readiness::Never;
      waits = true;
    }
  }
  return !waits ? Readiness::Ready : options_.segments ? Readiness::Deferred : Readiness::Never;
}

void Planner::defer(NodeId id) {
  plan_.rest.push_back(id);
  for (const ValueId made : graph_.node(id).outputs)
    if (made != kNone) state(made).origin = Origin::Deferred;
}

// Left to the run: its inputs are brought into plain order. Such nodes stay in their order, over all plans of
// a run: the last of them that reads a value drops it. What it makes may hold on to what it reads: a sequence
// with the tensor in it, a view.
void Planner::interpret(NodeId id) {
  if (!plan_.rest.empty()) return defer(id);
  const Node& node = graph_.node(id);
  PlanStep step;
  step.node = &node;
  step.id = id;
  step.interpreted = true;
  std::vector<ValueId> reads = node.inputs;
  reads.insert(reads.end(), node.captures.begin(), node.captures.end());
  for (const ValueId value : reads)
    if (value != kNone && state(value).available() && graph_.value(value).kind != ValueKind::Constant)
      step.reads.emplace_back(value, tensor_in(value, Layout::Plain));
  for (const auto& [value, tensor] : step.reads) used(tensor);
  for (const ValueId value : node.inputs) {
    if (value != kNone) state(value).escapes = true;
    read(value);
  }
  for (const ValueId made : node.outputs)
    if (made != kNone) state(made).origin = Origin::Step;
  plan_.steps.push_back(std::move(step));
}

namespace {
Dims padded_to(Dims dims, size_t rank) {
  dims.insert(dims.begin(), static_cast<std::ptrdiff_t>(rank - dims.size()), 1);
  return dims;
}
}  // namespace

// Whether an elementwise node can be computed together with `made`: its inputs are among these, or there
// already.
bool Planner::may_follow(const Node& node, const std::vector<ValueId>& made, Layout memory) {
  if (!is_elementwise(node) || node.outputs.size() != 1) return false;
  if (state(node.output(0)).origin == Origin::Deferred) return false;
  for (const ValueId id : node.inputs) {
    if (id == kNone || std::find(made.begin(), made.end(), id) != made.end()) continue;
    if (!state(id).available()) return false;
    const Dims& dims = desc_of(id).dims;
    if (memory == Layout::Plain) continue;
    if (dims.size() > memory_rank_) return false;
    if (dims.size() < memory_rank_ && !layouts_agree(padded_to(dims, memory_rank_))) return false;
  }
  return true;
}

bool Planner::is_elementwise(const Node& node) const {
  const Operator* op = OperatorRegistry::instance().find(node.domain, node.op);
  return op && op->elementwise_in(graph_, node);
}

// Such as the scale of a product, which stands behind the product in the graph.
bool Planner::plan_early(NodeId id) {
  constexpr int64_t kMaxElements = 4096;
  const Node& node = graph_.node(id);
  if (absorbed_[static_cast<size_t>(id)] || begun_[static_cast<size_t>(id)] || !is_elementwise(node) ||
      node.outputs.size() != 1 || readiness(id) != Readiness::Ready)
    return false;
  for (const ValueId input : node.inputs)
    if (input != kNone && desc_of(input).size() > kMaxElements) return false;
  const size_t rank = std::exchange(memory_rank_, 0);
  const auto may_read = std::exchange(may_read_, std::nullopt);
  plan_node(id);
  memory_rank_ = rank;
  may_read_ = may_read;
  return state(node.outputs[0]).available();
}

bool Planner::missing_inputs(const Node& next, const std::vector<ValueId>& made, Layout memory,
                             std::vector<NodeId>& missing) {
  for (const ValueId input : next.inputs) {
    if (input == kNone || state(input).available()) continue;
    if (std::find(made.begin(), made.end(), input) != made.end()) continue;
    const NodeId maker = graph_.producer(input);
    if (maker == kNone) return false;
    if (!waiting_[static_cast<size_t>(maker)] && !waits_for_readers(maker)) {
      if (!plan_early(maker)) return false;
      continue;
    }
    waiting_[static_cast<size_t>(maker)] = 1;
    if (std::find(missing.begin(), missing.end(), maker) != missing.end()) continue;
    if (!may_follow(graph_.node(maker), made, memory)) return false;
    missing.push_back(maker);
  }
  return true;
}

std::vector<PrepareContext::Follower> Planner::followers_of(const Node& node, Layout memory,
                                                            std::vector<ValueId>& operands) {
  std::vector<PrepareContext::Follower> followers;
  if (!options_.epilogues || node.output(0) == kNone) return followers;
  for (size_t i = 1; i < node.outputs.size(); ++i)
    if (node.outputs[i] != kNone) return followers;
  std::vector<ValueId> made = {node.output(0)};
  std::set<NodeId> candidates(state(made[0]).readers.begin(), state(made[0]).readers.end()), taken;
  if (may_read_) candidates = *may_read_;
  // What readers compute anew may have other readers.
  const auto recomputed = [&](ValueId id) { return waiting_[static_cast<size_t>(graph_.producer(id))] != 0; };
  const auto add = [&](NodeId id) {
    const Node& next = graph_.node(id);
    PrepareContext::Follower follower{&next, {}, !waiting_[static_cast<size_t>(id)]};
    for (const ValueId input : next.inputs) {
      const auto own = std::find(made.begin(), made.end(), input);
      if (input == kNone) {
        follower.inputs.push_back({-1, node.inputs.size()});
      } else if (own != made.end()) {
        follower.inputs.push_back({static_cast<int>(own - made.begin()), 0});
      } else {
        const auto known = std::find(operands.begin(), operands.end(), input);
        follower.inputs.push_back({-1, first_operand(node) + static_cast<size_t>(known - operands.begin())});
        if (known == operands.end()) operands.push_back(input);
      }
    }
    taken.insert(id);
    made.push_back(next.output(0));
    if (!recomputed(made.back()))
      candidates.insert(state(made.back()).readers.begin(), state(made.back()).readers.end());
    for (size_t k = 0; k + 1 < made.size() && follower.closes; ++k) {
      if (recomputed(made[k])) continue;
      const ValueState& s = state(made[k]);
      follower.closes = !s.escapes && std::all_of(s.readers.begin(), s.readers.end(),
                                                  [&](NodeId reader) { return taken.count(reader) != 0; });
    }
    followers.push_back(std::move(follower));
  };
  while (!candidates.empty() && followers.size() < kMaxFollowers) {
    const NodeId id = *candidates.begin();
    candidates.erase(candidates.begin());
    std::vector<NodeId> missing;
    const bool planned = begun_[static_cast<size_t>(id)] && !waiting_[static_cast<size_t>(id)] &&
                         !(may_read_ && may_read_->count(id) != 0);
    if (absorbed_[static_cast<size_t>(id)] || planned || taken.count(id) != 0 ||
        !missing_inputs(graph_.node(id), made, memory, missing))
      continue;
    std::vector<ValueId> then = made;
    for (const NodeId other : missing) then.push_back(graph_.node(other).outputs[0]);
    if (!may_follow(graph_.node(id), then, memory)) continue;
    for (const NodeId other : missing) add(other);
    add(id);
  }
  return followers;
}

void Planner::fill_input(PrepareContext& ctx, size_t i, ValueId id, Layout layout) {
  auto& input = ctx.inputs_[i];
  input.present = id != kNone;
  if (!input.present) return;
  input.is_tensor = true;
  input.desc = desc_of(id);
  input.desc.layout = layout;
  input.constant = graph_.is_constant(id);
  input.host = state(id).known;
}

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
  const Layout memory = is_elementwise(node) ? elementwise_layout(node) : Layout::Plain;
  std::deque<Tensor> reshaped;
  std::string reasons;
  for (const KernelEntry* kernel : in_order(*info.kernels, options_.prefer_kernel)) {
    operands.clear();
    const bool aware = kernel->layouts == LayoutRule::Aware && memory == Layout::Plain;
    std::vector<PrepareContext::Follower> followers;
    if (kernel->layouts == LayoutRule::Aware) followers = followers_of(node, memory, operands);
    PrepareContext& ctx = choice.context.emplace(graph_, node);
    ctx.threads_ = options_.threads;
    ctx.layouts_ = aware && options_.layouts;
    bool strings = false;  // they do not lie in the arena, and cannot be reordered
    for (const ValueId input : node.inputs)
      strings = strings || (input != kNone && desc_of(input).dtype == DType::String);
    if (strings) ctx.layouts_ = false;
    if (options_.views && !strings)
      for (const ValueId made : node.outputs) ctx.viewable_.push_back(made != kNone && !state(made).escapes);
    ctx.inputs_.resize(operands.empty() ? node.inputs.size() : first_operand(node) + operands.size());
    for (size_t i = 0; i < ctx.inputs_.size(); ++i) {
      const ValueId input = i < node.inputs.size()    ? node.inputs[i]
                            : i < first_operand(node) ? kNone
                                                      : operands[i - first_operand(node)];
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

}  // namespace sardonyx
