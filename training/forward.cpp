#include "training/forward.h"

#include <algorithm>
#include <set>

#include "graph/builder.h"
#include "ops/normalization.h"
#include "ops/registry/operator.h"
#include "sardonyx/error.h"
#include "training/step.h"

namespace sardonyx {

namespace {

constexpr size_t kMean = 3, kVariance = 4;  // inputs of BatchNormalization
constexpr size_t kTrainingMode = 2;         // input of Dropout

bool is_weight(const ValueInfo& info) {
  const bool kept = info.kind == ValueKind::Constant || info.kind == ValueKind::Input;
  return kept && info.constant.defined() && info.constant.is_tensor() &&
         is_float(info.constant.tensor().dtype());
}

// The ids of running means and variances.
std::set<ValueId> running_statistics(const Graph& graph) {
  std::set<ValueId> ids;
  for (const Node& node : graph.nodes())
    if (node.is("BatchNormalization"))
      for (const size_t i : {kMean, kVariance})
        if (is_weight(graph.value(node.input(i)))) ids.insert(node.input(i));
  return ids;
}

// The ids of values that decide shapes or choose kernels.
std::set<ValueId> shape_operands(const Graph& graph) {
  std::set<ValueId> ids;
  for (const Node& node : graph.nodes())
    if (const Operator* op = OperatorRegistry::instance().find(node.domain, node.op))
      for (const int i : op->host_operands) ids.insert(node.input(static_cast<size_t>(i)));
  return ids;
}

// A weight becomes an input of the graph without a default; a value that its users may not change.
Parameter as_input(GraphBuilder& builder, ValueId id) {
  ValueInfo& info = builder.info(id);
  Parameter parameter{info.name, info.constant.tensor()};
  info.type = Type::tensor(parameter.value.dtype(), shape_of(parameter.value.dims()));
  info.constant = Value();
  if (info.kind == ValueKind::Constant) {
    info.kind = ValueKind::Input;
    std::vector<ValueId> inputs = builder.graph().inputs();
    inputs.push_back(id);
    builder.set_inputs(std::move(inputs));
  }
  return parameter;
}

ValueId scalar(GraphBuilder& builder, double value) { return builder.constant(Tensor::scalar(value)); }

// torch stores the variance over n - 1 elements, ONNX's operator gives the one over n:
// old * momentum + (next - old * momentum) * n / (n - 1), n the elements of a channel.
ValueId unbiased(GraphBuilder& builder, const Node& node, ValueId next, DType dtype, float momentum) {
  const auto cast = [&](ValueId x, DType to) {
    return builder.op("Cast", {x}, attributes({{"to", static_cast<int64_t>(to)}}));
  };
  const auto size = [&](ValueId x) { return cast(builder.op("Size", {x}), DType::Float64); };
  const ValueId n = builder.op("Div", {size(node.inputs[0]), size(node.inputs[kMean])});
  const ValueId others = builder.op("Max", {builder.op("Sub", {n, scalar(builder, 1)}), scalar(builder, 1)});
  const ValueId ratio = cast(builder.op("Div", {n, others}), dtype);
  const ValueId kept = builder.op("Mul", {node.inputs[kVariance], cast(scalar(builder, momentum), dtype)});
  return builder.op("Add", {kept, builder.op("Mul", {builder.op("Sub", {next, kept}), ratio})});
}

// A BatchNormalization in training mode, which has three outputs.
std::vector<ValueId> normalize_by_batch(GraphBuilder& builder, NodeId id) {
  std::vector<ValueId> outputs = builder.graph().node(id).outputs;
  outputs.resize(3, kNone);
  for (size_t i : {size_t{1}, size_t{2}})
    if (outputs[i] == kNone) outputs[i] = builder.value();
  builder.node(id).outputs = outputs;
  builder.node(id).attributes.set("training_mode", int64_t{1});
  return outputs;
}

void train_normalization(GraphBuilder& builder, NodeId id, TrainingForward& result, std::set<ValueId>& done) {
  const Node node = builder.graph().node(id);
  const auto a = parse_attributes<BatchNormalizationAttributes>(node.attributes);
  const std::vector<ValueId> outputs = normalize_by_batch(builder, id);
  for (const size_t i : {kMean, kVariance}) {
    const ValueId statistic = node.inputs[i];
    // Of two nodes with the same statistics the first one's are kept.
    if (!is_weight(builder.info(statistic)) || !done.insert(statistic).second) continue;
    Statistic entry{as_input(builder, statistic), {}};
    ValueId next = outputs[i - 2];
    if (i == kVariance) next = unbiased(builder, node, next, entry.parameter.value.dtype(), a.momentum);
    // An output of its own, also where the model has it as an output already.
    const ValueId named = named_value(builder, next, StepNames::next(entry.parameter.name));
    entry.next = builder.info(named).name;
    builder.output(named);
    result.statistics.push_back(std::move(entry));
  }
}

void train_dropout(GraphBuilder& builder, NodeId id) {
  const ValueId on = builder.constant(Tensor::scalar(true));
  auto& inputs = builder.node(id).inputs;
  inputs.resize(std::max(inputs.size(), kTrainingMode + 1), kNone);
  inputs[kTrainingMode] = on;
}

}  // namespace

bool matches_glob(const std::string& glob, const std::string& name) {
  size_t g = 0, n = 0, star = std::string::npos, resume = 0;
  while (n < name.size()) {
    if (g < glob.size() && (glob[g] == '?' || (glob[g] != '*' && glob[g] == name[n]))) {
      ++g, ++n;
    } else if (g < glob.size() && glob[g] == '*') {
      star = g++;
      resume = n;
    } else if (star != std::string::npos) {
      g = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  return std::all_of(glob.begin() + static_cast<ptrdiff_t>(g), glob.end(), [](char c) { return c == '*'; });
}

TrainingForward training_forward(const GraphPtr& graph, const std::vector<std::string>& initializers,
                                 const ForwardOptions& options) {
  GraphBuilder builder(*graph);
  TrainingForward result;
  const std::set<std::string> named(initializers.begin(), initializers.end());
  const std::set<ValueId> statistics = running_statistics(*graph), shapes = shape_operands(*graph);
  std::vector<char> used(options.trainable.size(), 0);
  for (size_t i = 0; i < graph->values().size(); ++i) {
    const ValueInfo& info = graph->values()[i];
    const auto id = static_cast<ValueId>(i);
    if (!is_weight(info) || statistics.count(id) || shapes.count(id) || graph->use_count(id) == 0) continue;
    if (!named.count(info.name) && info.constant.tensor().size() < 2) continue;
    bool chosen = false;
    for (size_t g = 0; g < options.trainable.size(); ++g) {
      const std::string& glob = options.trainable[g];
      const bool out = !glob.empty() && glob[0] == '!';
      if (!matches_glob(out ? glob.substr(1) : glob, info.name)) continue;
      used[g] = 1;
      // Exporters write exponents and factors in the same way as weights.
      if (info.constant.tensor().rank() == 0 && glob != info.name) continue;
      chosen = !out;
    }
    if (chosen) result.parameters.push_back(as_input(builder, id));
  }
  for (size_t g = 0; g < used.size(); ++g)
    if (!used[g])
      throw InputError("trainable", "globs that match weights of the model",
                       "'" + options.trainable[g] + "'");
  std::set<ValueId> done;
  const size_t nodes = graph->nodes().size();
  for (size_t n = 0; n < nodes; ++n) {
    const Node& node = graph->nodes()[n];
    if (node.is("BatchNormalization") && options.batch_statistics)
      train_normalization(builder, static_cast<NodeId>(n), result, done);
    if (node.is("Dropout")) train_dropout(builder, static_cast<NodeId>(n));
  }
  result.graph = std::move(builder).build();
  return result;
}

GraphPtr training_mode(const GraphPtr& graph, bool batch_statistics, bool dropout) {
  GraphBuilder builder(*inference_mode(graph));
  const size_t nodes = builder.graph().nodes().size();
  for (size_t n = 0; n < nodes; ++n) {
    const auto id = static_cast<NodeId>(n);
    if (builder.graph().node(id).is("BatchNormalization") && batch_statistics)
      normalize_by_batch(builder, id);
    else if (builder.graph().node(id).is("Dropout") && dropout)
      train_dropout(builder, id);
  }
  return std::move(builder).build();
}

GraphPtr inference_mode(const GraphPtr& graph) {
  GraphBuilder builder(*graph);
  for (size_t n = 0; n < graph->nodes().size(); ++n) {
    Node& node = builder.node(static_cast<NodeId>(n));
    if (node.is("BatchNormalization") && node.attributes.get<int64_t>("training_mode", 0) != 0) {
      node.attributes.set("training_mode", int64_t{0});
      // Statistics that are outputs of the model stay what they are.
      std::vector<std::pair<ValueId, ValueId>> kept;
      for (size_t i = 1; i < node.outputs.size() && i < 3; ++i)
        if (node.outputs[i] != kNone) kept.emplace_back(node.outputs[i], node.inputs[i + 2]);
      node.outputs.resize(1);
      for (const auto& [out, in] : kept) {
        Node identity;
        identity.op = "Identity";
        identity.inputs = {in};
        identity.outputs = {out};
        builder.add(std::move(identity));
      }
    } else if (node.is("Dropout") && node.inputs.size() > kTrainingMode) {
      node.inputs.resize(kTrainingMode);
    }
  }
  return std::move(builder).build_pruned();
}

}  // namespace sardonyx
