#include "graph/builder.h"

#include <algorithm>

namespace sardonyx {

GraphBuilder::GraphBuilder(std::string name) { graph_.name_ = std::move(name); }

GraphBuilder::GraphBuilder(const Graph& graph) : graph_(graph) {
  for (const ValueInfo& value : graph_.values_) names_[value.name] = 0;
}

std::string GraphBuilder::fresh_name(const std::string& stem) {
  std::string base = stem.empty() ? "v" : stem;
  auto [it, inserted] = names_.try_emplace(base, 0);
  if (inserted && !stem.empty()) return base;
  for (;;) {
    std::string name = base + "_" + std::to_string(++it->second);
    // try_emplace may move the table, but not the counter: take the iterator again.
    const bool fresh = names_.try_emplace(name, 0).second;
    it = names_.find(base);
    if (fresh) return name;
  }
}

ValueId GraphBuilder::value(std::string name, Type type) {
  ValueInfo info;
  info.name = fresh_name(name);
  info.type = std::move(type);
  graph_.values_.push_back(std::move(info));
  return static_cast<ValueId>(graph_.values_.size() - 1);
}

ValueId GraphBuilder::input(std::string name, Type type) {
  const ValueId id = value(std::move(name), std::move(type));
  info(id).kind = ValueKind::Input;
  graph_.inputs_.push_back(id);
  return id;
}

ValueId GraphBuilder::capture(size_t index, std::string name, Type type) {
  const ValueId id = value(std::move(name), std::move(type));
  info(id).kind = ValueKind::Captured;
  if (graph_.captures_.size() <= index) graph_.captures_.resize(index + 1, kNone);
  graph_.captures_[index] = id;
  return id;
}

ValueId GraphBuilder::constant(Value initial, std::string name) {
  const ValueId id = value(name.empty() ? "const" : std::move(name), type_of(initial));
  info(id).kind = ValueKind::Constant;
  info(id).constant = std::move(initial);
  return id;
}

ValueId GraphBuilder::variable(Value initial, std::string name) {
  const ValueId id = constant(std::move(initial), std::move(name));
  info(id).kind = ValueKind::Variable;
  return id;
}

void GraphBuilder::output(ValueId id) { graph_.outputs_.push_back(id); }

NodeId GraphBuilder::add(Node node) {
  graph_.nodes_.push_back(std::move(node));
  return static_cast<NodeId>(graph_.nodes_.size() - 1);
}

ValueId GraphBuilder::op(const std::string& op, std::vector<ValueId> inputs, Attributes attributes) {
  return ops(op, std::move(inputs), 1, std::move(attributes)).front();
}

std::vector<ValueId> GraphBuilder::ops(const std::string& op, std::vector<ValueId> inputs, size_t outputs,
                                       Attributes attributes, const std::string& domain) {
  Node node;
  node.domain = domain;
  node.op = op;
  node.inputs = std::move(inputs);
  node.attributes = std::move(attributes);
  for (size_t i = 0; i < outputs; ++i) node.outputs.push_back(value(op));
  std::vector<ValueId> result = node.outputs;
  add(std::move(node));
  return result;
}

void GraphBuilder::bind_capture(size_t index, Value value) {
  const ValueId id = graph_.captures_.at(index);
  if (id == kNone) return;
  info(id).kind = ValueKind::Constant;
  info(id).type = type_of(value);
  info(id).constant = std::move(value);
  graph_.captures_[index] = kNone;
}

std::vector<ValueId> GraphBuilder::inline_body(const Graph& body, const std::vector<ValueId>& inputs,
                                               const std::vector<ValueId>& captures) {
  std::vector<ValueId> map(body.values().size(), kNone);
  for (size_t i = 0; i < inputs.size(); ++i) map[static_cast<size_t>(body.inputs()[i])] = inputs[i];
  for (size_t i = 0; i < body.captures().size(); ++i)
    if (body.captures()[i] != kNone) map[static_cast<size_t>(body.captures()[i])] = captures[i];
  for (size_t i = 0; i < body.values().size(); ++i) {
    if (map[i] != kNone) continue;
    const ValueInfo& from = body.values()[i];
    map[i] = value(from.name, from.type);
    info(map[i]).kind = from.kind;
    info(map[i]).constant = from.constant;
  }
  const auto rename = [&](std::vector<ValueId>& ids) {
    for (ValueId& id : ids)
      if (id != kNone) id = map[static_cast<size_t>(id)];
  };
  for (const Node& node : body.nodes()) {
    Node copy = node;
    rename(copy.inputs);
    rename(copy.outputs);
    rename(copy.captures);
    add(std::move(copy));
  }
  std::vector<ValueId> outputs = body.outputs();
  rename(outputs);
  return outputs;
}

GraphPtr GraphBuilder::build() && { return finish(false); }
GraphPtr GraphBuilder::build_pruned() && { return finish(true); }

GraphPtr GraphBuilder::finish(bool prune) {
  auto& values = graph_.values_;
  auto& nodes = graph_.nodes_;
  std::vector<NodeId> producer(values.size(), kNone);
  const auto name_of = [&](ValueId id) { return "value '" + values[static_cast<size_t>(id)].name + "'"; };

  for (size_t n = 0; n < nodes.size(); ++n) {
    for (const ValueId id : nodes[n].outputs) {
      if (id == kNone) continue;
      if (producer[static_cast<size_t>(id)] != kNone ||
          values[static_cast<size_t>(id)].kind != ValueKind::Transient)
        throw ModelError(name_of(id), "one producer", "two");
      producer[static_cast<size_t>(id)] = static_cast<NodeId>(n);
    }
  }

  // Depth-first from the roots, with an explicit stack: graphs can be deep. 1 = on the stack, 2 = done.
  std::vector<NodeId> order;
  std::vector<char> state(nodes.size(), 0);
  std::vector<std::pair<NodeId, size_t>> stack;
  const auto visit_value = [&](ValueId id) {
    if (id == kNone) return;
    const NodeId made_by = producer[static_cast<size_t>(id)];
    if (made_by == kNone) {
      if (values[static_cast<size_t>(id)].kind == ValueKind::Transient)
        throw ModelError(name_of(id), "a producer", "none");
      return;
    }
    if (state[static_cast<size_t>(made_by)] == 1)
      throw ModelError(name_of(id), "an acyclic graph", "a cycle through it");
    if (state[static_cast<size_t>(made_by)] == 0) {
      state[static_cast<size_t>(made_by)] = 1;
      stack.emplace_back(made_by, 0);
    }
  };
  const auto drain = [&] {
    while (!stack.empty()) {
      const NodeId id = stack.back().first;
      const Node& node = nodes[static_cast<size_t>(id)];
      const size_t next = stack.back().second++;
      if (next < node.inputs.size()) {
        visit_value(node.inputs[next]);
      } else if (next < node.inputs.size() + node.captures.size()) {
        visit_value(node.captures[next - node.inputs.size()]);
      } else {
        state[static_cast<size_t>(id)] = 2;
        order.push_back(id);
        stack.pop_back();
      }
    }
  };
  if (prune) {
    for (const ValueId id : graph_.outputs_) {
      visit_value(id);
      drain();
    }
  } else {
    for (size_t n = 0; n < nodes.size(); ++n) {
      if (state[n] == 0) {
        state[n] = 1;
        stack.emplace_back(static_cast<NodeId>(n), 0);
        drain();
      }
    }
    for (const ValueId id : graph_.outputs_) visit_value(id);
  }
  // The file's order is kept where it is already topological: readers and logs follow it.
  std::vector<NodeId> by_file = order;
  std::sort(by_file.begin(), by_file.end());
  std::vector<int> position(nodes.size(), -1);
  for (size_t i = 0; i < by_file.size(); ++i) position[static_cast<size_t>(by_file[i])] = static_cast<int>(i);
  bool file_order_works = true;
  for (const NodeId id : by_file) {
    const auto earlier = [&](ValueId v) {
      if (v == kNone || producer[static_cast<size_t>(v)] == kNone) return true;
      return position[static_cast<size_t>(producer[static_cast<size_t>(v)])] <
             position[static_cast<size_t>(id)];
    };
    const Node& node = nodes[static_cast<size_t>(id)];
    file_order_works = file_order_works && std::all_of(node.inputs.begin(), node.inputs.end(), earlier) &&
                       std::all_of(node.captures.begin(), node.captures.end(), earlier);
  }
  const std::vector<NodeId>& chosen = file_order_works ? by_file : order;
  std::vector<Node> sorted;
  sorted.reserve(chosen.size());
  for (const NodeId id : chosen) sorted.push_back(std::move(nodes[static_cast<size_t>(id)]));
  nodes = std::move(sorted);

  std::vector<int> uses(values.size(), 0);
  const auto use = [&](ValueId id) {
    if (id != kNone) ++uses[static_cast<size_t>(id)];
  };
  for (const Node& node : nodes) {
    for (const ValueId id : node.inputs) use(id);
    for (const ValueId id : node.captures) use(id);
  }
  for (const ValueId id : graph_.outputs_) use(id);

  if (prune) {
    // Optional outputs that nothing reads are no longer asked for; values without node or use go.
    std::vector<ValueId> renumbered(values.size(), kNone);
    std::vector<char> keep(values.size(), 0);
    const auto mark = [&](ValueId id) {
      if (id != kNone) keep[static_cast<size_t>(id)] = 1;
    };
    for (Node& node : nodes)
      for (ValueId& id : node.outputs)
        if (id != kNone && uses[static_cast<size_t>(id)] == 0) id = kNone;
    for (size_t i = 0; i < values.size(); ++i)
      if (uses[i] > 0 || values[i].kind == ValueKind::Variable) keep[i] = 1;
    for (const ValueId id : graph_.inputs_) mark(id);
    for (const ValueId id : graph_.captures_) mark(id);
    std::vector<ValueInfo> kept;
    std::vector<int> kept_uses;
    for (size_t i = 0; i < values.size(); ++i) {
      if (!keep[i]) continue;
      renumbered[i] = static_cast<ValueId>(kept.size());
      kept.push_back(std::move(values[i]));
      kept_uses.push_back(uses[i]);
    }
    const auto renumber = [&](std::vector<ValueId>& ids) {
      for (ValueId& id : ids)
        if (id != kNone) id = renumbered[static_cast<size_t>(id)];
    };
    for (Node& node : nodes) {
      renumber(node.inputs);
      renumber(node.outputs);
      renumber(node.captures);
    }
    renumber(graph_.inputs_);
    renumber(graph_.outputs_);
    renumber(graph_.captures_);
    values = std::move(kept);
    uses = std::move(kept_uses);
  }
  graph_.uses_ = std::move(uses);
  graph_.producers_.assign(values.size(), kNone);
  for (size_t n = 0; n < nodes.size(); ++n)
    for (const ValueId id : nodes[n].outputs)
      if (id != kNone) graph_.producers_[static_cast<size_t>(id)] = static_cast<NodeId>(n);
  return std::make_shared<const Graph>(std::move(graph_));
}

Attributes attributes(std::initializer_list<std::pair<std::string, Attribute>> list) {
  Attributes result;
  for (const auto& [name, value] : list) result.set(name, value);
  return result;
}

}  // namespace sardonyx
