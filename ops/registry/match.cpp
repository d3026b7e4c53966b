#include "ops/registry/match.h"

#include <algorithm>
#include <cmath>

#include "graph/bodies.h"
#include "sardonyx/small_types.h"

namespace sardonyx {

namespace {

// A flattened expression stays small: patterns have few operands, and a chain may be as long as a graph.
constexpr size_t kMaxOperands = 8;
constexpr int kMaxSteps = 32;

}  // namespace

Match::Match(LazyPatch& patch, NodeId root) : patch_(patch), root_(root), nodes_{root} {}

void Match::add(NodeId node) {
  if (std::find(nodes_.begin(), nodes_.end(), node) == nodes_.end()) nodes_.push_back(node);
}

const Type& Match::type(ValueId id) const {
  static const Type unknown;
  return id == kNone ? unknown : graph().value(id).type;
}

std::optional<Dims> Match::dims(ValueId id) const {
  const Type& t = type(id);
  return t.is_tensor() && t.shape ? concrete(*t.shape) : std::nullopt;
}

const Tensor* Match::constant(ValueId id) const {
  if (!graph().is_constant(id)) return nullptr;
  const Value& value = graph().value(id).constant;
  return value.is_tensor() ? &value.tensor() : nullptr;
}

std::optional<std::vector<int64_t>> Match::ints(ValueId id) const {
  const Tensor* tensor = constant(id);
  if (!tensor || tensor->dtype() != DType::Int64) return std::nullopt;
  return tensor->to_int64s();
}

std::optional<double> Match::scalar(ValueId id) {
  const Tensor* tensor = constant(id);
  if (!tensor || tensor->size() != 1 || !(is_float(tensor->dtype()) || is_integer(tensor->dtype())))
    return std::nullopt;
  scalar_rank_ = std::max(scalar_rank_, tensor->rank());
  return tensor->to_doubles().front();
}

bool Match::near(double value, double expected) const {
  const DType t = dtype(result());
  const double tolerance = t == DType::Float64   ? 1e-12
                           : t == DType::Float32 ? 1e-6
                           : t == DType::Float16 ? 1e-3
                                                 : 1e-2;
  return std::abs(value - expected) <= tolerance * std::abs(expected);
}

const Node* Match::find(ValueId id, const char* op) const {
  if (id == kNone || graph().producer(id) == kNone) return nullptr;
  const Node& node = graph().node(graph().producer(id));
  const bool one_output =
      !node.outputs.empty() && node.outputs[0] == id &&
      std::all_of(node.outputs.begin() + 1, node.outputs.end(), [](ValueId other) { return other == kNone; });
  return one_output && node.is(op) ? &node : nullptr;
}

const Node* Match::take(ValueId id, const char* op) {
  const Node* node = find(id, op);
  if (node) add(graph().producer(id));
  return node;
}

std::vector<std::pair<ValueId, ValueId>> Match::both_orders(ValueId id, const char* op) {
  const Node* node = take(id, op);
  if (!node || node->inputs.size() != 2) return {};
  return {{node->inputs[0], node->inputs[1]}, {node->inputs[1], node->inputs[0]}};
}

Product Match::product(ValueId id) {
  Product p;
  std::vector<ValueId> pending{id};
  for (int steps = 0; !pending.empty(); ++steps) {
    const ValueId at = pending.back();
    pending.pop_back();
    if (const auto factor = scalar(at)) {
      p.factor *= *factor;
      continue;
    }
    const bool open = sole_reader(at) && pending.size() + p.values.size() < kMaxOperands && steps < kMaxSteps;
    if (open && find(at, "Mul")) {
      const Node& node = *take(at, "Mul");
      pending.insert(pending.end(), {node.inputs[1], node.inputs[0]});
    } else if (const Node* div = open ? find(at, "Div") : nullptr; div && scalar(div->inputs[1])) {
      p.factor /= *scalar(take(at, "Div")->inputs[1]);
      pending.push_back(div->inputs[0]);
    } else if (const Node* pow = open ? find(at, "Pow") : nullptr;
               pow && (scalar(pow->inputs[1]) == 2.0 || scalar(pow->inputs[1]) == 3.0)) {
      take(at, "Pow");
      pending.insert(pending.end(), static_cast<size_t>(*scalar(pow->inputs[1])), pow->inputs[0]);
    } else {
      p.values.push_back(at);
    }
  }
  return p;
}

Sum Match::sum(ValueId id) {
  Sum s;
  std::vector<ValueId> pending{id};
  for (int steps = 0; !pending.empty(); ++steps) {
    const ValueId at = pending.back();
    pending.pop_back();
    if (const auto constant = scalar(at)) {
      s.constant += *constant;
      continue;
    }
    const bool open = sole_reader(at) && pending.size() + s.values.size() < kMaxOperands && steps < kMaxSteps;
    if (open && find(at, "Add")) {
      const Node& node = *take(at, "Add");
      pending.insert(pending.end(), {node.inputs[1], node.inputs[0]});
    } else if (const Node* sub = open ? find(at, "Sub") : nullptr; sub && scalar(sub->inputs[1])) {
      s.constant -= *scalar(take(at, "Sub")->inputs[1]);
      pending.push_back(sub->inputs[0]);
    } else {
      s.values.push_back(at);
    }
  }
  return s;
}

Affine Match::affine(ValueId id) {
  Affine f{id};
  for (int steps = 0; steps < kMaxSteps && sole_reader(f.value); ++steps) {
    const size_t before = size();
    const Product p = product(f.value);
    if (p.values.size() == 1 && p.values[0] != f.value) {
      f = {p.values[0], f.a * p.factor, f.b};
      continue;
    }
    rewind(before);
    const Sum s = sum(f.value);
    if (s.values.size() != 1 || s.values[0] == f.value) {
      rewind(before);
      break;
    }
    f = {s.values[0], f.a, f.a * s.constant + f.b};
  }
  return f;
}

bool Match::closed() const {
  for (const NodeId id : nodes_) {
    for (const ValueId out : graph().node(id).outputs) {
      if (out == kNone || out == result()) continue;
      int inside = 0;
      for (const NodeId reader : nodes_) {
        const auto& inputs = graph().node(reader).inputs;
        inside += static_cast<int>(std::count(inputs.begin(), inputs.end(), out));
      }
      if (inside != graph().use_count(out)) return false;
    }
  }
  return true;
}

bool Match::closed(ValueId x) const {
  const Type& from = type(x);
  return from.is_tensor() && type(result()).is_tensor() && from.dtype == dtype(result()) &&
         is_float(from.dtype) && element_size(from.dtype) >= 2 && scalar_rank_ <= std::max(rank(x), 0) &&
         closed();
}

ValueId Match::op(const std::string& op, std::vector<ValueId> inputs, Attributes attributes) {
  return this->op(op, std::move(inputs), std::move(attributes), type(result()));
}

ValueId Match::op(const std::string& op, std::vector<ValueId> inputs, Attributes attributes, Type type) {
  GraphBuilder& builder = patch_.get().builder();
  const ValueId id = builder.op(op, std::move(inputs), std::move(attributes));
  builder.info(id).type = std::move(type);
  return id;
}

ValueId Match::constant(Value value, const std::string& name) {
  return patch_.get().builder().constant(std::move(value), name);
}

Tensor tensor_of(DType dtype, Dims dims, const std::vector<double>& values) {
  Tensor tensor(dtype, std::move(dims));
  for (size_t i = 0; i < values.size(); ++i) {
    const double v = values[i];
    if (dtype == DType::Float32)
      tensor.mutable_data<float>()[i] = static_cast<float>(v);
    else if (dtype == DType::Float64)
      tensor.mutable_data<double>()[i] = v;
    else if (dtype == DType::Float16)
      tensor.mutable_data<Half>()[i] = Half(static_cast<float>(v));
    else
      tensor.mutable_data<BFloat16>()[i] = BFloat16(static_cast<float>(v));
  }
  return tensor;
}

bool same_dim(const Dim& a, const Dim& b) { return a.known() ? a == b : !a.symbol.empty() && a == b; }

namespace {

GraphPtr rewrite_each(const GraphPtr& graph, const std::vector<std::string>& roots, const Pattern& pattern) {
  LazyPatch patch(graph);
  if (std::any_of(graph->nodes().begin(), graph->nodes().end(), has_bodies))
    rewrite_bodies(patch.get(), [&](const GraphPtr& body) { return rewrite_each(body, roots, pattern); });
  std::vector<char> taken(graph->nodes().size(), 0);
  for (size_t n = graph->nodes().size(); n-- > 0;) {
    const Node& node = graph->nodes()[n];
    if (taken[n] || !node.domain.empty() || node.output(0) == kNone ||
        std::find(roots.begin(), roots.end(), node.op) == roots.end() ||
        std::any_of(node.outputs.begin() + 1, node.outputs.end(), [](ValueId id) { return id != kNone; }))
      continue;
    Match match(patch, static_cast<NodeId>(n));
    const ValueId replacement = pattern(match);
    if (replacement == kNone) continue;
    // Patch::apply names graph outputs.
    const auto& outputs = graph->outputs();
    if (static_cast<size_t>(replacement) >= graph->values().size() &&
        std::find(outputs.begin(), outputs.end(), match.result()) == outputs.end())
      std::swap(patch.get().builder().info(replacement).name,
                patch.get().builder().info(match.result()).name);
    patch.get().replace(match.result(), replacement);
    for (const NodeId id : match.nodes()) taken[static_cast<size_t>(id)] = 1;
  }
  return std::move(patch).apply();
}

}  // namespace

Fusion pattern_fusion(std::string name, int order, std::vector<std::string> roots, Pattern pattern) {
  return {std::move(name), order,
          [roots = std::move(roots), pattern = std::move(pattern)](const GraphPtr& graph) {
            return rewrite_each(graph, roots, pattern);
          }};
}

}  // namespace sardonyx
