#include "ops/registry/schema.h"

#include <onnx/defs/schema.h>

#include <map>
#include <mutex>
#include <shared_mutex>
#include <tuple>

#include "ops/registry/own_schema.h"
#include "ops/registry/proto.h"

namespace sardonyx {

namespace {

const onnx::OpSchema* raw_schema(const std::string& domain, const std::string& name, int version) {
  with_own_schemas();
  if (version <= 0) version = canonical_opset(domain);
  return onnx::OpSchemaRegistry::Schema(name, version, domain);
}

std::optional<Attribute> default_of(const onnx::AttributeProto& proto) {
  using Proto = onnx::AttributeProto;
  switch (proto.type()) {
    case Proto::FLOAT:
      return Attribute(proto.f());
    case Proto::INT:
      return Attribute(static_cast<int64_t>(proto.i()));
    case Proto::STRING:
      return Attribute(proto.s());
    case Proto::FLOATS:
      return Attribute(std::vector<float>(proto.floats().begin(), proto.floats().end()));
    case Proto::INTS:
      return Attribute(std::vector<int64_t>(proto.ints().begin(), proto.ints().end()));
    case Proto::STRINGS:
      return Attribute(std::vector<std::string>(proto.strings().begin(), proto.strings().end()));
    default:
      return std::nullopt;
  }
}

std::vector<PortSchema> ports_of(const std::vector<onnx::OpSchema::FormalParameter>& ports) {
  std::vector<PortSchema> result;
  for (const auto& port : ports) {
    PortSchema p;
    p.name = port.GetName();
    p.optional = port.GetOption() == onnx::OpSchema::Optional;
    p.variadic = port.GetOption() == onnx::OpSchema::Variadic;
    for (const auto& type : port.GetTypes()) p.types.push_back(*type);
    result.push_back(std::move(p));
  }
  return result;
}

OpSchemaInfo describe_schema(const onnx::OpSchema& schema) {
  OpSchemaInfo info;
  info.domain = schema.domain();
  info.name = schema.Name();
  info.since_version = schema.since_version();
  info.deprecated = schema.Deprecated();
  info.has_function = schema.HasFunction() || schema.HasContextDependentFunction();
  info.min_inputs = schema.min_input();
  info.max_inputs = schema.max_input();
  info.min_outputs = schema.min_output();
  info.max_outputs = schema.max_output();
  info.inputs = ports_of(schema.inputs());
  info.outputs = ports_of(schema.outputs());
  std::map<std::string, const onnx::OpSchema::Attribute*> sorted;
  for (const auto& [name, attribute] : schema.attributes()) sorted[name] = &attribute;
  for (const auto& [name, attribute] : sorted)
    info.attributes.push_back({name, onnx::AttributeProto_AttributeType_Name(attribute->type),
                               attribute->required, default_of(attribute->default_value)});
  return info;
}

}  // namespace

const OpSchemaInfo* find_schema(const std::string& domain, const std::string& name, int version) {
  const onnx::OpSchema* schema = raw_schema(domain, name, version);
  if (!schema) return nullptr;
  static std::shared_mutex mutex;
  static std::map<const onnx::OpSchema*, OpSchemaInfo> known;
  {
    std::shared_lock lock(mutex);
    if (const auto it = known.find(schema); it != known.end()) return &it->second;
  }
  std::unique_lock lock(mutex);
  return &known.try_emplace(schema, describe_schema(*schema)).first->second;
}

std::vector<const OpSchemaInfo*> newest_schemas() {
  with_own_schemas();
  std::map<std::pair<std::string, std::string>, const OpSchemaInfo*> newest;
  for (const auto& schema : onnx::OpSchemaRegistry::get_all_schemas())
    if (const auto* info = find_schema(schema.domain(), schema.Name(), 0))
      newest[{schema.domain(), schema.Name()}] = info;
  std::vector<const OpSchemaInfo*> result;
  for (const auto& [key, info] : newest) result.push_back(info);
  return result;
}

int canonical_opset(const std::string& domain) {
  static const std::map<std::string, int> versions = [] {
    with_own_schemas();
    std::map<std::string, int> result;
    for (const auto& [name, range] : onnx::OpSchemaRegistry::DomainToVersionRange::Instance().Map())
      result[name] = range.second;
    return result;
  }();
  const auto it = versions.find(domain);
  return it == versions.end() ? 0 : it->second;
}

std::vector<int> schema_versions(const std::string& domain, const std::string& name) {
  static const auto all = [] {
    with_own_schemas();
    std::map<std::pair<std::string, std::string>, std::vector<int>> result;
    for (const auto& schema : onnx::OpSchemaRegistry::get_all_schemas_with_history())
      result[{schema.domain(), schema.Name()}].push_back(schema.since_version());
    for (auto& [key, versions] : result) std::sort(versions.begin(), versions.end());
    return result;
  }();
  const auto it = all.find({domain, name});
  return it == all.end() ? std::vector<int>{} : it->second;
}

// --- function bodies --------------------------------------------------------------------------------

namespace {

class BuildContext final : public onnx::FunctionBodyBuildContext {
 public:
  BuildContext(const Graph& graph, const Node& node) : node_(node) {
    for (const auto& [name, attribute] : node.attributes) {
      onnx::AttributeProto proto;
      if (to_proto(name, attribute, proto)) attributes_[name] = std::move(proto);
    }
    for (const ValueId id : node.inputs)
      types_.push_back(id == kNone ? onnx::TypeProto() : to_proto(graph.value(id).type));
  }
  const onnx::AttributeProto* getAttribute(const std::string& name) const override {
    const auto it = attributes_.find(name);
    return it == attributes_.end() ? nullptr : &it->second;
  }
  bool hasInput(int i) const override { return node_.input(static_cast<size_t>(i)) != kNone; }
  bool hasOutput(int i) const override { return node_.output(static_cast<size_t>(i)) != kNone; }
  const onnx::TypeProto* getInputType(int i) const override {
    const auto index = static_cast<size_t>(i);
    return index < types_.size() && types_[index].value_case() != onnx::TypeProto::VALUE_NOT_SET
               ? &types_[index]
               : nullptr;
  }

 private:
  const Node& node_;
  std::map<std::string, onnx::AttributeProto> attributes_;
  std::vector<onnx::TypeProto> types_;
};

std::optional<Attribute> attribute_from(const onnx::AttributeProto& proto) {
  if (proto.type() == onnx::AttributeProto::TENSOR) {
    const onnx::TensorProto& t = proto.t();
    const Dims dims(t.dims().begin(), t.dims().end());
    Tensor tensor(static_cast<DType>(t.data_type()), dims);
    const auto fill = [&](const auto& field, auto* data) { std::copy(field.begin(), field.end(), data); };
    if (t.has_raw_data()) {
      if (static_cast<int64_t>(t.raw_data().size()) != packed_bytes(tensor.dtype(), tensor.size()))
        return std::nullopt;
      unpack_elements(tensor.dtype(), reinterpret_cast<const uint8_t*>(t.raw_data().data()), tensor.size(),
                      tensor.mutable_data());
    } else if (tensor.dtype() == DType::Float32 && t.float_data_size() == tensor.size())
      fill(t.float_data(), tensor.mutable_data<float>());
    else if (tensor.dtype() == DType::Float64 && t.double_data_size() == tensor.size())
      fill(t.double_data(), tensor.mutable_data<double>());
    else if (tensor.dtype() == DType::Int64 && t.int64_data_size() == tensor.size())
      fill(t.int64_data(), tensor.mutable_data<int64_t>());
    else if (tensor.dtype() == DType::Int32 && t.int32_data_size() == tensor.size())
      fill(t.int32_data(), tensor.mutable_data<int32_t>());
    else if (tensor.dtype() == DType::Bool && t.int32_data_size() == tensor.size())
      fill(t.int32_data(), tensor.mutable_data<bool>());
    else if ((tensor.dtype() == DType::Float16 || tensor.dtype() == DType::BFloat16) &&
             t.int32_data_size() == tensor.size())
      fill(t.int32_data(), tensor.mutable_data<uint16_t>());
    else if (tensor.size() != 0)
      return std::nullopt;
    return Attribute(Value(std::move(tensor)));
  }
  return default_of(proto);
}

// The one-element or list constants that a Constant node spells as attributes.
std::optional<Tensor> constant_node_value(const onnx::NodeProto& node, const Attributes& attributes) {
  if (node.op_type() != "Constant" || node.attribute_size() != 1) return std::nullopt;
  const std::string& name = node.attribute(0).name();
  if (name == "value") return attributes.at<Value>(name).tensor();
  if (name == "value_float") return Tensor::scalar(attributes.at<float>(name));
  if (name == "value_int") return Tensor::scalar(attributes.at<int64_t>(name));
  if (name == "value_floats") return Tensor::of(attributes.at<std::vector<float>>(name));
  if (name == "value_ints") return Tensor::of(attributes.at<std::vector<int64_t>>(name));
  if (name == "value_string") return Tensor::scalar(attributes.at<std::string>(name));
  if (name == "value_strings") return Tensor::of(attributes.at<std::vector<std::string>>(name));
  return std::nullopt;
}

}  // namespace

std::vector<ValueId> expand_schema_function(GraphBuilder& builder, const Node& node) {
  const onnx::OpSchema* schema = raw_schema(node.domain, node.op, node.version);
  if (!schema) return {};
  onnx::FunctionProto function;
  if (schema->HasContextDependentFunction()) {
    BuildContext context(builder.graph(), node);
    if (!schema->BuildContextDependentFunction(context, function)) return {};
  } else if (const onnx::FunctionProto* body = schema->GetFunction()) {
    function = *body;
  } else {
    return {};
  }
  std::map<std::string, int> opsets;
  for (const auto& import : function.opset_import())
    opsets[import.domain()] = static_cast<int>(import.version());
  std::map<std::string, ValueId> scope;
  for (int i = 0; i < function.input_size(); ++i)
    scope[function.input(i)] = node.input(static_cast<size_t>(i));
  for (const auto& proto : function.node()) {
    Node inner;
    inner.domain = proto.domain();
    inner.op = proto.op_type();
    inner.version = opsets.count(inner.domain) ? opsets[inner.domain] : 0;
    for (const auto& attribute : proto.attribute()) {
      if (!attribute.ref_attr_name().empty()) {
        if (const Attribute* given = node.attributes.find(attribute.ref_attr_name())) {
          inner.attributes.set(attribute.name(), *given);
        } else if (const auto it = schema->attributes().find(attribute.ref_attr_name());
                   it != schema->attributes().end()) {
          if (auto initial = default_of(it->second.default_value))
            inner.attributes.set(attribute.name(), *initial);
        }
        continue;
      }
      auto value = attribute_from(attribute);
      if (!value) return {};
      inner.attributes.set(attribute.name(), std::move(*value));
    }
    if (auto value = constant_node_value(proto, inner.attributes)) {
      scope[proto.output(0)] = builder.constant(std::move(*value));
      continue;
    }
    for (const auto& name : proto.input())
      inner.inputs.push_back(name.empty() ? kNone : scope.count(name) ? scope[name] : kNone);
    while (!inner.inputs.empty() && inner.inputs.back() == kNone) inner.inputs.pop_back();
    for (const auto& name : proto.output()) {
      inner.outputs.push_back(name.empty() ? kNone : builder.value(name));
      if (!name.empty()) scope[name] = inner.outputs.back();
    }
    builder.add(std::move(inner));
  }
  std::vector<ValueId> outputs;
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const auto index = static_cast<int>(i);
    const auto it = index < function.output_size() ? scope.find(function.output(index)) : scope.end();
    outputs.push_back(it == scope.end() ? kNone : it->second);
  }
  return outputs;
}

}  // namespace sardonyx
