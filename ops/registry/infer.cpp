// Type and shape inference: ONNX's inference functions over our graph.
#include <onnx/defs/data_type_utils.h>
#include <onnx/defs/schema.h>
#include <onnx/defs/shape_inference.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "ops/registry/operator.h"
#include "ops/registry/own_schema.h"
#include "ops/registry/propagate.h"
#include "ops/registry/proto.h"
#include "ops/registry/schema.h"

namespace sardonyx {

namespace {

constexpr int64_t kMaxEvaluatedElements = 1024;

// What inference knows that the types do not hold, carried into bodies.
struct Known {
  std::optional<PartialValue> partial;
  std::optional<Tensor> value;
};

class GraphInference {
 public:
  GraphInference(const Graph& graph, Evaluator* evaluator)
      : builder_(graph), evaluator_(evaluator), known_(graph.values().size()) {}

  GraphPtr run(const std::vector<Type>* input_types, const std::vector<Type>* capture_types,
               const std::vector<Known>* capture_known);

 private:
  friend class NodeContext;
  const Graph& graph() { return builder_.graph(); }
  void learn_constant(ValueId id, const Tensor& tensor);
  void infer_node(NodeId id);
  void infer_outputs(NodeId id);
  void learn_outputs(const Node& node);

  GraphBuilder builder_;
  Evaluator* evaluator_;
  std::vector<Known> known_;
};

// The items of a sequence that a Loop carries may have other dims at its end: ONNX's inference has those of
// the first.
Type output_type(const Node& node, Type type) {
  if (!node.is("Loop") || type.kind != Type::Kind::Sequence || !type.element || !type.element->is_tensor())
    return type;
  return Type::sequence(Type::tensor(type.element->dtype));
}

// One body seen by the inference function of the node that holds it.
class BodyInferencer final : public onnx::GraphInferencer {
 public:
  BodyInferencer(GraphPtr body, std::vector<Type> captures, std::vector<Known> known, Evaluator* evaluator)
      : body_(std::move(body)),
        captures_(std::move(captures)),
        known_(std::move(known)),
        evaluator_(evaluator) {}

  std::vector<const onnx::TypeProto*> doInferencing(const std::vector<const onnx::TypeProto*>& input_types,
                                                    const std::vector<const onnx::TensorProto*>&) override {
    std::vector<Type> inputs;
    for (const auto* type : input_types) inputs.push_back(type ? from_proto(*type) : Type{});
    if (inputs.size() > body_->inputs().size())
      throw ModelError("body '" + body_->name() + "'", std::to_string(inputs.size()) + " inputs",
                       std::to_string(body_->inputs().size()));
    result_ = GraphInference(*body_, evaluator_).run(&inputs, &captures_, &known_);
    output_types_.clear();
    for (const ValueId id : result_->outputs()) output_types_.push_back(to_proto(result_->value(id).type));
    std::vector<const onnx::TypeProto*> pointers;
    for (const auto& type : output_types_)
      pointers.push_back(type.value_case() == onnx::TypeProto::VALUE_NOT_SET ? nullptr : &type);
    return pointers;
  }
  // The body with types; inferred without input types if the node's function never asked for it.
  GraphPtr result() {
    if (!result_) result_ = GraphInference(*body_, evaluator_).run(nullptr, &captures_, &known_);
    return result_;
  }

 private:
  GraphPtr body_;
  std::vector<Type> captures_;
  std::vector<Known> known_;
  Evaluator* evaluator_;
  GraphPtr result_;
  std::vector<onnx::TypeProto> output_types_;
};

class NodeContext final : public onnx::InferenceContext {
 public:
  NodeContext(GraphInference& inference, const Node& node) : inference_(inference), node_(node) {
    const Graph& graph = inference.graph();
    for (const ValueId id : node.inputs) {
      input_types_.push_back(id == kNone ? onnx::TypeProto() : to_proto(graph.value(id).type));
    }
    input_data_.resize(node.inputs.size());
    symbolic_.resize(node.inputs.size());
    outputs_.resize(node.outputs.size());
  }

  const onnx::AttributeProto* getAttribute(const std::string& name) const override {
    const auto it = attributes_.find(name);
    if (it != attributes_.end()) return it->second.get();
    auto& slot = attributes_[name];
    if (const Attribute* attribute = node_.attributes.find(name)) {
      slot = std::make_unique<onnx::AttributeProto>();
      if (!to_proto(name, *attribute, *slot)) slot.reset();
    }
    return slot.get();
  }
  size_t getNumInputs() const override { return node_.inputs.size(); }
  const onnx::TypeProto* getInputType(size_t i) const override {
    return i < input_types_.size() && input_types_[i].value_case() != onnx::TypeProto::VALUE_NOT_SET
               ? &input_types_[i]
               : nullptr;
  }
  bool hasInput(size_t i) const override { return node_.input(i) != kNone; }
  const onnx::TensorProto* getInputData(size_t i) const override {
    if (i >= input_data_.size() || node_.inputs[i] == kNone) return nullptr;
    if (!input_data_[i]) {
      const Known& known = inference_.known_[static_cast<size_t>(node_.inputs[i])];
      if (!known.value) return nullptr;
      input_data_[i] = std::make_unique<onnx::TensorProto>();
      to_proto(*known.value, *input_data_[i]);
    }
    return input_data_[i].get();
  }
  const onnx::SparseTensorProto* getInputSparseData(size_t) const override { return nullptr; }
  const onnx::TensorShapeProto* getSymbolicInput(size_t i) const override {
    if (i >= symbolic_.size() || node_.inputs[i] == kNone) return nullptr;
    if (!symbolic_[i]) {
      const Known& known = inference_.known_[static_cast<size_t>(node_.inputs[i])];
      if (!known.partial || known.partial->scalar) return nullptr;
      symbolic_[i] = std::make_unique<onnx::TensorShapeProto>();
      for (const PartialInt& e : known.partial->elements) {
        auto* dim = symbolic_[i]->add_dim();
        if (e.value)
          dim->set_dim_value(*e.value);
        else if (!e.symbol.empty())
          dim->set_dim_param(e.symbol);
      }
    }
    return symbolic_[i].get();
  }
  size_t getNumOutputs() const override { return outputs_.size(); }
  onnx::TypeProto* getOutputType(size_t i) override {
    if (i >= outputs_.size()) throw onnx::InferenceError("output " + std::to_string(i) + " does not exist");
    return &outputs_[i];
  }
  onnx::GraphInferencer* getGraphAttributeInferencer(const std::string& name) override {
    auto& slot = bodies_[name];
    if (!slot) {
      const GraphPtr& body = node_.attributes.at<GraphPtr>(name);
      std::vector<Type> types;
      std::vector<Known> known;
      for (const ValueId id : node_.captures) {
        types.push_back(id == kNone ? Type{} : inference_.graph().value(id).type);
        known.push_back(id == kNone ? Known{} : inference_.known_[static_cast<size_t>(id)]);
      }
      slot =
          std::make_unique<BodyInferencer>(body, std::move(types), std::move(known), inference_.evaluator_);
    }
    return slot.get();
  }
  const std::map<std::string, std::unique_ptr<BodyInferencer>>& bodies() const { return bodies_; }
  const onnx::TypeProto& output(size_t i) const { return outputs_[i]; }

 private:
  GraphInference& inference_;
  const Node& node_;
  std::vector<onnx::TypeProto> input_types_, outputs_;
  mutable std::map<std::string, std::unique_ptr<onnx::AttributeProto>> attributes_;
  mutable std::vector<std::unique_ptr<onnx::TensorProto>> input_data_;
  mutable std::vector<std::unique_ptr<onnx::TensorShapeProto>> symbolic_;
  std::map<std::string, std::unique_ptr<BodyInferencer>> bodies_;
};

// The better of what a file declares and what inference found: inference wins where both know a number,
// and a name survives where inference has none.
Type merge_types(const Type& declared, const Type& inferred, const std::string& name) {
  if (!inferred.known()) return declared;
  if (!declared.known()) return inferred;
  Type left = declared;
  if (left.kind == Type::Kind::Optional && inferred.kind != Type::Kind::Optional) return inferred;
  if (left.kind != inferred.kind ||
      ((left.is_tensor() || left.kind == Type::Kind::SparseTensor) && left.dtype != inferred.dtype)) {
    if (inferred.kind == Type::Kind::Optional) return declared;
    throw ModelError("value '" + name + "'", "the declared type " + declared.to_string(),
                     inferred.to_string());
  }
  if (!inferred.shape) return left.is_tensor() ? declared : inferred;
  Type result = inferred;
  if (declared.shape && declared.shape->size() == inferred.shape->size())
    for (size_t i = 0; i < result.shape->size(); ++i) {
      Dim& dim = (*result.shape)[i];
      const Dim& hint = (*declared.shape)[i];
      if (!dim.known() && (hint.known() || dim.symbol.empty())) dim = hint;
    }
  return result;
}

void GraphInference::learn_constant(ValueId id, const Tensor& tensor) {
  Known& known = known_[static_cast<size_t>(id)];
  if (tensor.size() <= kMaxEvaluatedElements) known.value = tensor;
  if (auto partial = partial_value_of(tensor)) known.partial = std::move(partial);
}

GraphPtr GraphInference::run(const std::vector<Type>* input_types, const std::vector<Type>* capture_types,
                             const std::vector<Known>* capture_known) {
  if (input_types) {
    for (size_t i = 0; i < input_types->size(); ++i) {
      ValueInfo& info = builder_.info(graph().inputs()[i]);
      info.type = merge_types(info.type, (*input_types)[i], info.name);
    }
  }
  if (capture_types) {
    for (size_t i = 0; i < graph().captures().size(); ++i) {
      const ValueId id = graph().captures()[i];
      if (id == kNone) continue;
      builder_.info(id).type = (*capture_types)[i];
      known_[static_cast<size_t>(id)] = (*capture_known)[i];
    }
  }
  for (size_t i = 0; i < graph().values().size(); ++i) {
    const ValueInfo& info = graph().values()[i];
    if (info.kind == ValueKind::Constant && info.constant.is_tensor())
      learn_constant(static_cast<ValueId>(i), info.constant.tensor());
  }
  const size_t nodes = graph().nodes().size();
  for (size_t n = 0; n < nodes; ++n) {
    try {
      infer_node(static_cast<NodeId>(n));
    } catch (Error& e) {
      e.add_node(describe(graph(), graph().nodes()[n]));
      throw;
    } catch (const std::exception& e) {
      std::string inputs;
      for (const ValueId input : graph().nodes()[n].inputs)
        inputs +=
            (inputs.empty() ? "" : ", ") + (input == kNone ? "none" : graph().value(input).type.to_string());
      ModelError error(std::string("inference: ") + e.what(), "",
                       "inputs " + (inputs.empty() ? "none" : inputs));
      error.add_node(describe(graph(), graph().nodes()[n]));
      throw error;
    }
  }
  return std::move(builder_).build();
}

// ONNX's inference functions use required inputs without a look, as its checker has seen them.
void check_inputs(const Node& node, const onnx::OpSchema& schema) {
  const auto& ports = schema.inputs();
  const int given = static_cast<int>(node.inputs.size());
  if (given > schema.max_input())
    throw ModelError("inputs", "at most " + std::to_string(schema.max_input()), std::to_string(given));
  for (size_t i = 0; i < ports.size(); ++i)
    if (ports[i].GetOption() == onnx::OpSchema::Single && node.input(i) == kNone)
      throw ModelError("input " + std::to_string(i) + " ('" + ports[i].GetName() + "')", "a value", "none");
  if (given < schema.min_input())
    throw ModelError("inputs", "at least " + std::to_string(schema.min_input()), std::to_string(given));
}

bool accepts(const std::vector<onnx::OpSchema::FormalParameter>& ports, size_t i, const std::string& type) {
  if (ports.empty()) return false;
  const auto& allowed = ports[std::min(i, ports.size() - 1)].GetTypes();
  return std::any_of(allowed.begin(), allowed.end(), [&](const std::string* t) { return *t == type; });
}

// The inputs whose types are known are of types that the schema allows, or the newest one of the operator:
// types only grew over the versions, and the kernels are those of the newest. One type parameter stands for
// one type.
void check_input_types(const Node& node, const Graph& graph, const onnx::OpSchema& schema) {
  const auto& ports = schema.inputs();
  std::map<std::string, std::string> parameters;
  for (size_t i = 0; i < node.inputs.size() && !ports.empty(); ++i) {
    if (node.inputs[i] == kNone) continue;
    const Type& type = graph.value(node.inputs[i]).type;
    if (!type.fully_known()) continue;
    const auto& port = ports[std::min(i, ports.size() - 1)];
    const std::string name = type.onnx_name();
    const auto input = [&] { return "type of input " + std::to_string(i) + " ('" + port.GetName() + "')"; };
    const onnx::OpSchema* newest = nullptr;
    if (!accepts(ports, i, name))
      newest = onnx::OpSchemaRegistry::Schema(node.op, canonical_opset(node.domain), node.domain);
    if (newest && (newest->inputs().size() != ports.size() || !accepts(newest->inputs(), i, name))) {
      std::string expected;
      for (const std::string* t : port.GetTypes()) expected += (expected.empty() ? "" : ", ") + *t;
      throw ModelError(input(), expected, name);
    }
    if (port.GetOption() == onnx::OpSchema::Variadic && !port.GetIsHomogeneous()) continue;
    const auto& first = parameters.emplace(port.GetTypeStr(), name).first->second;
    if (first != name) throw ModelError(input(), "the other inputs' " + first, name);
  }
}

// ONNX's inference functions also narrow axes to int and index with what is left, and make lists as long as
// an attribute says.
void check_attributes(const Node& node) {
  static const std::set<std::string> names = {"axis",      "axes",     "batch_dims",      "batch_axis",
                                              "time_axis", "new_axis", "scan_input_axes", "scan_output_axes"};
  constexpr int64_t kMost = 1 << 20;
  const auto check = [](const std::string& name, int64_t value) {
    if (value < -kMost || value > kMost)
      throw ModelError("attribute '" + name + "'", "a number of dimensions", std::to_string(value));
  };
  for (const auto& [name, attribute] : node.attributes) {
    if (!names.count(name)) continue;
    if (const auto* value = std::get_if<int64_t>(&attribute)) check(name, *value);
    if (const auto* values = std::get_if<std::vector<int64_t>>(&attribute))
      for (const int64_t value : *values) check(name, value);
  }
  if (node.is("GatherND"))
    if (const int64_t batch_dims = node.attributes.get<int64_t>("batch_dims", 0); batch_dims < 0)
      throw ModelError("attribute 'batch_dims'", "at least 0", std::to_string(batch_dims));
  if (node.is("Split")) {
    const auto count = static_cast<int64_t>(node.outputs.size());
    if (const int64_t given = node.attributes.get<int64_t>("num_outputs", count); given != count)
      throw ModelError("attribute 'num_outputs'", std::to_string(count) + " (the outputs of the node)",
                       std::to_string(given));
  }
}

void GraphInference::infer_node(NodeId id) {
  infer_outputs(id);
  learn_outputs(graph().node(id));
}

// ONNX's inference of Einsum does not end on a point outside an ellipsis, on a second ellipsis in a term, or
// on any byte that is no letter.
void check_equation(const Node& node) {
  std::string text;
  for (const char c : node.attributes.get<std::string>("equation", ""))
    if (c != ' ') text += c;
  bool seen = false;
  const size_t arrow = text.find("->");
  for (size_t i = 0; i < text.size(); ++i) {
    const bool known = (text[i] >= 'a' && text[i] <= 'z') || (text[i] >= 'A' && text[i] <= 'Z') ||
                       text[i] == ',' || text[i] == '.' ||
                       (arrow != std::string::npos && (i == arrow || i == arrow + 1));
    if (!known) throw ModelError("attribute 'equation'", "letters, ',', '...' and one '->'", text);
    if (text[i] == ',' || text[i] == '>') seen = false;
    if (text[i] != '.') continue;
    if (seen || text.compare(i, 3, "...") != 0)
      throw ModelError("attribute 'equation'", "at most one ellipsis in a term", text);
    seen = true;
    i += 2;
  }
}

void GraphInference::infer_outputs(NodeId id) {
  const Node& node = graph().node(id);
  const onnx::OpSchema* schema = onnx::OpSchemaRegistry::Schema(
      node.op, node.version > 0 ? node.version : canonical_opset(node.domain), node.domain);
  if (!schema) return;
  check_inputs(node, *schema);
  check_input_types(node, graph(), *schema);
  check_attributes(node);
  if (node.is("Einsum")) check_equation(node);
  NodeContext context(*this, node);
  if (schema->has_type_and_shape_inference_function()) schema->GetTypeAndShapeInferenceFunction()(context);
  std::vector<std::pair<std::string, GraphPtr>> bodies;
  for (const auto& [name, attribute] : node.attributes)
    if (std::holds_alternative<GraphPtr>(attribute))
      bodies.emplace_back(name,
                          static_cast<BodyInferencer*>(context.getGraphAttributeInferencer(name))->result());
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNone) continue;
    ValueInfo& info = builder_.info(node.outputs[i]);
    info.type = merge_types(info.type, output_type(node, from_proto(context.output(i))), info.name);
    // The schema may fix the type where it has no inference function: there is but one, or the output has the
    // type variable of an input.
    if (!info.type.known() && !schema->outputs().empty()) {
      const size_t port = std::min(i, schema->outputs().size() - 1);
      const auto& allowed = schema->outputs()[port].GetTypes();
      if (allowed.size() == 1) {
        info.type = from_proto(onnx::Utils::DataTypeUtils::ToTypeProto(*allowed.begin()));
        info.type.shape.reset();
        continue;
      }
      const std::string& variable = schema->outputs()[port].GetTypeStr();
      for (size_t k = 0; k < node.inputs.size() && !schema->inputs().empty(); ++k) {
        const size_t from = std::min(k, schema->inputs().size() - 1);
        if (node.inputs[k] != kNone && schema->inputs()[from].GetTypeStr() == variable) {
          info.type = graph().value(node.inputs[k]).type;
          // These two have no inference function and keep the shape of their first input.
          if (k != 0 || !(node.is("GroupNormalization") || node.is("MeanVarianceNormalization")))
            info.type.shape.reset();
          break;
        }
      }
    }
  }
  Node& writable = builder_.node(id);
  for (auto& [name, body] : bodies) writable.attributes.set(name, body);
}

void GraphInference::learn_outputs(const Node& node) {
  if (node.outputs.empty() || node.outputs[0] == kNone) return;
  std::vector<const PartialValue*> partial;
  bool all_known = !node.inputs.empty();
  for (const ValueId id : node.inputs) {
    const Known* known = id == kNone ? nullptr : &known_[static_cast<size_t>(id)];
    partial.push_back(known && known->partial ? &*known->partial : nullptr);
    all_known = all_known && (!known || known->value);
  }
  const ValueId out = node.outputs[0];
  if (auto value = propagate_value(graph(), node, partial)) {
    if (value->complete() && graph().value(out).type.dtype == DType::Int64) {
      std::vector<int64_t> numbers;
      for (const auto& e : value->elements) numbers.push_back(*e.value);
      Dims dims;
      if (!value->scalar) dims.push_back(static_cast<int64_t>(numbers.size()));
      known_[static_cast<size_t>(out)].value = Tensor::of(numbers, dims);
    }
    known_[static_cast<size_t>(out)].partial = std::move(value);
    return;
  }
  const Type& type = graph().value(out).type;
  const Operator* op = OperatorRegistry::instance().find(node.domain, node.op);
  const bool wanted = type.is_tensor() && type.shape && type.rank() <= 1 &&
                      (is_integer(type.dtype) || type.dtype == DType::Bool || is_float(type.dtype));
  if (!evaluator_ || !all_known || !wanted || !node.captures.empty() || node.outputs.size() != 1 ||
      (op && op->impure))
    return;
  for (const auto& [name, attribute] : node.attributes)
    if (std::holds_alternative<GraphPtr>(attribute)) return;
  const auto dims = concrete(*type.shape);
  if (dims && element_count(*dims) > kMaxEvaluatedElements) return;
  std::vector<Value> inputs;
  for (const ValueId id : node.inputs)
    inputs.push_back(id == kNone ? Value() : Value(*known_[static_cast<size_t>(id)].value));
  // What cannot be evaluated now is evaluated, or reported, when the graph runs.
  try {
    const std::vector<Value> outputs = evaluator_->evaluate(graph(), node, inputs);
    if (outputs.at(0).is_tensor()) learn_constant(out, outputs[0].tensor());
  } catch (const std::exception&) {
  }
}

}  // namespace

GraphPtr infer_types(const GraphPtr& graph, Evaluator* evaluator) {
  with_own_schemas();
  return GraphInference(*graph, evaluator).run(nullptr, nullptr, nullptr);
}

}  // namespace sardonyx
