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

  const auto maker = [&](ValueId id) { return id == kNone ? kNone : producer[static_cast<size_t>(id)]; };
  const auto check = [&](ValueId id) {
    if (id != kNone && maker(id) == kNone && values[static_cast<size_t>(id)].kind == ValueKind::Transient)
      throw ModelError(name_of(id), "a producer", "none");
  };
  for (const ValueId id : graph_.outputs_) check(id);
  // What is there at all, and what each node comes after: the makers of what it reads, and, for one that
  // writes over an input, the input's readers.
  std::vector<char> wanted(nodes.size(), prune ? 0 : 1);
  if (prune) {
    std::vector<ValueId> open = graph_.outputs_;
    while (!open.empty()) {
      const NodeId n = maker(open.back());
      open.pop_back();
      if (n == kNone || wanted[static_cast<size_t>(n)]) continue;
      wanted[static_cast<size_t>(n)] = 1;
      const Node& node = nodes[static_cast<size_t>(n)];
      open.insert(open.end(), node.inputs.begin(), node.inputs.end());
      open.insert(open.end(), node.captures.begin(), node.captures.end());
    }
  }
  std::erase_if(graph_.updates_, [&](const Graph::Update& u) {
    return std::find(graph_.outputs_.begin(), graph_.outputs_.end(), u.output) == graph_.outputs_.end();
  });
  std::unordered_map<ValueId, NodeId> writers;
  for (const Graph::Update& u : graph_.updates_)
    if (maker(u.output) != kNone) writers[u.input] = maker(u.output);
  std::vector<std::vector<NodeId>> before(nodes.size());
  for (size_t n = 0; n < nodes.size(); ++n) {
    if (!wanted[n]) continue;
    for (const auto* ids : {&nodes[n].inputs, &nodes[n].captures})
      for (const ValueId id : *ids) {
        check(id);
        if (maker(id) != kNone) before[n].push_back(maker(id));
        const auto writer = writers.find(id);
        if (writer != writers.end() && writer->second != static_cast<NodeId>(n))
          before[static_cast<size_t>(writer->second)].push_back(static_cast<NodeId>(n));
      }
  }

  // Depth-first, with an explicit stack: graphs can be deep. 1 = on the stack, 2 = done.
  std::vector<NodeId> order;
  std::vector<char> state(nodes.size(), 0);
  std::vector<std::pair<NodeId, size_t>> stack;
  for (size_t root = 0; root < nodes.size(); ++root) {
    if (!wanted[root] || state[root] != 0) continue;
    state[root] = 1;
    stack.emplace_back(static_cast<NodeId>(root), 0);
    while (!stack.empty()) {
      const auto id = static_cast<size_t>(stack.back().first);
      if (stack.back().second == before[id].size()) {
        state[id] = 2;
        order.push_back(static_cast<NodeId>(id));
        stack.pop_back();
        continue;
      }
      const NodeId next = before[id][stack.back().second++];
      if (state[static_cast<size_t>(next)] == 1) {
        const auto& made = nodes[static_cast<size_t>(next)].outputs;
        throw ModelError(made.empty() || made[0] == kNone ? "a node" : name_of(made[0]), "an acyclic graph",
                         "a cycle through it");
      }
      if (state[static_cast<size_t>(next)] == 0) {
        state[static_cast<size_t>(next)] = 1;
        stack.emplace_back(next, 0);
      }
    }
  }
  // The file's order is kept where it is already topological: readers and logs follow it.
  std::vector<NodeId> by_file = order;
  std::sort(by_file.begin(), by_file.end());
  std::vector<int> position(nodes.size(), -1);
  for (size_t i = 0; i < by_file.size(); ++i) position[static_cast<size_t>(by_file[i])] = static_cast<int>(i);
  const bool file_order_works = std::all_of(by_file.begin(), by_file.end(), [&](NodeId id) {
    const auto& others = before[static_cast<size_t>(id)];
    return std::all_of(others.begin(), others.end(), [&](NodeId other) {
      return position[static_cast<size_t>(other)] < position[static_cast<size_t>(id)];
    });
  });
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
    for (Graph::Update& update : graph_.updates_) {
      update.input = renumbered[static_cast<size_t>(update.input)];
      update.output = renumbered[static_cast<size_t>(update.output)];
    }
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
