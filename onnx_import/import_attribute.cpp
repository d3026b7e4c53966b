#include "onnx_import/import_graph.h"
#include "ops/registry/proto.h"

namespace sardonyx {

namespace {

using Proto = onnx::AttributeProto;

// How many kinds of value an attribute message holds, and the type of the last of them.
std::pair<int, Proto::AttributeType> stored_type(const Proto& proto) {
  int count = 0;
  auto type = Proto::UNDEFINED;
  const auto note = [&](bool present, Proto::AttributeType t) {
    if (!present) return;
    ++count;
    type = t;
  };
  note(proto.has_f(), Proto::FLOAT);
  note(proto.has_i(), Proto::INT);
  note(proto.has_s(), Proto::STRING);
  note(proto.has_t(), Proto::TENSOR);
  note(proto.has_g(), Proto::GRAPH);
  note(proto.has_sparse_tensor(), Proto::SPARSE_TENSOR);
  note(proto.has_tp(), Proto::TYPE_PROTO);
  note(proto.floats_size() > 0, Proto::FLOATS);
  note(proto.ints_size() > 0, Proto::INTS);
  note(proto.strings_size() > 0, Proto::STRINGS);
  note(proto.tensors_size() > 0, Proto::TENSORS);
  note(proto.graphs_size() > 0, Proto::GRAPHS);
  note(proto.sparse_tensors_size() > 0, Proto::SPARSE_TENSORS);
  note(proto.type_protos_size() > 0, Proto::TYPE_PROTOS);
  return {count, type};
}

// The declared type, checked against the field in use. Files of IR 1 declare none, and writers of proto3
// leave out a field that is zero or empty.
Proto::AttributeType type_of(const Proto& proto) {
  const auto [count, stored] = stored_type(proto);
  const std::string what = "attribute '" + proto.name() + "'";
  if (count > 1) throw ModelError(what, "one value", std::to_string(count));
  if (proto.type() == Proto::UNDEFINED) {
    if (count == 0) throw ModelError(what, "a type and a value", "neither");
    return stored;
  }
  const bool needs_field = proto.type() == Proto::TENSOR || proto.type() == Proto::GRAPH ||
                           proto.type() == Proto::SPARSE_TENSOR || proto.type() == Proto::TYPE_PROTO;
  if ((count == 1 && stored != proto.type()) || (count == 0 && needs_field))
    throw ModelError(what, "a value of type " + Proto::AttributeType_Name(proto.type()),
                     count == 0 ? "none" : Proto::AttributeType_Name(stored));
  return proto.type();
}

Type checked_type(const onnx::TypeProto& proto, const std::string& name) {
  if (!is_well_formed(proto))
    throw ModelError("attribute '" + name + "'", "a complete type", "an incomplete or opaque one");
  return from_proto(proto);
}

}  // namespace

GraphImporter::Binding GraphImporter::resolve(const Scope& scope, onnx::AttributeProto& attribute) {
  if (attribute.ref_attr_name().empty()) return {&attribute, &scope};
  const std::string what = "attribute '" + attribute.name() + "'";
  if (!scope.bindings) throw ModelError(what, "a value", "a reference to an attribute outside of a function");
  const auto it = scope.bindings->find(attribute.ref_attr_name());
  if (it == scope.bindings->end())
    throw ModelError(what, "a reference to an attribute of the function",
                     "'" + attribute.ref_attr_name() + "'");
  const Binding& binding = it->second;
  if (binding.proto && attribute.type() != Proto::UNDEFINED && type_of(*binding.proto) != attribute.type())
    throw ModelError(what, Proto::AttributeType_Name(attribute.type()),
                     Proto::AttributeType_Name(type_of(*binding.proto)));
  return binding;
}

std::optional<Attribute> GraphImporter::plain_attribute(onnx::AttributeProto& proto) {
  switch (type_of(proto)) {
    case Proto::FLOAT:
      return Attribute(proto.f());
    case Proto::INT:
      return Attribute(static_cast<int64_t>(proto.i()));
    case Proto::STRING:
      charge(proto.s().size());
      return Attribute(proto.s());
    case Proto::TENSOR:
      return Attribute(Value(tensors_.dense(*proto.mutable_t())));
    case Proto::SPARSE_TENSOR:
      return Attribute(Value(tensors_.sparse(*proto.mutable_sparse_tensor())));
    case Proto::TYPE_PROTO:
      return Attribute(checked_type(proto.tp(), proto.name()));
    case Proto::FLOATS:
      charge(static_cast<size_t>(proto.floats_size()) * sizeof(float));
      return Attribute(std::vector<float>(proto.floats().begin(), proto.floats().end()));
    case Proto::INTS:
      charge(static_cast<size_t>(proto.ints_size()) * sizeof(int64_t));
      return Attribute(std::vector<int64_t>(proto.ints().begin(), proto.ints().end()));
    case Proto::STRINGS:
      for (const auto& s : proto.strings()) charge(sizeof(std::string) + s.size());
      return Attribute(std::vector<std::string>(proto.strings().begin(), proto.strings().end()));
    case Proto::TENSORS: {
      std::vector<Tensor> list;
      charge(static_cast<size_t>(proto.tensors_size()) * sizeof(Tensor));
      for (auto& t : *proto.mutable_tensors()) list.push_back(tensors_.dense(t));
      return Attribute(std::move(list));
    }
    case Proto::SPARSE_TENSORS: {
      std::vector<Tensor> list;
      charge(static_cast<size_t>(proto.sparse_tensors_size()) * sizeof(Tensor));
      for (auto& t : *proto.mutable_sparse_tensors()) list.push_back(tensors_.densified(t));
      return Attribute(std::move(list));
    }
    case Proto::TYPE_PROTOS: {
      std::vector<Type> list;
      charge(static_cast<size_t>(proto.type_protos_size()) * sizeof(Type));
      for (const auto& t : proto.type_protos()) list.push_back(checked_type(t, proto.name()));
      return Attribute(std::move(list));
    }
    default:
      return std::nullopt;
  }
}

void GraphImporter::import_attributes(Scope& scope, onnx::NodeProto& proto, Node& node) {
  const GraphRole role = node.is("If") ? GraphRole::Branch : GraphRole::Loop;
  Captures captures;
  // Bodies are closed last: a capture that a later body makes widens the list of every one of them.
  struct Body {
    std::string attribute;
    bool in_list;
    std::unique_ptr<Frame> frame;
  };
  std::vector<Body> bodies;
  for (auto& attribute : *proto.mutable_attribute()) {
    const std::string& name = attribute.name();
    if (name.empty()) throw ModelError("attribute", "a name", "none");
    if (node.attributes.has(name)) throw ModelError("attribute '" + name + "'", "one value", "several");
    const Binding binding = resolve(scope, attribute);
    if (!binding.proto) continue;
    charge(kAttributeBytes + name.size());
    if (auto plain = plain_attribute(*binding.proto)) {
      node.attributes.set(name, std::move(*plain));
    } else if (binding.proto->has_g()) {
      node.attributes.set(name, GraphPtr());
      bodies.push_back(
          {name, false, import_body(scope, *binding.scope, *binding.proto->mutable_g(), captures, role)});
    } else {
      node.attributes.set(name, std::vector<GraphPtr>());
      for (auto& graph : *binding.proto->mutable_graphs())
        bodies.push_back({name, true, import_body(scope, *binding.scope, graph, captures, role)});
    }
  }
  for (Body& body : bodies) {
    body.frame->builder.reserve_captures(captures.outer.size());
    GraphPtr graph = std::move(body.frame->builder).build();
    if (!body.in_list) {
      node.attributes.set(body.attribute, std::move(graph));
      continue;
    }
    auto list = node.attributes.at<std::vector<GraphPtr>>(body.attribute);
    list.push_back(std::move(graph));
    node.attributes.set(body.attribute, std::move(list));
  }
  node.captures = std::move(captures.outer);
}

Value GraphImporter::constant_value(const Scope& scope, onnx::NodeProto& proto) {
  if (proto.input_size() != 0 || proto.output_size() != 1)
    throw ModelError("Constant", "no input and one output",
                     std::to_string(proto.input_size()) + " and " + std::to_string(proto.output_size()));
  std::optional<Value> result;
  for (auto& attribute : *proto.mutable_attribute()) {
    const Binding binding = resolve(scope, attribute);
    if (!binding.proto) continue;
    if (result) throw ModelError("Constant", "one attribute", "several");
    Proto& value = *binding.proto;
    const std::string& name = attribute.name();
    const auto type = type_of(value);
    const auto is = [&](const char* spelled, Proto::AttributeType wanted) {
      if (name != spelled) return false;
      if (type != wanted)
        throw ModelError("attribute '" + name + "'", Proto::AttributeType_Name(wanted),
                         Proto::AttributeType_Name(type));
      return true;
    };
    if (is("value", Proto::TENSOR))
      result = Value(tensors_.dense(*value.mutable_t()));
    else if (is("sparse_value", Proto::SPARSE_TENSOR))
      result = Value(tensors_.densified(*value.mutable_sparse_tensor()));
    else if (is("value_float", Proto::FLOAT))
      result = Value(Tensor::scalar(value.f()));
    else if (is("value_int", Proto::INT))
      result = Value(Tensor::scalar(static_cast<int64_t>(value.i())));
    else if (is("value_string", Proto::STRING))
      result = Value(Tensor::scalar(value.s()));
    else if (is("value_floats", Proto::FLOATS))
      result = Value(Tensor::of(std::vector<float>(value.floats().begin(), value.floats().end())));
    else if (is("value_ints", Proto::INTS))
      result = Value(Tensor::of(std::vector<int64_t>(value.ints().begin(), value.ints().end())));
    else if (is("value_strings", Proto::STRINGS))
      result = Value(Tensor::of(std::vector<std::string>(value.strings().begin(), value.strings().end())));
    else
      throw ModelError("attribute '" + name + "'", "an attribute of Constant", "an unknown one");
    if (result->tensor().bytes() > 0 && !binding.proto->has_t() && !binding.proto->has_sparse_tensor())
      charge(result->tensor().bytes());
  }
  if (!result) throw ModelError("Constant", "a value", "none");
  return *result;
}

}  // namespace sardonyx
