#include "graph/patch.h"

#include <algorithm>

namespace sardonyx {

void Patch::replace(ValueId old_value, ValueId new_value) {
  if (old_value != new_value) replaced_[old_value] = new_value;
}

void Patch::remove(NodeId node) { removed_.push_back(node); }

GraphPtr Patch::apply() && {
  if (empty()) return before_;
  const auto final_id = [&](ValueId id) {
    for (auto it = replaced_.find(id); id != kNone && it != replaced_.end(); it = replaced_.find(id))
      id = it->second;
    return id;
  };
  Graph& graph = builder_.graph();
  const size_t node_count = graph.nodes().size();
  std::vector<char> gone(node_count, 0);
  for (const NodeId id : removed_) gone[static_cast<size_t>(id)] = 1;
  for (size_t n = 0; n < node_count; ++n) {
    Node& node = builder_.node(static_cast<NodeId>(n));
    for (ValueId& id : node.inputs) id = final_id(id);
    for (ValueId& id : node.captures) id = final_id(id);
    if (gone[n]) {
      // Its outputs are made by nobody now; build_pruned drops them unless something still reads one.
      node.inputs.clear();
      node.captures.clear();
      node.outputs.clear();
    }
  }
  std::vector<ValueId> outputs;
  for (const ValueId id : graph.outputs()) {
    ValueId target = final_id(id);
    if (target != id) {
      // A graph output keeps its name. A value that already has a name of the outside (an input, a
      // constant, another output) is read through an Identity.
      ValueInfo& info = builder_.info(target);
      const bool own = info.kind == ValueKind::Transient &&
                       std::find(before_->outputs().begin(), before_->outputs().end(), target) ==
                           before_->outputs().end() &&
                       std::find(outputs.begin(), outputs.end(), target) == outputs.end();
      if (!own) {
        const ValueId source = target;
        target = builder_.op("Identity", {source});
        builder_.info(target).type = builder_.info(source).type;
      }
      std::swap(builder_.info(id).name, builder_.info(target).name);
      for (Graph::Update& update : builder_.updates())
        if (update.output == id) update.output = target;
    }
    outputs.push_back(target);
  }
  builder_.set_outputs(std::move(outputs));
  return std::move(builder_).build_pruned();
}

}  // namespace sardonyx
