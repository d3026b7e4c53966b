#include "providers/runtime/passes.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>

#include "graph/bodies.h"
#include "graph/patch.h"
#include "graph/print.h"
#include "ops/registry/operator.h"
#include "ops/registry/schema.h"
#include "providers/kernel.h"

namespace sardonyx {

namespace {

// A folded tensor may not be much larger than what it was made from: a model can describe a terabyte in a
// few bytes.
constexpr size_t kFoldFreely = size_t{1} << 20;
constexpr size_t kFoldGrowth = 8;

bool is_impure(const Node& node) {
  const Operator* op = OperatorRegistry::instance().find(node.domain, node.op);
  return op && op->impure;
}

size_t bytes_of(const Value& value) { return value.is_tensor() ? value.tensor().bytes() : 0; }

// Whether the output of a node is known to be small enough to fold, before it is computed.
bool worth_folding(const Graph& graph, const Node& node, size_t input_bytes) {
  for (const ValueId id : node.outputs) {
    if (id == kNone) continue;
    const Type& type = graph.value(id).type;
    const auto dims = type.is_tensor() && type.shape ? concrete(*type.shape) : std::nullopt;
    if (!dims) {
      // ConstantOfShape, Expand, Tile and Range of unknown size are left to the run.
      if (node.op == "ConstantOfShape" || node.op == "Expand" || node.op == "Tile" || node.op == "Range" ||
          node.op == "OneHot" || node.op == "Resize" || node.op == "Pad")
        return false;
      continue;
    }
    try {
      if (TensorDesc{type.dtype, *dims}.bytes() > std::max(kFoldFreely, kFoldGrowth * input_bytes))
        return false;
    } catch (const Error&) {
      return false;
    }
  }
  return true;
}

// An If whose condition is known becomes the branch taken.
bool inline_if(Patch& patch, NodeId id, const std::map<ValueId, Value>& known) {
  const Node& node = patch.before().node(id);
  if (!node.is("If") || node.inputs.size() != 1) return false;
  const auto it = known.find(node.inputs[0]);
  if (it == known.end() || !it->second.is_tensor() || it->second.tensor().size() != 1 ||
      it->second.tensor().dtype() != DType::Bool)
    return false;
  const GraphPtr body =
      node.attributes.at<GraphPtr>(*it->second.tensor().data<bool>() ? "then_branch" : "else_branch");
  if (body->outputs().size() != node.outputs.size() || !body->inputs().empty()) return false;
  const auto outputs = patch.builder().inline_body(*body, {}, node.captures);
  for (size_t i = 0; i < outputs.size(); ++i)
    if (node.outputs[i] != kNone) patch.replace(node.outputs[i], outputs[i]);
  patch.remove(id);
  return true;
}

}  // namespace

GraphPtr fold_constants(const GraphPtr& graph, Evaluator& evaluator, Quantized quantized) {
  Patch patch(graph);
  rewrite_bodies(patch, [&](const GraphPtr& body) { return fold_constants(body, evaluator, quantized); });
  const bool keep =
      quantized == Quantized::Keep &&
      std::any_of(graph->nodes().begin(), graph->nodes().end(), [&](const Node& node) {
        return node.is("DequantizeLinear") && graph->value(node.inputs[0]).kind != ValueKind::Constant;
      });
  std::map<ValueId, Value> known;
  for (size_t i = 0; i < graph->values().size(); ++i)
    if (graph->values()[i].kind == ValueKind::Constant)
      known[static_cast<ValueId>(i)] = graph->values()[i].constant;
  for (size_t n = 0; n < graph->nodes().size(); ++n) {
    const Node& node = graph->nodes()[n];
    if (inline_if(patch, static_cast<NodeId>(n), known)) continue;
    if (node.outputs.empty() || has_bodies(node) || is_impure(node)) continue;
    if (keep && node.is("DequantizeLinear")) continue;
    std::vector<Value> inputs;
    size_t input_bytes = 0;
    bool all = true;
    for (const ValueId id : node.inputs) {
      const auto it = id == kNone ? known.end() : known.find(id);
      all = all && (id == kNone || it != known.end());
      if (!all) break;
      inputs.push_back(id == kNone ? Value() : it->second);
      input_bytes += bytes_of(inputs.back());
    }
    if (!all || !worth_folding(*graph, node, input_bytes)) continue;
    std::vector<Value> outputs;
    try {
      outputs = evaluator.evaluate(*graph, node, inputs);
    } catch (const std::exception&) {
      continue;  // reported when the graph runs, if it still stands there
    }
    // Sequences, maps and optionals are made anew in each run: a file has no constants of these kinds.
    if (!std::all_of(outputs.begin(), outputs.end(),
                     [](const Value& v) { return !v.defined() || v.is_tensor(); }))
      continue;
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNone || !outputs[i].defined()) continue;
      known[node.outputs[i]] = outputs[i];
      patch.replace(node.outputs[i],
                    patch.builder().constant(outputs[i], graph->value(node.outputs[i]).name));
    }
  }
  return std::move(patch).apply();
}

namespace {

// The value that a node passes through unchanged, or kNone.
ValueId passes_through(const Graph& graph, const Node& node) {
  if (!node.domain.empty() || node.input(0) == kNone || node.output(0) == kNone) return kNone;
  const ValueId in = node.inputs[0];
  const Type& from = graph.value(in).type;
  const Type& to = graph.value(node.outputs[0]).type;
  const auto static_shape = [](const Type& type) {
    return type.is_tensor() && type.shape ? concrete(*type.shape) : std::nullopt;
  };
  if (node.op == "Identity") return in;
  if (node.op == "Dropout" && node.output(1) == kNone) {
    const ValueId training = node.input(2);
    if (training == kNone) return in;
    const ValueInfo& info = graph.value(training);
    return info.kind == ValueKind::Constant && info.constant.is_tensor() &&
                   info.constant.tensor().size() == 1 && !*info.constant.tensor().data<bool>()
               ? in
               : kNone;
  }
  if (node.op == "Cast") return from.is_tensor() && to.is_tensor() && from.dtype == to.dtype ? in : kNone;
  const auto a = static_shape(from), b = static_shape(to);
  const bool same = a && b && *a == *b;
  if (node.op == "Reshape" || node.op == "Flatten" || node.op == "Squeeze" || node.op == "Unsqueeze" ||
      node.op == "Expand")
    return same ? in : kNone;
  if (node.op == "Transpose") {
    const auto perm = node.attributes.get<std::vector<int64_t>>("perm", {});
    return !perm.empty() && std::is_sorted(perm.begin(), perm.end()) ? in : kNone;
  }
  if (node.op == "Slice" && same && node.input(4) == kNone) return in;
  if (node.op == "Concat" && node.inputs.size() == 1) return in;
  if ((node.op == "Sum" || node.op == "Max" || node.op == "Min" || node.op == "Mean") &&
      node.inputs.size() == 1)
    return in;
  return kNone;
}

bool same_constant(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.dims() == b.dims() && a.dtype() != DType::String && a.bytes() <= 4096 &&
         std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

}  // namespace

GraphPtr remove_no_ops(const GraphPtr& graph) {
  Patch patch(graph);
  rewrite_bodies(patch, [](const GraphPtr& body) { return remove_no_ops(body); });
  for (size_t n = 0; n < graph->nodes().size(); ++n) {
    const Node& node = graph->nodes()[n];
    const ValueId through = passes_through(*graph, node);
    if (through == kNone) continue;
    // An output must stay apart from inputs, constants and other outputs: the Identity that would be put
    // there again is already here.
    const bool is_output = std::find(graph->outputs().begin(), graph->outputs().end(), node.outputs[0]) !=
                           graph->outputs().end();
    if (is_output && (node.op == "Identity" || graph->value(through).kind != ValueKind::Transient)) continue;
    patch.replace(node.outputs[0], through);
    patch.remove(static_cast<NodeId>(n));
  }
  return std::move(patch).apply();
}

GraphPtr merge_common(const GraphPtr& graph) {
  Patch patch(graph);
  rewrite_bodies(patch, [](const GraphPtr& body) { return merge_common(body); });
  std::vector<ValueId> canonical(graph->values().size());
  for (size_t i = 0; i < canonical.size(); ++i) canonical[i] = static_cast<ValueId>(i);
  std::multimap<std::string, ValueId> constants;
  for (size_t i = 0; i < graph->values().size(); ++i) {
    const ValueInfo& info = graph->values()[i];
    if (info.kind != ValueKind::Constant || !info.constant.is_tensor() ||
        info.constant.tensor().bytes() > 4096)
      continue;
    const Tensor& tensor = info.constant.tensor();
    const std::string key = std::to_string(static_cast<int>(tensor.dtype())) + to_string(tensor.dims());
    const auto [begin, end] = constants.equal_range(key);
    const auto twin = std::find_if(begin, end, [&](const auto& entry) {
      return same_constant(graph->value(entry.second).constant.tensor(), tensor);
    });
    if (twin == end) {
      constants.emplace(key, static_cast<ValueId>(i));
    } else {
      canonical[i] = twin->second;
      patch.replace(static_cast<ValueId>(i), twin->second);
    }
  }
  std::map<std::string, NodeId> seen;
  for (size_t n = 0; n < graph->nodes().size(); ++n) {
    const Node& node = graph->nodes()[n];
    if (has_bodies(node) || is_impure(node) || node.outputs.empty()) continue;
    bool printable = true;
    std::string key = node.domain + "." + node.op;
    for (const ValueId id : node.inputs)
      key += "," + std::to_string(id == kNone ? kNone : canonical[static_cast<size_t>(id)]);
    for (const auto& [name, attribute] : node.attributes) {
      // Tensors are printed only when small; such nodes are constants by now anyway.
      printable = printable && !std::holds_alternative<Value>(attribute) &&
                  !std::holds_alternative<std::vector<Tensor>>(attribute);
      if (printable) {
        if (const auto* f = std::get_if<float>(&attribute))
          key += ";" + name + "=" + std::to_string(std::bit_cast<uint32_t>(*f));
        else if (const auto* fs = std::get_if<std::vector<float>>(&attribute)) {
          key += ";" + name + "=";
          for (const float x : *fs) key += std::to_string(std::bit_cast<uint32_t>(x)) + " ";
        } else {
          key += ";" + name + "=" + print_attribute(attribute);
        }
      }
    }
    for (const ValueId id : node.outputs) key += id == kNone ? "_" : "o";
    if (!printable) continue;
    const auto [it, fresh] = seen.try_emplace(key, static_cast<NodeId>(n));
    if (fresh) continue;
    const Node& twin = graph->node(it->second);
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == kNone) continue;
      canonical[static_cast<size_t>(node.outputs[i])] = canonical[static_cast<size_t>(twin.outputs[i])];
      patch.replace(node.outputs[i], twin.outputs[i]);
    }
    patch.remove(static_cast<NodeId>(n));
  }
  return std::move(patch).apply();
}

const std::vector<std::string>& simplify_pass_names() {
  static const std::vector<std::string> names = {"fold_constants", "remove_no_ops", "merge_common"};
  return names;
}

GraphPtr simplify(GraphPtr graph, Evaluator& evaluator, const std::set<std::string>& disabled,
                  Quantized quantized) {
  constexpr int kMaxRounds = 8;
  for (int round = 0; round < kMaxRounds; ++round) {
    const GraphPtr before = graph;
    if (!disabled.count("fold_constants")) graph = fold_constants(graph, evaluator, quantized);
    if (!disabled.count("remove_no_ops")) graph = remove_no_ops(graph);
    if (!disabled.count("merge_common")) graph = merge_common(graph);
    if (graph == before || graph->nodes().size() == before->nodes().size()) break;
    graph = infer_types(graph, &evaluator);
  }
  return graph;
}

}  // namespace sardonyx
