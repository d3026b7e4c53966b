#include "sardonyx/gradient.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "api/differentiable.h"
#include "api/pipeline.h"
#include "autodiff/backward.h"
#include "graph/builder.h"
#include "graph/shape.h"
#include "ops/registry/gradient.h"
#include "ops/registry/schema.h"
#include "training/forward.h"
#include "training/step.h"

namespace sardonyx {

namespace {

LoadedModel with_graph(const Model& model, GraphPtr graph) {
  auto next = std::make_shared<Model>(model);
  next->graph = std::move(graph);
  return LoadedModel(next);
}

// The ids of wrt: inputs by name, weights by glob, in the file's order.
std::vector<ValueId> resolve(const Graph& graph, const std::vector<std::string>& initializers,
                             const std::vector<std::string>& wrt) {
  std::vector<ValueId> ids;
  const std::set<std::string> named(initializers.begin(), initializers.end());
  for (const std::string& glob : wrt) {
    const size_t before = ids.size();
    for (size_t i = 0; i < graph.values().size(); ++i) {
      const ValueInfo& info = graph.values()[i];
      const bool weight = info.kind == ValueKind::Constant && (info.name == glob || named.count(info.name));
      const bool input = info.kind == ValueKind::Input;
      if ((weight || input) && info.type.is_tensor() && is_float(info.type.dtype) &&
          matches_glob(glob, info.name))
        ids.push_back(static_cast<ValueId>(i));
    }
    if (ids.size() == before)
      throw InputError("wrt", "a float input or a glob of weights of the model", "'" + glob + "'");
  }
  return ids;
}

}  // namespace

LoadedModel gradient_model(const LoadedModel& loaded, const GradientOptions& options) {
  const Model& model = *loaded.get();
  const Pipeline pipeline({"cpu"});
  Evaluator* evaluator = pipeline.evaluator.get();
  try {
    const GraphPtr typed = canonical(model.graph, evaluator);
    GraphPtr graph = training_mode(typed, options.batch_statistics, options.dropout);
    Objective objective;
    objective.terms = loss_terms(options, evaluator);
    objective.target_name = [](size_t i) { return i == 0 ? "target" : "target_" + std::to_string(i); };
    std::vector<std::string> names;
    for (const ValueId id : typed->outputs()) names.push_back(typed->value(id).name);
    std::string loss_name;
    graph = differentiable(with_loss(graph, objective, names, {}, &loss_name), evaluator);
    const ValueId loss = graph->outputs().at(0);
    const bool every = options.wrt.empty();
    const std::vector<ValueId> ids =
        resolve(*graph, model.initializers, every ? std::vector<std::string>{"*"} : options.wrt);
    GraphBuilder builder(*graph);
    const std::vector<ValueId> gradients = append_loss_gradient(builder, loss, ids);
    std::vector<ValueId> outputs = {loss};
    for (size_t i = 0; i < ids.size(); ++i) {
      const ValueInfo info = graph->value(ids[i]);
      if (every && (gradients[i] == kNone || info.kind == ValueKind::Input)) continue;
      const ValueId gradient =
          gradients[i] == kNone ? zero_cotangent(builder, ids[i], graph->value(ids[i]).type) : gradients[i];
      outputs.push_back(named_value(builder, gradient, info.name + "_grad"));
    }
    if (outputs.size() == 1) throw InputError("wrt", "weights that the loss depends on", "none");
    builder.set_outputs(std::move(outputs));
    return with_graph(model, standard_operators(std::move(builder).build_pruned(), evaluator));
  } catch (Error& e) {
    e.add_file(model.path);
    throw;
  }
}

LoadedModel loss_model(const Named& named, const std::vector<PortType>& types) {
  const Loss& loss = find_loss(named.name);
  if (types.size() != loss.ports.size())
    throw InputError(loss.name, std::to_string(loss.ports.size()) + " inputs", std::to_string(types.size()));
  GraphBuilder builder(loss.name);
  std::vector<ValueId> ports;
  for (size_t i = 0; i < types.size(); ++i) {
    Shape shape;
    for (int d = 0; d < types[i].rank; ++d) shape.push_back(Dim(loss.ports[i].name + std::to_string(d)));
    ports.push_back(builder.input(loss.ports[i].name, Type::tensor(types[i].dtype, std::move(shape))));
  }
  const Pipeline pipeline({"cpu"});
  const Arguments arguments = canonical(named.arguments, pipeline.evaluator.get());
  const ValueId value = append_loss(builder, loss, arguments, ports);
  builder.set_outputs({named_value(builder, value, "loss")});
  auto model = std::make_shared<Model>();
  model->graph = infer_types(std::move(builder).build_pruned(), pipeline.evaluator.get());
  model->ir_version = 10;
  return LoadedModel(model);
}

LoadedModel vjp_model(const LoadedModel& loaded, const std::vector<std::string>& wrt) {
  const Model& model = *loaded.get();
  const Pipeline pipeline({"cpu"});
  Evaluator* evaluator = pipeline.evaluator.get();
  const GraphPtr graph = differentiable(model.graph, evaluator);
  GraphBuilder builder(*graph);
  std::vector<ValueId> outputs, cotangents, results;
  for (const ValueId id : graph->outputs()) {
    const ValueInfo info = graph->value(id);
    if (!info.type.is_tensor() || !is_float(info.type.dtype)) continue;
    outputs.push_back(id);
    cotangents.push_back(builder.input(info.name + "_grad", info.type));
  }
  const std::vector<ValueId> ids = resolve(*graph, model.initializers, wrt);
  const std::vector<ValueId> gradients = append_gradient(builder, outputs, cotangents, ids);
  for (size_t i = 0; i < ids.size(); ++i)
    results.push_back(named_value(
        builder,
        gradients[i] == kNone ? zero_cotangent(builder, ids[i], graph->value(ids[i]).type) : gradients[i],
        graph->value(ids[i]).name + "_grad"));
  builder.set_outputs(std::move(results));
  return with_graph(model, standard_operators(std::move(builder).build_pruned(), evaluator));
}

std::vector<std::string> loss_ports(const std::string& loss) {
  std::vector<std::string> names;
  for (const LossPort& port : find_loss(loss).ports) names.push_back(port.name);
  return names;
}

std::vector<std::string> loss_names() {
  std::vector<std::string> names;
  for (const Loss& loss : all_losses()) names.push_back(loss.name);
  return names;
}

std::vector<std::string> optimizer_names() {
  std::vector<std::string> names;
  for (const Optimizer& optimizer : all_optimizers()) names.push_back(optimizer.name);
  return names;
}

}  // namespace sardonyx
