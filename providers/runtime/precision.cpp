#include "providers/runtime/precision.h"

#include <algorithm>
#include <map>
#include <vector>

#include "graph/bodies.h"
#include "graph/patch.h"
#include "ops/registry/operator.h"
#include "ops/registry/propagate.h"

namespace sardonyx {

namespace {

class Lowering {
 public:
  explicit Lowering(const GraphPtr& graph)
      : graph_(*graph), nodes_(graph_.nodes().size(), 0), made_(graph_.values().size(), 0), patch_(graph) {}

  GraphPtr run() {
    rewrite_bodies(patch_, lower_precision);
    decide();
    for (size_t n = 0; n < nodes_.size(); ++n)
      if (nodes_[n]) lower(static_cast<NodeId>(n));
    return std::move(patch_).apply();
  }

 private:
  const ValueInfo& value(ValueId id) const { return graph_.value(id); }
  bool is_f32(ValueId id) const {
    return id != kNone && value(id).type.is_tensor() && value(id).type.dtype == DType::Float32;
  }
  bool is_made_low(ValueId id) const { return id != kNone && made_[static_cast<size_t>(id)]; }
  static const Operator* operator_of(const Node& node) {
    return OperatorRegistry::instance().find(node.domain, node.op);
  }

  // Whether a list of inputs or outputs that narrow has i.
  static bool includes(const std::vector<int>& named, size_t i) {
    return named.empty() || std::find(named.begin(), named.end(), static_cast<int>(i)) != named.end();
  }

  // Whether a lowered node reads its input i as bf16.
  bool takes_low(const Node& node, size_t i) const {
    const Operator& op = *operator_of(node);
    if (!is_f32(node.inputs[i])) return false;
    if (op.keeps_constants && value(node.inputs[i]).kind == ValueKind::Constant) return false;
    return includes(op.narrow_inputs, i);
  }

  bool can_lower(const Node& node) const {
    const Operator* op = operator_of(node);
    if (!op || op->narrow == Narrow::Never) return false;
    if (!op->keeps_outputs && !is_f32(node.output(0))) return false;
    for (size_t i = 0; i < node.inputs.size(); ++i)
      if (takes_low(node, i)) return true;
    return false;
  }

  bool any_low_input(const Node& node) const {
    for (size_t i = 0; i < node.inputs.size(); ++i)
      if (takes_low(node, i) && is_made_low(node.inputs[i])) return true;
    return false;
  }

  void mark(size_t n, bool low) {
    nodes_[n] = low;
    const Node& node = graph_.nodes()[n];
    const Operator& op = *operator_of(node);
    if (op.keeps_outputs) return;
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (is_f32(node.outputs[i]) && includes(op.narrow_outputs, i))
        made_[static_cast<size_t>(node.outputs[i])] = low;
  }

  // Whether some node that is lowered reads the value as bf16.
  bool read_low(ValueId id, const std::vector<std::vector<NodeId>>& readers) const {
    for (const NodeId reader : readers[static_cast<size_t>(id)]) {
      if (!nodes_[static_cast<size_t>(reader)]) continue;
      const Node& node = graph_.node(reader);
      for (size_t i = 0; i < node.inputs.size(); ++i)
        if (node.inputs[i] == id && takes_low(node, i)) return true;
    }
    return false;
  }

  // bf16 spreads forwards from the products; what nobody reads as bf16 in the end stays f32, since it would
  // only be rounded before its conversion.
  void decide() {
    std::vector<std::vector<NodeId>> readers(graph_.values().size());
    for (size_t n = 0; n < nodes_.size(); ++n) {
      const Node& node = graph_.nodes()[n];
      for (const ValueId id : node.inputs)
        if (id != kNone) readers[static_cast<size_t>(id)].push_back(static_cast<NodeId>(n));
      if (can_lower(node) && (operator_of(node)->narrow == Narrow::Always || any_low_input(node)))
        mark(n, true);
    }
    for (size_t n = nodes_.size(); n-- > 0;) {
      const Node& node = graph_.nodes()[n];
      if (!nodes_[n] || operator_of(node)->narrow == Narrow::Always) continue;
      const bool needed = std::any_of(node.outputs.begin(), node.outputs.end(),
                                      [&](ValueId id) { return id != kNone && read_low(id, readers); });
      if (!needed) mark(n, false);
    }
    wide_.assign(graph_.values().size(), 0);
    for (const ValueId id : graph_.outputs()) wide_[static_cast<size_t>(id)] = 1;
    for (size_t n = 0; n < nodes_.size(); ++n) {
      const Node& node = graph_.nodes()[n];
      if (measures(node)) continue;
      for (size_t i = 0; i < node.inputs.size(); ++i)
        if (node.inputs[i] != kNone && !(nodes_[n] && takes_low(node, i)))
          wide_[static_cast<size_t>(node.inputs[i])] = 1;
      for (const ValueId id : node.captures)
        if (id != kNone) wide_[static_cast<size_t>(id)] = 1;
    }
  }

  // Appends a Cast from one value to another.
  void cast(ValueId from, ValueId to) {
    Node node;
    node.op = "Cast";
    node.inputs = {from};
    node.outputs = {to};
    node.attributes.set("to", static_cast<int64_t>(patch_.builder().info(to).type.dtype));
    patch_.builder().add(std::move(node));
  }

  // A new value like one of the old graph, but bf16.
  ValueId narrowed(ValueId id) {
    Type type = value(id).type;
    type.dtype = DType::BFloat16;
    return patch_.builder().value(value(id).name + ".bf16", type);
  }

  // The bf16 form of a value of the old graph, made when it is first asked for.
  ValueId low(ValueId id) {
    if (is_made_low(id) && !wide_[static_cast<size_t>(id)]) return id;
    if (const auto it = low_.find(id); it != low_.end()) return it->second;
    const ValueId made = narrowed(id);
    cast(id, made);
    return low_[id] = made;
  }

  void lower(NodeId id) {
    GraphBuilder& builder = patch_.builder();
    const Node& old = graph_.node(id);
    for (size_t i = 0; i < old.inputs.size(); ++i)
      if (takes_low(old, i)) {
        const ValueId input = low(old.inputs[i]);
        builder.node(id).inputs[i] = input;
      }
    for (size_t i = 0; i < old.outputs.size(); ++i) {
      const ValueId out = old.outputs[i];
      if (!is_made_low(out)) continue;
      if (!wide_[static_cast<size_t>(out)]) {
        builder.info(out).type.dtype = DType::BFloat16;
        continue;
      }
      // Somebody reads it as f32: the old value becomes the result of a conversion.
      const ValueId made = narrowed(out);
      builder.node(id).outputs[i] = made;
      cast(made, out);
      low_[out] = made;
    }
  }

  const Graph& graph_;
  std::vector<char> nodes_;  // lowered
  std::vector<char> made_;   // values made in bf16
  std::vector<char> wide_;   // values that somebody reads as f32
  std::map<ValueId, ValueId> low_;
  Patch patch_;
};

}  // namespace

GraphPtr lower_precision(const GraphPtr& graph) { return Lowering(graph).run(); }

}  // namespace sardonyx
