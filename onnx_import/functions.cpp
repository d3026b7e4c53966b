#include "onnx_import/functions.h"

#include <unicode/utf8.h>

#include <algorithm>
#include <limits>
#include <set>
#include <vector>

#include "graph/builder.h"
#include "onnx_import/check_node.h"
#include "ops/registry/schema.h"

namespace sardonyx {

namespace {

int64_t saturating_add(int64_t a, int64_t b) {
  int64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? std::numeric_limits<int64_t>::max() : sum;
}

int64_t saturating_mul(int64_t a, int64_t b) {
  int64_t product;
  return __builtin_mul_overflow(a, b, &product) ? std::numeric_limits<int64_t>::max() : product;
}

std::string full_name(const std::string& domain, const std::string& name) {
  return domain.empty() ? name : domain + "." + name;
}

}  // namespace

std::string normalized_domain(const std::string& domain) { return domain == "ai.onnx" ? "" : domain; }

Opsets read_opsets(const google::protobuf::RepeatedPtrField<onnx::OperatorSetIdProto>& list) {
  Opsets opsets;
  for (const auto& import : list) {
    const std::string domain = normalized_domain(import.domain());
    const std::string what = "opset_import of domain '" + (domain.empty() ? "ai.onnx" : domain) + "'";
    if (import.version() < 1)
      throw ModelError(what, "a version of at least 1", std::to_string(import.version()));
    const int newest = canonical_opset(domain);
    if (newest > 0 && import.version() > newest)
      throw UnsupportedError(what, "a version of at most " + std::to_string(newest),
                             std::to_string(import.version()));
    int64_t& version = opsets[domain];
    version = std::max<int64_t>(version, import.version());
  }
  return opsets;
}

bool is_utf8(const std::string& text) {
  const auto length = static_cast<int32_t>(text.size());
  for (int32_t i = 0; i < length;) {
    UChar32 c = 0;
    U8_NEXT(text.data(), i, length, c);
    if (c < 0) return false;
  }
  return true;
}

void check_text(const std::string& text, const char* what) {
  if (!is_utf8(text)) throw ModelError(std::string(what) + " '" + text + "'", "UTF-8", "other bytes");
}

std::string describe(const onnx::NodeProto& node) {
  std::string name = node.name();
  for (int i = 0; name.empty() && i < node.output_size(); ++i) name = node.output(i);
  return "'" + name + "' (" + full_name(normalized_domain(node.domain()), node.op_type()) + ")";
}

Functions::Functions(onnx::ModelProto& model, const Opsets& model_opsets) {
  for (auto& proto : *model.mutable_functions()) {
    const std::string domain = normalized_domain(proto.domain());
    Function function{&proto, read_opsets(proto.opset_import())};
    function.opsets.insert(model_opsets.begin(), model_opsets.end());
    if (!functions_.emplace(std::tuple(domain, proto.name(), proto.overload()), std::move(function)).second)
      throw ModelError("function '" + full_name(domain, proto.name()) + "'", "one definition", "several");
  }
}

const Function* Functions::find(const onnx::NodeProto& node) const {
  if (functions_.empty()) return nullptr;
  const auto it =
      functions_.find(std::tuple(normalized_domain(node.domain()), node.op_type(), node.overload()));
  return it == functions_.end() ? nullptr : &it->second;
}

int64_t opset_of(const Opsets& opsets, const onnx::NodeProto& node) {
  const std::string domain = normalized_domain(node.domain());
  const auto it = opsets.find(domain);
  if (it != opsets.end()) return it->second;
  ModelError error("domain '" + (domain.empty() ? "ai.onnx" : domain) + "'", "an opset_import", "none");
  error.add_node(describe(node));
  throw error;
}

namespace {

class Survey {
 public:
  Survey(const Functions& functions, const ImportLimits& limits) : functions_(functions), limits_(limits) {}

  void run(const onnx::GraphProto& graph, const Opsets& opsets) {
    const Cost cost = of_nodes(graph.node(), opsets, 0);
    refuse_unknown();
    if (cost.nodes > limits_.max_nodes)
      throw LimitError("nodes after function expansion", "at most " + std::to_string(limits_.max_nodes),
                       std::to_string(cost.nodes));
  }

 private:
  // Nodes after expansion, and how often each attribute parameter is put in place (it may hold a graph).
  struct Cost {
    int64_t nodes = 0;
    std::map<std::string, int64_t> uses;
    void add(const Cost& other, int64_t times) {
      nodes = saturating_add(nodes, saturating_mul(other.nodes, times));
      for (const auto& [name, count] : other.uses) use(name, saturating_mul(count, times));
    }
    void use(const std::string& name, int64_t times) {
      int64_t& count = uses[name];
      count = saturating_add(count, times);
    }
  };
  struct Visit {
    bool done = false;
    Cost cost;
  };

  Cost of_nodes(const google::protobuf::RepeatedPtrField<onnx::NodeProto>& nodes, const Opsets& opsets,
                int64_t depth) {
    if (depth > limits_.max_nesting)
      throw LimitError("nesting of bodies and functions", "at most " + std::to_string(limits_.max_nesting),
                       "more");
    Cost cost;
    for (const auto& node : nodes) {
      cost.nodes = saturating_add(cost.nodes, 1);
      const Function* function = functions_.find(node);
      const Cost* callee = nullptr;
      if (function) {
        callee = &of_function(*function, depth);
        cost.nodes = saturating_add(cost.nodes, callee->nodes);
      } else {
        check_operator(node, opsets);
      }
      for (const auto& attribute : node.attribute()) {
        int64_t times = 1;
        if (callee) {
          const auto it = callee->uses.find(attribute.name());
          times = it == callee->uses.end() ? 0 : it->second;
        }
        if (!attribute.ref_attr_name().empty()) cost.use(attribute.ref_attr_name(), times);
        add_graphs(cost, attribute, opsets, depth, times);
      }
    }
    return cost;
  }

  void add_graphs(Cost& cost, const onnx::AttributeProto& attribute, const Opsets& opsets, int64_t depth,
                  int64_t times) {
    if (attribute.has_g()) cost.add(of_nodes(attribute.g().node(), opsets, depth + 1), times);
    for (const auto& graph : attribute.graphs()) cost.add(of_nodes(graph.node(), opsets, depth + 1), times);
  }

  const Cost& of_function(const Function& function, int64_t depth) {
    const auto [it, first] = visits_.try_emplace(&function);
    Visit& visit = it->second;
    const std::string name = full_name(normalized_domain(function.proto->domain()), function.proto->name());
    if (!first) {
      if (!visit.done) throw ModelError("function '" + name + "'", "no recursion", path() + name);
      return visit.cost;
    }
    path_.push_back(name);
    visit.cost = of_nodes(function.proto->node(), function.opsets, depth + 1);
    for (const auto& attribute : function.proto->attribute_proto()) {
      const auto used = visit.cost.uses.find(attribute.name());
      if (used != visit.cost.uses.end())
        add_graphs(visit.cost, attribute, function.opsets, depth + 1, used->second);
    }
    visit.done = true;
    path_.pop_back();
    return visit.cost;
  }

  std::string path() const {
    std::string text;
    for (const auto& name : path_) text += name + " -> ";
    return text;
  }

  void check_operator(const onnx::NodeProto& node, const Opsets& opsets) {
    const std::string domain = normalized_domain(node.domain());
    if (canonical_opset(domain) == 0) {
      unknown_.insert(full_name(domain, node.op_type()) + " (unknown domain)");
      return;
    }
    const int64_t version = opset_of(opsets, node);
    const OpSchemaInfo* schema = find_schema(domain, node.op_type(), static_cast<int>(version));
    const std::vector<int> known = schema_versions(domain, node.op_type());
    // A version that was corrected by a later one (GroupNormalization-18) is upgraded; one that ends its
    // operator (Upsample-10) is not.
    if (schema && (!schema->deprecated || schema->since_version < known.back())) {
      try {
        check_node(node, *schema);
      } catch (Error& error) {
        error.add_node(describe(node));
        throw;
      }
      return;
    }
    std::string versions;
    for (const int v : known) versions += (versions.empty() ? "" : ", ") + std::to_string(v);
    const std::string why = schema             ? "deprecated since " + std::to_string(schema->since_version)
                            : versions.empty() ? "no such operator"
                                               : "only since";
    unknown_.insert(full_name(domain, node.op_type()) + " at opset " + std::to_string(version) + " (" + why +
                    (versions.empty() ? ")"
                     : schema         ? "; versions " + versions + ")"
                                      : " versions " + versions + ")"));
  }

  void refuse_unknown() const {
    if (unknown_.empty()) return;
    constexpr size_t kListed = 100;
    std::string list;
    size_t listed = 0;
    for (const auto& name : unknown_) {
      if (listed++ == kListed) break;
      list += (list.empty() ? "" : "; ") + name;
    }
    if (unknown_.size() > kListed) list += "; and " + std::to_string(unknown_.size() - kListed) + " more";
    throw UnsupportedError("unknown operators", "operators of ONNX or functions of the model", list);
  }

  const Functions& functions_;
  const ImportLimits& limits_;
  std::map<const Function*, Visit> visits_;
  std::vector<std::string> path_;
  std::set<std::string> unknown_;
};

}  // namespace

void survey(const onnx::GraphProto& graph, const Opsets& opsets, const Functions& functions,
            const ImportLimits& limits) {
  Survey(functions, limits).run(graph, opsets);
}

}  // namespace sardonyx
