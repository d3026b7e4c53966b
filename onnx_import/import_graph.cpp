#include "onnx_import/import_graph.h"

#include <algorithm>
#include <array>

#include "ops/registry/proto.h"
#include "ops/registry/schema.h"

namespace sardonyx {

bool is_well_formed(const onnx::TypeProto& proto) {
  using Proto = onnx::TypeProto;
  const auto element = [](int32_t dtype) { return dtype != 0 && is_valid_dtype(dtype); };
  const auto tensor = [&](const auto& type) {
    const auto& dims = type.shape().dim();
    return element(type.elem_type()) &&
           std::all_of(dims.begin(), dims.end(), [](const auto& dim) { return is_utf8(dim.dim_param()); });
  };
  switch (proto.value_case()) {
    case Proto::kTensorType:
      return tensor(proto.tensor_type());
    case Proto::kSparseTensorType:
      return tensor(proto.sparse_tensor_type());
    case Proto::kSequenceType:
      return is_well_formed(proto.sequence_type().elem_type());
    case Proto::kOptionalType:
      return is_well_formed(proto.optional_type().elem_type());
    case Proto::kMapType:
      return element(proto.map_type().key_type()) && is_well_formed(proto.map_type().value_type());
    default:
      return false;
  }
}

namespace {

// Operators that draw random numbers, or may.
bool draws(const Node& node) {
  static constexpr std::array kRandom = {"Bernoulli",        "Dropout",          "Multinomial",
                                         "RandomNormal",     "RandomNormalLike", "RandomUniform",
                                         "RandomUniformLike"};
  return node.domain.empty() &&
         std::any_of(kRandom.begin(), kRandom.end(), [&](const char* op) { return node.op == op; });
}

// What a file says about a value in passing; Unknown when it makes no sense.
Type hinted(const onnx::TypeProto* proto) {
  return proto && is_well_formed(*proto) ? from_proto(*proto) : Type{};
}

std::string text_of(std::string_view name) { return "value '" + std::string(name) + "'"; }

}  // namespace

GraphImporter::GraphImporter(int64_t ir_version, const Functions& functions, TensorReader& tensors,
                             const ImportLimits& limits, size_t footprint)
    : ir_version_(ir_version),
      functions_(functions),
      tensors_(tensors),
      limits_(limits),
      max_footprint_(32 * footprint + 1024 * static_cast<size_t>(std::max<int64_t>(limits.max_nodes, 0))) {}

GraphPtr GraphImporter::import(onnx::GraphProto& graph, const Opsets& opsets) {
  Frame frame;
  frame.builder.set_name(graph.name());
  Scope scope;
  scope.frame = &frame;
  scope.opsets = &opsets;
  import_into(scope, graph, GraphRole::Main);
  return std::move(frame.builder).build();
}

void GraphImporter::charge(size_t bytes) {
  footprint_ += bytes;
  if (footprint_ > max_footprint_)
    throw LimitError("size of the expanded model", "at most " + std::to_string(max_footprint_) + " bytes",
                     "more");
}

void GraphImporter::charge_node(const onnx::NodeProto& proto) {
  check_text(proto.name(), "node");
  if (++nodes_ > limits_.max_nodes)
    throw LimitError("nodes after function expansion", "at most " + std::to_string(limits_.max_nodes),
                     "more");
  size_t bytes = kNodeBytes + proto.name().size();
  bytes += static_cast<size_t>(proto.input_size()) * sizeof(ValueId);
  for (const auto& name : proto.output()) bytes += kValueBytes + name.size();
  charge(bytes);
}

void GraphImporter::declare(Scope& scope, const std::string& name, ValueId id) {
  check_text(name, "value");
  if (!scope.names.emplace(name, id).second) throw ModelError(text_of(name), "one producer", "several");
}

ValueId GraphImporter::captured(Frame& frame, const Frame& home, ValueId id) {
  if (&frame == &home || id == kNone) return id;
  const ValueId outer = captured(*frame.parent, home, id);
  if (const auto it = frame.inside.find(outer); it != frame.inside.end()) return it->second;
  const auto [slot, is_new] = frame.captures->index.try_emplace(outer, frame.captures->outer.size());
  if (is_new) frame.captures->outer.push_back(outer);
  const ValueInfo& info = frame.parent->builder.info(outer);
  charge(kValueBytes + info.name.size());
  const ValueId inner = frame.builder.capture(slot->second, info.name, info.type);
  frame.inside.emplace(outer, inner);
  return inner;
}

ValueId GraphImporter::find(const Scope& scope, Frame& frame, const std::string& name) {
  for (const Scope* s = &scope; s; s = s->parent)
    if (const auto it = s->names.find(name); it != s->names.end())
      return captured(frame, *s->frame, it->second);
  throw ModelError(text_of(name), "a value of this graph or of one around it", "an undefined name");
}

void GraphImporter::declare_input(Scope& scope, const onnx::ValueInfoProto& input, const Tensor* initializer,
                                  GraphRole role) {
  GraphBuilder& builder = scope.frame->builder;
  charge(kValueBytes + input.name().size());
  // Before IR 4 every initializer is listed among the inputs; a branch takes no inputs at all.
  if (initializer && (ir_version_ < 4 || role == GraphRole::Branch)) {
    declare(scope, input.name(), builder.constant(Value(*initializer), input.name()));
    return;
  }
  if (role == GraphRole::Main && !is_well_formed(input.type()))
    throw ModelError("input '" + input.name() + "'", "a type",
                     input.has_type() ? "an incomplete or opaque one" : "none");
  Type type = hinted(input.has_type() ? &input.type() : nullptr);
  if (initializer && type.is_tensor() && type.dtype != initializer->dtype())
    throw ModelError("initializer of input '" + input.name() + "'", dtype_name(type.dtype),
                     dtype_name(initializer->dtype()));
  const ValueId id = builder.input(input.name(), std::move(type));
  if (initializer) builder.info(id).constant = Value(*initializer);
  declare(scope, input.name(), id);
}

void GraphImporter::declare_initializers(Scope& scope, onnx::GraphProto& graph, GraphRole role) {
  std::unordered_map<std::string_view, Tensor> initial;
  std::vector<const std::string*> order;
  const auto add = [&](const std::string& name, Tensor tensor) {
    if (name.empty()) throw ModelError("initializer of graph '" + graph.name() + "'", "a name", "none");
    if (!initial.emplace(name, std::move(tensor)).second)
      throw ModelError("initializer '" + name + "'", "one definition", "several");
    order.push_back(&name);
  };
  for (auto& proto : *graph.mutable_initializer()) add(proto.name(), tensors_.dense(proto));
  for (auto& proto : *graph.mutable_sparse_initializer())
    add(proto.values().name(), tensors_.densified(proto));

  for (const auto& input : graph.input()) {
    if (input.name().empty()) throw ModelError("input of graph '" + graph.name() + "'", "a name", "none");
    const auto it = initial.find(input.name());
    declare_input(scope, input, it == initial.end() ? nullptr : &it->second, role);
  }
  for (const std::string* name : order) {
    if (scope.names.count(*name)) continue;
    charge(kValueBytes + name->size());
    declare(scope, *name,
            scope.frame->builder.constant(Value(std::move(initial.find(*name)->second)), *name));
  }
}

void GraphImporter::declare_outputs(Scope& scope, Nodes& nodes, const Hints& hints,
                                    std::unordered_map<std::string_view, ValueId> known) {
  GraphBuilder& builder = scope.frame->builder;
  for (auto& proto : nodes) {
    const bool constant = is_constant_node(proto);
    for (const std::string& name : proto.output()) {
      if (name.empty()) continue;
      ValueId id = kNone;
      if (const auto it = known.find(name); it != known.end() && !constant) {
        id = it->second;
      } else if (constant) {
        try {
          id = builder.constant(constant_value(scope, proto), scope.prefix + name);
        } catch (Error& error) {
          error.add_node(describe(proto));
          throw;
        }
      } else {
        const auto hint = hints.find(name);
        id = builder.value(scope.prefix + name, hinted(hint == hints.end() ? nullptr : hint->second));
      }
      declare(scope, name, id);
    }
  }
}

void GraphImporter::import_into(Scope& scope, onnx::GraphProto& graph, GraphRole role) {
  if (role == GraphRole::Main && graph.output_size() == 0)
    throw ModelError("graph '" + graph.name() + "'", "outputs", "none");
  check_text(graph.name(), "graph");
  Hints hints;
  if (scope.prefix.empty())
    for (const auto& info : graph.value_info())
      hints.emplace(info.name(), info.has_type() ? &info.type() : nullptr);
  for (const auto& info : graph.output())
    if (info.has_type()) hints.insert_or_assign(info.name(), &info.type());

  declare_initializers(scope, graph, role);
  declare_outputs(scope, *graph.mutable_node(), hints);
  import_nodes(scope, *graph.mutable_node());
  for (const auto& output : graph.output()) {
    if (output.name().empty()) throw ModelError("output of graph '" + graph.name() + "'", "a name", "none");
    charge(kValueBytes);
    const ValueId id = find(scope, *scope.frame, output.name());
    if (id == kNone)
      throw ModelError("output '" + output.name() + "'", "a value", "an omitted input of a function");
    scope.frame->builder.output(id);
  }
}

void GraphImporter::import_nodes(Scope& scope, Nodes& nodes) {
  for (auto& proto : nodes) {
    if (is_constant_node(proto)) continue;
    try {
      charge_node(proto);
      if (const Function* function = functions_.find(proto))
        inline_call(scope, proto, *function);
      else
        import_node(scope, proto);
    } catch (Error& error) {
      error.add_node(describe(proto));
      throw;
    }
  }
}

void GraphImporter::import_node(Scope& scope, onnx::NodeProto& proto) {
  Node node;
  node.domain = normalized_domain(proto.domain());
  node.op = proto.op_type();
  node.version = static_cast<int>(opset_of(*scope.opsets, proto));
  if (!proto.name().empty()) node.name = scope.prefix + proto.name();
  if (draws(node)) node.stream = ++streams_;
  for (const auto& name : proto.input())
    node.inputs.push_back(name.empty() ? kNone : find(scope, *scope.frame, name));
  for (const auto& name : proto.output()) node.outputs.push_back(name.empty() ? kNone : scope.names.at(name));
  import_attributes(scope, proto, node);
  scope.frame->builder.add(std::move(node));
}

std::unique_ptr<GraphImporter::Frame> GraphImporter::import_body(Scope& scope, const Scope& names,
                                                                 onnx::GraphProto& graph, Captures& captures,
                                                                 GraphRole role) {
  if (++depth_ > limits_.max_nesting)
    throw LimitError("nesting of bodies and functions", "at most " + std::to_string(limits_.max_nesting),
                     "more");
  auto frame = std::make_unique<Frame>();
  frame->builder.set_name(graph.name());
  frame->parent = scope.frame;
  frame->captures = &captures;
  Scope body;
  body.parent = &names;
  body.frame = frame.get();
  body.opsets = names.opsets;
  body.bindings = names.bindings;
  body.prefix = names.prefix;
  charge(kNodeBytes + graph.name().size());
  import_into(body, graph, role);
  --depth_;
  return frame;
}

bool GraphImporter::is_constant_node(const onnx::NodeProto& proto) const {
  return proto.op_type() == "Constant" && normalized_domain(proto.domain()).empty() &&
         !functions_.find(proto);
}

}  // namespace sardonyx
