#include "onnx_import/export_graph.h"

#include <algorithm>

#include "graph/builder.h"
#include "onnx_import/export_opset.h"
#include "ops/registry/proto.h"
#include "ops/registry/schema.h"

namespace sardonyx {

namespace {

// Makes nodes of the canonical opset that give a constant which no initializer can hold.
void make_constant(GraphBuilder& builder, ValueId id) {
  const ValueInfo info = builder.info(id);
  Node node;
  node.outputs = {id};
  if (info.constant.is_sequence()) {
    const Sequence& sequence = info.constant.sequence();
    node.op = sequence.items.empty() ? "SequenceEmpty" : "SequenceConstruct";
    DType element = sequence.element;
    if (element == DType::Undefined && info.type.kind == Type::Kind::Sequence)
      element = info.type.element->dtype;
    if (sequence.items.empty() && element != DType::Undefined)
      node.attributes.set("dtype", static_cast<int64_t>(element));
    for (const Value& item : sequence.items) {
      if (!item.is_tensor())
        throw UnsupportedError("constant '" + info.name + "'", "a sequence of tensors",
                               "a sequence of another kind");
      node.inputs.push_back(builder.constant(item, info.name + "_item"));
    }
  } else if (info.constant.is_nothing() && info.type.kind == Type::Kind::Optional) {
    node.op = "Optional";
    node.attributes.set("type", *info.type.element);
  } else {
    throw UnsupportedError("constant '" + info.name + "'", "a value that ONNX can store",
                           info.constant.kind_name());
  }
  builder.info(id).kind = ValueKind::Transient;
  builder.info(id).constant = Value();
  builder.add(std::move(node));
}

// The bodies of an attribute, each made expressible; false when none changed.
bool expressible_bodies(Attribute& attribute) {
  if (auto* body = std::get_if<GraphPtr>(&attribute); body && *body) {
    GraphPtr next = expressible(*body, true);
    const bool changed = next != *body;
    *body = std::move(next);
    return changed;
  }
  bool changed = false;
  if (auto* bodies = std::get_if<std::vector<GraphPtr>>(&attribute)) {
    for (GraphPtr& body : *bodies) {
      GraphPtr next = expressible(body, true);
      changed = changed || next != body;
      body = std::move(next);
    }
  }
  return changed;
}

// Whether a file has to name this output of the node although nobody reads it.
bool is_required(const Node& node, size_t output) {
  // The schema calls two of its outputs optional, its inference wants all of them in training mode.
  if (node.is("BatchNormalization")) return node.attributes.get<int64_t>("training_mode", 0) != 0;
  const OpSchemaInfo* schema = find_schema(node.domain, node.op, 0);
  if (!schema || schema->outputs.empty()) return false;
  return !schema->outputs[std::min(output, schema->outputs.size() - 1)].optional;
}

}  // namespace

GraphPtr expressible(const GraphPtr& graph, bool is_body) {
  GraphBuilder builder(*graph);
  bool changed = false;
  for (size_t i = 0; i < graph->values().size(); ++i) {
    const auto id = static_cast<ValueId>(i);
    const ValueInfo& info = graph->value(id);
    if (info.kind != ValueKind::Constant || info.constant.is_tensor() || graph->use_count(id) == 0) continue;
    make_constant(builder, id);
    changed = true;
  }
  for (size_t n = 0; n < graph->nodes().size(); ++n) {
    const Node& node = graph->nodes()[n];
    for (const auto& [name, attribute] : node.attributes) {
      Attribute next = attribute;
      if (!expressible_bodies(next)) continue;
      builder.node(static_cast<NodeId>(n)).attributes.set(name, std::move(next));
      changed = true;
    }
    for (size_t i = 0; i < node.outputs.size(); ++i)
      if (node.outputs[i] == kNone && is_required(node, i)) {
        const ValueId unread = builder.value("unread");
        builder.node(static_cast<NodeId>(n)).outputs[i] = unread;
        changed = true;
      }
  }
  std::vector<ValueId> outputs = graph->outputs();
  std::unordered_set<ValueId> seen;
  for (ValueId& id : outputs) {
    const bool first = seen.insert(id).second;
    if (first && !(is_body && graph->value(id).kind == ValueKind::Captured)) continue;
    Node copy;
    copy.op = "Identity";
    copy.inputs = {id};
    id = builder.value(graph->value(id).name + "_copy", graph->value(id).type);
    copy.outputs = {id};
    builder.add(std::move(copy));
    changed = true;
  }
  if (!changed) return graph;
  builder.set_outputs(std::move(outputs));
  return std::move(builder).build();
}

void GraphExporter::write(const Graph& graph, onnx::GraphProto& proto) {
  write_into(graph, nullptr, {}, proto);
}

void GraphExporter::write_into(const Graph& graph, const Names* outer,
                               const std::vector<std::string>& captured, onnx::GraphProto& proto) {
  Names names;
  names.outer = outer;
  names.of.resize(graph.values().size());
  for (size_t i = 0; i < graph.captures().size(); ++i)
    if (graph.captures()[i] != kNone) names.of[static_cast<size_t>(graph.captures()[i])] = captured.at(i);
  for (size_t i = 0; i < graph.values().size(); ++i) {
    if (graph.values()[i].kind == ValueKind::Captured) continue;
    std::string name = graph.values()[i].name.empty() ? "value" : graph.values()[i].name;
    for (int n = 1; names.taken(name); ++n) name = graph.values()[i].name + "_" + std::to_string(n);
    names.own.insert(name);
    names.of[i] = std::move(name);
  }

  proto.set_name(graph.name().empty() ? "graph" : graph.name());
  const auto describe_value = [&](ValueId id, onnx::ValueInfoProto& info) {
    info.set_name(names.of[static_cast<size_t>(id)]);
    if (graph.value(id).type.known()) *info.mutable_type() = to_proto(graph.value(id).type);
  };
  for (const ValueId id : graph.inputs()) describe_value(id, *proto.add_input());
  for (const ValueId id : graph.outputs()) describe_value(id, *proto.add_output());
  for (size_t i = 0; i < graph.values().size(); ++i) {
    const ValueInfo& value = graph.values()[i];
    const bool stored = value.kind == ValueKind::Variable ||
                        (value.kind == ValueKind::Input && value.constant.defined()) ||
                        (value.kind == ValueKind::Constant && graph.use_count(static_cast<ValueId>(i)) > 0);
    if (stored) tensors_.write(value.constant.tensor(), names.of[i], *proto.add_initializer());
  }
  for (const Node& node : graph.nodes()) write_node(graph, node, names, *proto.add_node());
}

std::string GraphExporter::node_name(const Node& node) {
  if (!node.name.empty() && node_names_.insert(node.name).second) return node.name;
  const std::string stem = node.name.empty() ? node.op : node.name;
  for (int& n = unnamed_[stem];;) {
    std::string name = stem + "_" + std::to_string(++n);
    if (node_names_.insert(name).second) return name;
  }
}

void GraphExporter::write_node(const Graph& graph, const Node& node, const Names& names,
                               onnx::NodeProto& proto) {
  proto.set_op_type(node.op);
  if (!node.domain.empty()) proto.set_domain(node.domain);
  proto.set_name(node_name(node));
  const auto write_list = [&](const std::vector<ValueId>& ids, auto&& add) {
    size_t count = ids.size();
    while (count > 0 && ids[count - 1] == kNone) --count;
    for (size_t i = 0; i < count; ++i)
      add(ids[i] == kNone ? std::string() : names.of[static_cast<size_t>(ids[i])]);
  };
  write_list(node.inputs, [&](std::string name) { proto.add_input(std::move(name)); });
  write_list(node.outputs, [&](std::string name) { proto.add_output(std::move(name)); });

  std::vector<std::string> captured;
  for (const ValueId id : node.captures)
    captured.push_back(id == kNone ? "" : names.of[static_cast<size_t>(id)]);
  const onnx::OpSchema* schema = schema_at(node.domain, node.op, opsets_.at(node.domain));
  for (const auto& [name, attribute] : node.attributes) {
    // choose_opsets has seen that an attribute which the schema does not have yet is at its default.
    if (schema && !schema->attributes().count(name)) continue;
    write_attribute(name, attribute, names, captured, *proto.add_attribute());
  }
  (void)graph;
}

void GraphExporter::write_attribute(const std::string& name, const Attribute& attribute, const Names& names,
                                    const std::vector<std::string>& captured, onnx::AttributeProto& proto) {
  using Proto = onnx::AttributeProto;
  if (const auto* body = std::get_if<GraphPtr>(&attribute)) {
    proto.set_name(name);
    proto.set_type(Proto::GRAPH);
    if (!*body) throw InputError("attribute '" + name + "'", "a graph", "none");
    write_into(**body, &names, captured, *proto.mutable_g());
  } else if (const auto* bodies = std::get_if<std::vector<GraphPtr>>(&attribute)) {
    proto.set_name(name);
    proto.set_type(Proto::GRAPHS);
    for (const GraphPtr& each : *bodies) write_into(*each, &names, captured, *proto.add_graphs());
  } else if (const auto* value = std::get_if<Value>(&attribute); value && value->is_sparse()) {
    proto.set_name(name);
    proto.set_type(Proto::SPARSE_TENSOR);
    tensors_.write(value->sparse(), "", *proto.mutable_sparse_tensor());
  } else if (value && value->is_tensor()) {
    proto.set_name(name);
    proto.set_type(Proto::TENSOR);
    tensors_.write(value->tensor(), "", *proto.mutable_t());
  } else if (const auto* list = std::get_if<std::vector<Tensor>>(&attribute)) {
    proto.set_name(name);
    proto.set_type(Proto::TENSORS);
    for (const Tensor& tensor : *list) tensors_.write(tensor, "", *proto.add_tensors());
  } else if (!to_proto(name, attribute, proto)) {
    throw UnsupportedError("attribute '" + name + "'", "a value that ONNX can store",
                           attribute_type_name(attribute));
  }
}

}  // namespace sardonyx
