#include "ops/registry/body_gradient.h"

#include <algorithm>

#include "graph/bodies.h"
#include "ops/registry/propagate.h"
#include "ops/registry/schema.h"

namespace sardonyx {

namespace {

bool draws_random_numbers(const Node& node) {
  const Operator* op = OperatorRegistry::instance().find(node.domain, node.op);
  if (op && op->impure) return true;
  for (const auto& [name, attribute] : node.attributes)
    if (const auto* body = std::get_if<GraphPtr>(&attribute))
      if (std::any_of((*body)->nodes().begin(), (*body)->nodes().end(), draws_random_numbers)) return true;
  return false;
}

bool is_sequence_of_tensors(const Type& type) {
  return type.kind == Type::Kind::Sequence && type.element && type.element->is_tensor() &&
         type.element->dtype != DType::Undefined;
}

Type cotangent_type(const Type& type) {
  return type.kind == Type::Kind::Optional ? (type.element ? *type.element : Type{}) : type;
}

// A body with its gradient appended, cut where the gradient reads what the body computes.
class Cut {
 public:
  Cut(GraphBuilder& b, const Graph& body, const BodyQuestion& question, const std::vector<ValueId>& roots)
      : b_(b), question_(question), producer_(b.graph().values().size(), kNone) {
    const auto& nodes = b.graph().nodes();
    for (size_t n = 0; n < nodes.size(); ++n)
      for (const ValueId id : nodes[n].outputs)
        if (id != kNone) producer_[at(id)] = static_cast<NodeId>(n);
    types_ = infer_types(GraphBuilder(b).build(), nullptr);
    forward_.assign(nodes.size(), 0);
    fed_.assign(producer_.size(), 0);
    visited_.assign(producer_.size(), 0);
    is_input_.assign(producer_.size(), 0);
    for (const ValueId id : body.inputs()) is_input_[at(id)] = 1;
    for (const size_t i : question.fed) fed_[at(body.inputs()[i])] = 1;
    find_forward(body);
    find_invariant();
    for (const ValueId id : roots) need(id);
    drain();
  }

  const std::vector<ValueId>& saved() const { return saved_; }
  bool is_read(ValueId id) const { return visited_[at(id)] != 0; }
  const Type& type(ValueId id) const { return types_->value(id).type; }

 private:
  static size_t at(ValueId id) { return static_cast<size_t>(id); }

  // What the outputs of the body need, and the sizes of such values.
  void find_forward(const Graph& body) {
    std::vector<ValueId> open = body.outputs();
    while (!open.empty()) {
      const ValueId id = open.back();
      open.pop_back();
      const NodeId n = id == kNone ? kNone : producer_[at(id)];
      if (n == kNone || forward_[at(n)]) continue;
      forward_[at(n)] = 1;
      for (const auto* ids : {&b_.node(n).inputs, &b_.node(n).captures})
        open.insert(open.end(), ids->begin(), ids->end());
    }
    for (size_t n = 0; n < forward_.size(); ++n) {
      const Node& node = b_.graph().nodes()[n];
      if (forward_[n] || !measures(node)) continue;
      const NodeId made = producer_[at(node.inputs[0])];
      forward_[n] = made == kNone ? is_input_[at(node.inputs[0])] : forward_[at(made)];
    }
  }

  // Values of constants and captures alone are computed anew.
  void find_invariant() {
    invariant_.assign(producer_.size(), 0);
    for (size_t i = 0; i < producer_.size(); ++i)
      invariant_[i] = b_.graph().values()[i].kind != ValueKind::Transient &&
                      b_.graph().values()[i].kind != ValueKind::Input;
    for (const Node& node : b_.graph().nodes()) {
      const auto known = [&](ValueId id) { return id == kNone || invariant_[at(id)]; };
      if (!std::all_of(node.inputs.begin(), node.inputs.end(), known) ||
          !std::all_of(node.captures.begin(), node.captures.end(), known) || draws_random_numbers(node))
        continue;
      for (const ValueId id : node.outputs)
        if (id != kNone) invariant_[at(id)] = 1;
    }
  }

  void need(ValueId id) {
    if (id == kNone || visited_[at(id)]) return;
    visited_[at(id)] = 1;
    open_.push_back(id);
  }

  void drain() {
    while (!open_.empty()) {
      const ValueId id = open_.back();
      open_.pop_back();
      const NodeId n = producer_[at(id)];
      const bool computed = n != kNone && forward_[at(n)] && !invariant_[at(id)];
      if (fed_[at(id)] || (n == kNone && !is_input_[at(id)])) continue;
      if (computed || is_input_[at(id)]) {
        if (question_.saves_sequences || type(id).is_tensor()) {
          saved_.push_back(id);
          continue;
        }
        const bool only_here = n == kNone || draws_random_numbers(b_.node(n));
        if (only_here && question_.saves_sequence_inputs && is_sequence_of_tensors(type(id))) {
          saved_.push_back(id);
          continue;
        }
        if (only_here)
          throw UnsupportedError("the gradient of a loop", "values that are tensors or sequences of them",
                                 "'" + b_.info(id).name + "', " + type(id).to_string());
      }
      for (const auto* ids : {&b_.node(n).inputs, &b_.node(n).captures})
        for (const ValueId input : *ids) need(input);
    }
  }

  GraphBuilder& b_;
  const BodyQuestion& question_;
  std::vector<NodeId> producer_;
  GraphPtr types_;
  std::vector<char> forward_, invariant_, fed_, is_input_, visited_;
  std::vector<ValueId> open_, saved_;
};

}  // namespace

std::vector<char> reached_values(const Graph& graph, const std::vector<ValueId>& from) {
  std::vector<char> reached(graph.values().size(), 0);
  for (const ValueId id : from)
    if (id != kNone) reached[static_cast<size_t>(id)] = 1;
  const auto is_reached = [&](ValueId id) { return id != kNone && reached[static_cast<size_t>(id)]; };
  for (const Node& node : graph.nodes())
    if (std::any_of(node.inputs.begin(), node.inputs.end(), is_reached) ||
        std::any_of(node.captures.begin(), node.captures.end(), is_reached))
      for (const ValueId id : node.outputs)
        if (id != kNone && carries_gradient(graph.value(id).type)) reached[static_cast<size_t>(id)] = 1;
  return reached;
}

BodyGradient differentiate_body(Differentiate& d, const Graph& body, const BodyQuestion& question) {
  GraphBuilder b(body);
  std::vector<ValueId> outputs, cotangents, wanted, captures = body.captures();
  captures.resize(d.node().captures.size(), kNone);
  for (const size_t i : question.outputs) {
    const ValueInfo info = body.value(body.outputs()[i]);
    outputs.push_back(body.outputs()[i]);
    cotangents.push_back(b.value("d_" + info.name, cotangent_type(info.type)));
    b.info(cotangents.back()).kind = ValueKind::Input;
  }
  for (const size_t i : question.inputs) wanted.push_back(body.inputs()[i]);
  for (const size_t i : question.captures) {
    if (captures[i] == kNone) {
      const ValueInfo outer = d.builder().graph().value(d.node().captures[i]);
      captures[i] = b.value(outer.name, outer.type);
      b.info(captures[i]).kind = ValueKind::Captured;
    }
    wanted.push_back(captures[i]);
  }
  std::vector<ValueId> gradients = d.backward()(b, outputs, cotangents, wanted);
  for (size_t i = 0; i < gradients.size(); ++i)
    if (gradients[i] == kNone && (i < question.inputs.size() || question.capture_zeros))
      gradients[i] = zero_cotangent(b, wanted[i], Type(b.info(wanted[i]).type));

  // The formal inputs are those of the body again, whose nodes may be the only ones that read some of them.
  const Cut cut(b, body, question, gradients);
  std::vector<ValueId> with_saved = body.outputs();
  with_saved.insert(with_saved.end(), cut.saved().begin(), cut.saved().end());
  GraphBuilder forward(b);
  BodyPorts ports(forward, body.captures());
  for (const ValueId id : body.inputs()) ports.input(id);
  GraphPtr saving = ports.finish(std::move(with_saved));

  BodyGradient result{std::move(saving), b, cut.saved(), {}, std::move(cotangents), {}, {}, {}, {}};
  GraphBuilder& backward = result.backward;
  for (const ValueId id : cut.saved()) {
    for (size_t n = 0; n < backward.graph().nodes().size(); ++n)
      for (ValueId& output : backward.node(static_cast<NodeId>(n)).outputs)
        if (output == id) output = kNone;
    backward.info(id).kind = ValueKind::Input;
    backward.info(id).type = cut.type(id);
    result.saved.push_back(cut.type(id));
  }
  for (const size_t i : question.fed)
    result.fed.push_back(cut.is_read(body.inputs()[i]) ? body.inputs()[i] : kNone);
  result.captures = std::move(captures);
  const auto split = gradients.begin() + static_cast<std::ptrdiff_t>(question.inputs.size());
  result.of_inputs.assign(gradients.begin(), split);
  result.of_captures.assign(split, gradients.end());
  return result;
}

void BodyPorts::input(ValueId id) {
  body_.info(id).kind = ValueKind::Input;
  inputs_.push_back(id);
}

void BodyPorts::capture(ValueId id, size_t index) {
  body_.info(id).kind = ValueKind::Captured;
  if (inside_.size() <= index) inside_.resize(index + 1, kNone);
  inside_[index] = id;
}

GraphPtr BodyPorts::finish(std::vector<ValueId> outputs) {
  std::vector<ValueId> seen;
  for (ValueId& id : outputs) {
    const bool own =
        body_.info(id).kind == ValueKind::Transient && std::find(seen.begin(), seen.end(), id) == seen.end();
    seen.push_back(id);
    if (!own) id = body_.op("Identity", {id});
  }
  body_.set_inputs(inputs_);
  body_.set_captures(inside_);
  body_.set_outputs(std::move(outputs));
  GraphPtr graph = GraphBuilder(body_).build_pruned();
  std::vector<ValueId> used = graph->captures();
  for (ValueId& id : used)
    if (id != kNone && graph->use_count(id) == 0) id = kNone;
  GraphBuilder pruned(*graph);
  pruned.set_captures(std::move(used));
  return std::move(pruned).build_pruned();
}

std::vector<ValueId> used_captures(std::vector<ValueId> captures, const std::vector<GraphPtr>& bodies) {
  for (size_t i = 0; i < captures.size(); ++i)
    if (std::none_of(bodies.begin(), bodies.end(), [&](const GraphPtr& body) {
          return i < body->captures().size() && body->captures()[i] != kNone;
        }))
      captures[i] = kNone;
  return captures;
}

}  // namespace sardonyx
