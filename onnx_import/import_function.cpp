#include "onnx_import/import_graph.h"
#include "ops/registry/schema.h"

namespace sardonyx {

namespace {
// Calls within calls make names longer; past this they are told apart by a number alone.
constexpr size_t kLongestPrefix = 200;
}  // namespace

GraphImporter::Bindings GraphImporter::bind(Scope& scope, onnx::NodeProto& call, const Function& function) {
  Bindings bindings;
  for (const auto& name : function.proto->attribute()) bindings.emplace(name, Binding{});
  for (auto& attribute : *call.mutable_attribute()) {
    const Binding binding = resolve(scope, attribute);
    if (!binding.proto) continue;
    Binding& slot = bindings[attribute.name()];
    if (slot.proto) throw ModelError("attribute '" + attribute.name() + "'", "one value", "several");
    slot = binding;
  }
  return bindings;
}

void GraphImporter::inline_call(Scope& scope, onnx::NodeProto& call, const Function& function) {
  onnx::FunctionProto& proto = *function.proto;
  GraphBuilder& builder = scope.frame->builder;
  if (++depth_ > limits_.max_nesting)
    throw LimitError("nesting of bodies and functions", "at most " + std::to_string(limits_.max_nesting),
                     "more");
  if (call.input_size() > proto.input_size())
    throw ModelError("inputs", "at most " + std::to_string(proto.input_size()),
                     std::to_string(call.input_size()));
  if (call.output_size() > proto.output_size())
    throw ModelError("outputs", "at most " + std::to_string(proto.output_size()),
                     std::to_string(call.output_size()));

  Bindings bindings = bind(scope, call, function);
  Scope body;
  body.frame = scope.frame;
  body.opsets = &function.opsets;
  body.bindings = &bindings;
  body.prefix = scope.prefix + (call.name().empty() ? call.op_type() : call.name()) + "/";
  if (body.prefix.size() > kLongestPrefix) body.prefix = "call" + std::to_string(nodes_) + "/";
  // A default value is written in the function, so a graph in it sees the function's names.
  for (auto& attribute : *proto.mutable_attribute_proto()) {
    Binding& slot = bindings[attribute.name()];
    if (!slot.proto) slot = {&attribute, &body};
  }
  charge(static_cast<size_t>(proto.input_size()) * kValueBytes + bindings.size() * kAttributeBytes);

  for (int i = 0; i < proto.input_size(); ++i) {
    const bool given = i < call.input_size() && !call.input(i).empty();
    if (proto.input(i).empty()) throw ModelError("function '" + proto.name() + "' input", "a name", "none");
    declare(body, proto.input(i), given ? find(scope, *scope.frame, call.input(i)) : kNone);
  }
  // Nodes of the body write straight into the outputs of the call.
  std::unordered_map<std::string_view, ValueId> wanted;
  for (int i = 0; i < call.output_size(); ++i)
    if (!call.output(i).empty()) wanted.emplace(proto.output(i), scope.names.at(call.output(i)));
  declare_outputs(body, *proto.mutable_node(), {}, std::move(wanted));
  import_nodes(body, *proto.mutable_node());

  // An output that is an input, a constant or another output of the function is copied.
  for (int i = 0; i < call.output_size(); ++i) {
    if (call.output(i).empty()) continue;
    const ValueId target = scope.names.at(call.output(i));
    const ValueId source = find(body, *scope.frame, proto.output(i));
    if (source == target) continue;
    if (source == kNone)
      throw ModelError("output '" + proto.output(i) + "'", "a value", "an omitted input of the function");
    Node copy;
    copy.op = "Identity";
    copy.version = canonical_opset("");
    copy.inputs = {source};
    copy.outputs = {target};
    builder.add(std::move(copy));
  }
  --depth_;
}

}  // namespace sardonyx
