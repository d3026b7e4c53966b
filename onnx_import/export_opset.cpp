#include "onnx_import/export_opset.h"

#include <algorithm>
#include <array>
#include <set>

#include "ops/registry/proto.h"
#include "ops/registry/schema.h"

namespace sardonyx {

namespace {

using Schema = onnx::OpSchema;
using Port = onnx::OpSchema::FormalParameter;

// A step from one version of an operator to the next is crossed when the schemas say that nothing but the
// accepted types grew. These steps changed more than their schemas say; `same` tells of one node whether
// it is untouched by the change.
struct ChangedStep {
  const char* op;
  int since;  // the later version
  bool (*same)(const Graph&, const Node&);
};

bool never(const Graph&, const Node&) { return false; }

template <typename T>
T attribute_or(const Node& node, const char* name, T fallback) {
  const Attribute* found = node.attributes.find(name);
  const T* value = found ? std::get_if<T>(found) : nullptr;
  return value ? *value : fallback;
}

DType dtype_of_output(const Graph& graph, const Node& node) {
  return node.output(0) == kNone ? DType::Undefined : graph.value(node.output(0)).type.dtype;
}

bool floors_sizes(const Graph&, const Node& node) { return attribute_or<int64_t>(node, "ceil_mode", 0) == 0; }

bool gives_no_float8(const Graph& graph, const Node& node) {
  const DType dtype = dtype_of_output(graph, node);
  return dtype != DType::Undefined && (dtype < DType::Float8E4M3FN || dtype > DType::Float8E5M2FNUZ);
}

bool not_floored_floats(const Graph& graph, const Node& node) {
  return attribute_or<int64_t>(node, "fmod", 0) != 0 || is_integer(dtype_of_output(graph, node));
}

bool no_wrap(const Graph&, const Node& node) {
  return attribute_or<std::string>(node, "mode", "constant") != "wrap";
}

bool not_symmetric(const Graph&, const Node& node) {
  return attribute_or<std::string>(node, "coordinate_transformation_mode", "half_pixel") !=
         "half_pixel_symmetric";
}

bool no_extremes(const Graph&, const Node& node) {
  const auto reduction = attribute_or<std::string>(node, "reduction", "none");
  return reduction != "max" && reduction != "min";
}

constexpr ChangedStep kChangedSteps[] = {
    {"AveragePool", 22, floors_sizes},  // windows that start in the right padding are left out
    {"MaxPool", 22, floors_sizes},
    {"Cast", 24, gives_no_float8},  // what an infinity becomes
    {"CastLike", 24, gives_no_float8},
    {"Mod", 28, not_floored_floats},       // floats with fmod = 0
    {"Pad", 19, no_wrap},                  // a mode was added
    {"Resize", 19, not_symmetric},         // a coordinate transformation was added
    {"ScatterElements", 18, no_extremes},  // reductions were added
    {"ScatterND", 18, no_extremes},
    {"RoiAlign", 16, never},        // the new attribute's default is not what it was before
    {"QuantizeLinear", 13, never},  // one scale for each channel
    {"DequantizeLinear", 13, never},
};

// Steps to earlier versions of ai.onnx were not reviewed: many of them allowed negative axes, silently.
constexpr int kFirstReviewed = 12;
// The opset that exports start from when their nodes leave the choice.
constexpr int kOldestOpset = 13, kOldestMlOpset = 3;
constexpr int kOldestIr = 4;  // before it, initializers had to be inputs

bool accepts(const Port& port, const std::string& type) {
  const auto& types = port.GetTypes();
  return std::any_of(types.begin(), types.end(), [&](const auto* accepted) { return *accepted == type; });
}

bool accepts_all_of(const Port& port, const Port& other) {
  const auto& types = other.GetTypes();
  return port.GetTypeStr() == other.GetTypeStr() &&
         std::all_of(types.begin(), types.end(), [&](const auto* type) { return accepts(port, *type); });
}

// Whether the values at these ports are ones that `schema` takes, given that `known` takes them. Equal type
// parameters must stand for equal types.
bool ports_fit(const std::vector<Port>& schema, const std::vector<Port>& known, const Graph& graph,
               const std::vector<ValueId>& ids, std::map<std::string, std::string>& parameters) {
  for (size_t i = 0; i < std::max(schema.size(), ids.size()); ++i) {
    const ValueId id = i < ids.size() ? ids[i] : kNone;
    const bool in_tail =
        !schema.empty() && i >= schema.size() && schema.back().GetOption() == Schema::Variadic;
    if (i >= schema.size() && !in_tail) {
      if (id != kNone) return false;
      continue;
    }
    const Port& port = in_tail ? schema.back() : schema[i];
    if (id == kNone) {
      if (port.GetOption() == Schema::Single) return false;
      continue;
    }
    const Type& type = graph.value(id).type;
    if (!type.fully_known()) {
      if (known.empty() || !accepts_all_of(port, i < known.size() ? known[i] : known.back())) return false;
      continue;
    }
    const std::string name = type.onnx_name();
    if (!accepts(port, name)) return false;
    const bool one_type = port.GetOption() != Schema::Variadic || port.GetIsHomogeneous();
    if (one_type && parameters.emplace(port.GetTypeStr(), name).first->second != name) return false;
  }
  return true;
}

bool same_shape_of_ports(const std::vector<Port>& lower, const std::vector<Port>& upper) {
  if (lower.size() > upper.size()) return false;
  for (size_t i = 0; i < lower.size(); ++i)
    if ((lower[i].GetOption() == Schema::Variadic) != (upper[i].GetOption() == Schema::Variadic))
      return false;
  for (size_t i = lower.size(); i < upper.size(); ++i)
    if (upper[i].GetOption() != Schema::Optional) return false;
  return true;
}

std::string default_of(const Schema::Attribute& attribute) {
  onnx::AttributeProto value = attribute.default_value;
  value.clear_doc_string();
  return value.SerializeAsString();
}

bool is_default(const std::string& name, const Attribute& value, const Schema::Attribute& attribute) {
  onnx::AttributeProto proto;
  if (attribute.default_value.type() == onnx::AttributeProto::UNDEFINED || !to_proto(name, value, proto))
    return false;
  return proto.SerializeAsString() == default_of(attribute);
}

bool attributes_fit(const Schema& lower, const Schema& upper, const Node& node) {
  for (const auto& [name, attribute] : lower.attributes()) {
    const auto it = upper.attributes().find(name);
    if (it == upper.attributes().end() || it->second.type != attribute.type ||
        default_of(it->second) != default_of(attribute))
      return false;
    if ((attribute.required || it->second.required) && !node.attributes.has(name)) return false;
  }
  for (const auto& [name, attribute] : upper.attributes()) {
    if (lower.attributes().count(name)) continue;
    if (attribute.required) return false;
    const Attribute* value = node.attributes.find(name);
    if (value && !is_default(name, *value, attribute)) return false;
  }
  return true;
}

// Whether a node, valid under `home` (one of the two), means the same under both.
bool same_under(const Schema& lower, const Schema& upper, const Schema& home, const Graph& graph,
                const Node& node) {
  if (lower.Deprecated() || upper.Deprecated()) return false;
  if (node.domain.empty() && upper.since_version() < kFirstReviewed) return false;
  if (!same_shape_of_ports(lower.inputs(), upper.inputs()) ||
      !same_shape_of_ports(lower.outputs(), upper.outputs()))
    return false;
  if (!attributes_fit(lower, upper, node)) return false;
  const Schema& other = &home == &lower ? upper : lower;
  std::map<std::string, std::string> parameters;
  if (!ports_fit(other.inputs(), home.inputs(), graph, node.inputs, parameters) ||
      !ports_fit(other.outputs(), home.outputs(), graph, node.outputs, parameters))
    return false;
  for (const ChangedStep& step : kChangedSteps)
    if (node.domain.empty() && node.op == step.op && upper.since_version() == step.since &&
        !step.same(graph, node))
      return false;
  return true;
}

std::string domain_name(const std::string& domain) { return domain.empty() ? "ai.onnx" : domain; }

struct Choice {
  OpsetRange range{1, 1 << 30};
  std::string low_node, high_node;  // which narrowed it
};

void narrow(const Graph& graph, std::map<std::string, Choice>& choices, int forced) {
  for (const Node& node : graph.nodes()) {
    const OpsetRange range = opset_range(graph, node);
    if (forced > 0 && node.domain.empty() && (forced < range.lowest || forced > range.highest)) {
      UnsupportedError error("opset of ai.onnx",
                             std::to_string(range.lowest) + " to " + std::to_string(range.highest),
                             std::to_string(forced));
      error.add_node(describe(graph, node));
      throw error;
    }
    Choice& choice = choices[node.domain];
    if (range.lowest > choice.range.lowest) {
      choice.range.lowest = range.lowest;
      choice.low_node = describe(graph, node);
    }
    if (range.highest < choice.range.highest) {
      choice.range.highest = range.highest;
      choice.high_node = describe(graph, node);
    }
    for (const auto& [name, attribute] : node.attributes) {
      if (const auto* body = std::get_if<GraphPtr>(&attribute); body && *body)
        narrow(**body, choices, forced);
      if (const auto* bodies = std::get_if<std::vector<GraphPtr>>(&attribute))
        for (const GraphPtr& each : *bodies) narrow(*each, choices, forced);
    }
  }
}

void collect_dtypes(const Type& type, std::set<DType>& dtypes) {
  dtypes.insert(type.dtype);
  if (type.element) collect_dtypes(*type.element, dtypes);
}

void collect_dtypes(const Graph& graph, std::set<DType>& dtypes) {
  for (const ValueInfo& value : graph.values()) collect_dtypes(value.type, dtypes);
  for (const Node& node : graph.nodes())
    for (const auto& [name, attribute] : node.attributes) {
      if (const auto* body = std::get_if<GraphPtr>(&attribute); body && *body) collect_dtypes(**body, dtypes);
      if (const auto* bodies = std::get_if<std::vector<GraphPtr>>(&attribute))
        for (const GraphPtr& each : *bodies) collect_dtypes(*each, dtypes);
      if (const auto* value = std::get_if<Value>(&attribute); value && value->is_tensor())
        dtypes.insert(value->tensor().dtype());
    }
}

int ir_of_dtype(DType dtype) {
  switch (dtype) {
    case DType::Float8E4M3FN:
    case DType::Float8E4M3FNUZ:
    case DType::Float8E5M2:
    case DType::Float8E5M2FNUZ:
      return 9;
    case DType::UInt4:
    case DType::Int4:
      return 10;
    case DType::Float4E2M1:
      return 11;
    case DType::Float8E8M0:
      return 12;
    case DType::UInt2:
    case DType::Int2:
      return 13;
    case DType::Float6E2M3:
    case DType::Float6E3M2:
      return 14;
    default:
      return kOldestIr;
  }
}

// The IR version that was current when an opset was published; the rows go from new to old.
int ir_of_opset(const std::string& domain, int version) {
  struct Row {
    int opset, ir;
  };
  static constexpr std::array kMain = {Row{28, 14}, Row{25, 13}, Row{24, 12}, Row{23, 11}, Row{21, 10},
                                       Row{19, 9},  Row{15, 8},  Row{12, 7},  Row{11, 6},  Row{10, 5}};
  static constexpr std::array kMl = {Row{5, 10}, Row{4, 9}, Row{3, 8}, Row{2, 6}};
  const auto find = [&](const auto& rows) {
    for (const Row& row : rows)
      if (version >= row.opset) return row.ir;
    return kOldestIr;
  };
  if (domain.empty()) return find(kMain);
  if (domain == "ai.onnx.ml") return find(kMl);
  return 7;  // the training domains came with IR 7
}

}  // namespace

const onnx::OpSchema* schema_at(const std::string& domain, const std::string& name, int version) {
  return onnx::OpSchemaRegistry::Schema(name, version > 0 ? version : canonical_opset(domain), domain);
}

OpsetRange opset_range(const Graph& graph, const Node& node) {
  const int newest = canonical_opset(node.domain);
  const Schema* home = newest > 0 ? schema_at(node.domain, node.op, node.version) : nullptr;
  const bool standard = node.domain.empty() || node.domain.rfind("ai.onnx", 0) == 0;
  if (!home || !standard) {
    UnsupportedError error("export", "an operator of standard ONNX",
                           domain_name(node.domain) + "." + node.op);
    error.add_node(describe(graph, node));
    throw error;
  }
  std::vector<const Schema*> history;
  for (const int version : schema_versions(node.domain, node.op))
    history.push_back(schema_at(node.domain, node.op, version));
  const auto at = static_cast<size_t>(std::find(history.begin(), history.end(), home) - history.begin());
  size_t low = at, high = at;
  while (low > 0 && same_under(*history[low - 1], *history[low], *history[low], graph, node)) --low;
  while (high + 1 < history.size() &&
         same_under(*history[high], *history[high + 1], *history[high], graph, node))
    ++high;
  return {history[low]->since_version(),
          high + 1 < history.size() ? history[high + 1]->since_version() - 1 : newest};
}

std::map<std::string, int> choose_opsets(const Graph& graph, int forced) {
  const int newest = canonical_opset("");
  if (forced != 0 && (forced < 1 || forced > newest))
    throw UnsupportedError("opset of ai.onnx", "1 to " + std::to_string(newest), std::to_string(forced));
  std::map<std::string, Choice> choices;
  choices[""];
  narrow(graph, choices, forced);
  std::map<std::string, int> opsets;
  for (const auto& [domain, choice] : choices) {
    const auto& [low, high] = choice.range;
    if (low > high)
      throw UnsupportedError("opset of " + domain_name(domain),
                             "at least " + std::to_string(low) + " for node " + choice.low_node,
                             "at most " + std::to_string(high) + " for node " + choice.high_node);
    const int preferred = domain.empty()           ? (forced > 0 ? forced : kOldestOpset)
                          : domain == "ai.onnx.ml" ? kOldestMlOpset
                                                   : 1;
    opsets[domain] = std::clamp(preferred, low, std::min(high, canonical_opset(domain)));
  }
  return opsets;
}

int choose_ir(const std::map<std::string, int>& opsets, const Graph& graph) {
  int ir = kOldestIr;
  for (const auto& [domain, version] : opsets) ir = std::max(ir, ir_of_opset(domain, version));
  std::set<DType> dtypes;
  collect_dtypes(graph, dtypes);
  for (const DType dtype : dtypes) ir = std::max(ir, ir_of_dtype(dtype));
  return ir;
}

}  // namespace sardonyx
