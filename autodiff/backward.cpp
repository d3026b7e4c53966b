#include "autodiff/backward.h"

#include <algorithm>
#include <set>

#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

// The values that `outputs` depend on and that depend on `wrt`.
std::vector<char> active_values(const Graph& graph, const std::vector<ValueId>& outputs,
                                const std::vector<ValueId>& wrt) {
  const size_t count = graph.values().size();
  std::vector<char> reached(count, 0), wanted(count, 0);
  const auto marked = [](const std::vector<char>& marks, const std::vector<ValueId>& ids) {
    return std::any_of(ids.begin(), ids.end(),
                       [&](ValueId id) { return id != kNone && marks[static_cast<size_t>(id)]; });
  };
  for (const ValueId id : wrt) reached[static_cast<size_t>(id)] = 1;
  for (const Node& node : graph.nodes())
    if (marked(reached, node.inputs) || marked(reached, node.captures))
      for (const ValueId id : node.outputs)
        if (id != kNone && carries_gradient(graph.value(id).type)) reached[static_cast<size_t>(id)] = 1;
  for (const ValueId id : outputs) wanted[static_cast<size_t>(id)] = 1;
  for (size_t n = graph.nodes().size(); n-- > 0;) {
    const Node& node = graph.nodes()[n];
    const bool on_the_way = std::any_of(node.outputs.begin(), node.outputs.end(), [&](ValueId id) {
      return id != kNone && wanted[static_cast<size_t>(id)] && reached[static_cast<size_t>(id)];
    });
    if (!on_the_way) continue;
    for (const auto* ids : {&node.inputs, &node.captures})
      for (const ValueId id : *ids)
        if (id != kNone) wanted[static_cast<size_t>(id)] = 1;
  }
  for (size_t i = 0; i < count; ++i)
    reached[i] = reached[i] && wanted[i] && carries_gradient(graph.value(static_cast<ValueId>(i)).type);
  return reached;
}

std::string reason(const Graph& graph, const Node& node) {
  const Operator* op = OperatorRegistry::instance().find(node.domain, node.op);
  return describe(graph, node) + ": " +
         (op && !op->no_gradient.empty() ? op->no_gradient : "no gradient is known for " + node.op);
}

class BackwardPass {
 public:
  BackwardPass(GraphBuilder& builder, const std::vector<ValueId>& outputs, const std::vector<ValueId>& wrt)
      : builder_(builder), active_(active_values(builder.graph(), outputs, wrt)), wrt_(wrt) {}

  std::vector<ValueId> run(const std::vector<ValueId>& outputs, const std::vector<ValueId>& cotangents) {
    const size_t nodes = builder_.graph().nodes().size();
    check_rules(nodes);
    for (size_t i = 0; i < outputs.size(); ++i) accumulate(outputs[i], cotangents[i]);
    for (size_t n = nodes; n-- > 0;) visit(static_cast<NodeId>(n));
    std::vector<ValueId> result;
    for (const ValueId id : wrt_) result.push_back(cotangent(id));
    return result;
  }

 private:
  bool active(ValueId id) const { return id != kNone && active_[static_cast<size_t>(id)]; }
  ValueId cotangent(ValueId id) const {
    return id == kNone || static_cast<size_t>(id) >= cotangents_.size()
               ? kNone
               : cotangents_[static_cast<size_t>(id)];
  }
  void accumulate(ValueId id, ValueId term) {
    if (!active(id) || term == kNone) return;
    cotangents_.resize(active_.size(), kNone);
    ValueId& slot = cotangents_[static_cast<size_t>(id)];
    if (slot == kNone) {
      slot = term;
    } else {
      const Type type = builder_.graph().value(id).type;
      slot = add_cotangents(builder_, type, slot, term);
    }
  }

  bool on_the_way(const Node& node) const {
    const auto is_active = [&](ValueId id) { return active(id); };
    return std::any_of(node.outputs.begin(), node.outputs.end(), is_active) &&
           (std::any_of(node.inputs.begin(), node.inputs.end(), is_active) ||
            std::any_of(node.captures.begin(), node.captures.end(), is_active));
  }

  void check_rules(size_t nodes) const {
    std::string missing;
    for (size_t n = 0; n < nodes; ++n) {
      const Node& node = builder_.graph().nodes()[n];
      if (on_the_way(node) && !has_gradient(node))
        missing += (missing.empty() ? "" : "; ") + reason(builder_.graph(), node);
    }
    if (!missing.empty()) throw UnsupportedError("nodes without a gradient: " + missing);
  }

  void visit(NodeId id) {
    const Node node = builder_.graph().node(id);  // a copy: rules append nodes
    if (!on_the_way(node)) return;
    std::vector<ValueId> cotangents;
    for (const ValueId out : node.outputs) cotangents.push_back(cotangent(out));
    if (std::all_of(cotangents.begin(), cotangents.end(), [](ValueId c) { return c == kNone; })) return;
    std::vector<char> needs;
    for (const ValueId in : node.inputs) needs.push_back(active(in));
    for (const ValueId in : node.captures) needs.push_back(active(in));
    const Differentiate::Backward backward = [](GraphBuilder& body, const auto& outputs,
                                                const auto& cotangents, const auto& wrt) {
      return BackwardPass(body, outputs, wrt).run(outputs, cotangents);
    };
    Differentiate rule(builder_, id, node, std::move(cotangents), std::move(needs), &backward);
    const size_t first = builder_.graph().nodes().size();
    try {
      OperatorRegistry::instance().find(node.domain, node.op)->gradient(rule);
    } catch (Error& e) {
      e.add_node("gradient of " + describe(builder_.graph(), node));
      throw;
    }
    for (size_t n = first; n < builder_.graph().nodes().size(); ++n) {
      Node& made = builder_.node(static_cast<NodeId>(n));
      if (made.name.empty()) made.name = "gradient of " + (node.name.empty() ? node.op : node.name);
    }
    for (size_t i = 0; i < node.inputs.size(); ++i) accumulate(node.inputs[i], rule.given()[i]);
    for (size_t i = 0; i < node.captures.size(); ++i) accumulate(node.captures[i], rule.captures_given()[i]);
  }

  GraphBuilder& builder_;
  std::vector<char> active_;
  const std::vector<ValueId>& wrt_;
  std::vector<ValueId> cotangents_;  // by value
};

// The items of a sequence's cotangent in the shapes of the sequence's: between rules, a scalar zero may stand
// for an item.
ValueId widened(GraphBuilder& builder, ValueId cotangent, ValueId sequence, const Type& item) {
  GraphBuilder body("item");
  const ValueId d = body.input("d", Type::tensor(item.dtype)), x = body.input("x", Type::tensor(item.dtype));
  body.output(body.op("Expand", {d, body.op("Shape", {x})}));
  return builder.op("SequenceMap", {cotangent, sequence}, attributes({{"body", std::move(body).build()}}));
}

}  // namespace

std::vector<ValueId> append_gradient(GraphBuilder& builder, const std::vector<ValueId>& outputs,
                                     const std::vector<ValueId>& cotangents,
                                     const std::vector<ValueId>& wrt) {
  std::vector<ValueId> results = BackwardPass(builder, outputs, wrt).run(outputs, cotangents);
  for (size_t i = 0; i < wrt.size(); ++i)
    if (const Type type = builder.graph().value(wrt[i]).type;
        type.kind == Type::Kind::Sequence && results[i] != kNone)
      results[i] = widened(builder, results[i], wrt[i], *type.element);
  return results;
}

std::vector<ValueId> append_loss_gradient(GraphBuilder& builder, ValueId loss,
                                          const std::vector<ValueId>& wrt) {
  const Type type = builder.graph().value(loss).type;
  if (type.rank() != 0) throw InputError("loss", "a scalar (reduction 'mean' or 'sum')", type.to_string());
  const ValueId one = builder.op("Cast", {builder.constant(Tensor::scalar(1.0f))},
                                 attributes({{"to", static_cast<int64_t>(type.dtype)}}));
  return append_gradient(builder, {loss}, {one}, wrt);
}

bool keeps_gradient(const Node& node) {
  const Operator* op = OperatorRegistry::instance().find(node.domain, node.op);
  return !op || op->gradient || !op->no_gradient.empty();
}

}  // namespace sardonyx
