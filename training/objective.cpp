#include "training/objective.h"

#include <algorithm>

#include "graph/builder.h"

namespace sardonyx {

namespace {

// A port of a term: the output of the model that it reads, or a target.
struct Port {
  std::string name;
  std::string output;  // empty: a target
};

std::vector<Port> ports_of(const LossTerm& term, const std::vector<std::string>& outputs) {
  std::vector<Port> ports;
  if (term.loss) {
    for (const LossPort& port : term.loss->ports) ports.push_back({port.name, port.is_target ? "" : "?"});
  } else {
    bool any = false;
    for (const ValueId id : term.graph->inputs()) {
      const std::string& name = term.graph->value(id).name;
      const bool known = std::find(outputs.begin(), outputs.end(), name) != outputs.end();
      ports.push_back({name, known && term.predictions.empty() ? name : ""});
      any = any || known;
    }
    const size_t given = term.predictions.empty() ? (any ? 0 : 1) : term.predictions.size();
    for (size_t i = 0; i < given && i < ports.size(); ++i) ports[i].output = "?";
  }
  size_t next = 0, open = 0;
  for (Port& port : ports) {
    if (port.output != "?") continue;
    ++open;
    const auto& from = term.predictions.empty() ? outputs : term.predictions;
    if (next < from.size()) port.output = from[next++];
  }
  const std::string name = term.loss ? term.loss->name : "the loss's graph";
  if (next != open || (!term.predictions.empty() && next != term.predictions.size()))
    throw InputError("predictions", std::to_string(open) + " outputs for " + name,
                     std::to_string(term.predictions.empty() ? outputs.size() : term.predictions.size()));
  return ports;
}

}  // namespace

ValueId named_value(GraphBuilder& builder, ValueId id, const std::string& name) {
  Node node;
  node.op = "Identity";
  node.inputs = {id};
  node.outputs = {builder.value(name)};
  const ValueId result = node.outputs[0];
  builder.add(std::move(node));
  return result;
}

ValueId output_named(const Graph& graph, const std::string& name) {
  std::string list;
  for (const ValueId id : graph.outputs()) {
    if (graph.value(id).name == name) return id;
    list += (list.empty() ? "'" : ", '") + graph.value(id).name + "'";
  }
  throw InputError("output of the model", "one of " + list, "'" + name + "'");
}

size_t target_count(const Objective& objective, const std::vector<std::string>& outputs) {
  size_t count = 0;
  for (const LossTerm& term : objective.terms)
    for (const Port& port : ports_of(term, outputs)) count += port.output.empty();
  return count;
}

GraphPtr with_loss(const GraphPtr& forward, const Objective& objective,
                   const std::vector<std::string>& outputs, const std::vector<std::string>& keep,
                   std::string* loss_name) {
  const size_t wanted = target_count(objective, outputs);
  if (!objective.targets.empty() && objective.targets.size() != wanted)
    throw InputError("targets", std::to_string(wanted), std::to_string(objective.targets.size()));
  GraphBuilder builder(*forward);
  std::vector<ValueId> losses;
  size_t target = 0;
  for (const LossTerm& term : objective.terms) {
    const std::vector<Port> ports = ports_of(term, outputs);
    std::vector<Type> usual;
    if (term.loss && objective.targets.empty() && !ports.empty() && !ports[0].output.empty())
      usual = usual_targets(*term.loss, forward->value(output_named(*forward, ports[0].output)).type);
    std::vector<ValueId> ids;
    size_t own = 0;
    for (size_t i = 0; i < ports.size(); ++i) {
      if (!ports[i].output.empty()) {
        ids.push_back(output_named(*forward, ports[i].output));
        continue;
      }
      const Type type = !objective.targets.empty() ? objective.targets[target]
                        : term.graph               ? term.graph->value(term.graph->inputs()[i]).type
                                                   : usual.at(own);
      ids.push_back(builder.input(objective.target_name(target), type));
      ++target, ++own;
    }
    ValueId loss = term.loss ? append_loss(builder, *term.loss, term.arguments, ids)
                             : builder.inline_body(*term.graph, ids, {}).at(0);
    if (term.weight != 1 || objective.terms.size() > 1) {
      const ValueId weight = builder.constant(Tensor::scalar(term.weight));
      loss = builder.op("Mul", {loss, builder.op("CastLike", {weight, loss})});
    }
    losses.push_back(loss);
  }
  const ValueId sum = losses.size() == 1 ? losses[0] : builder.op("Sum", losses);
  const ValueId loss = named_value(builder, sum, kLossOutput);
  *loss_name = builder.info(loss).name;
  std::vector<ValueId> results = {loss};
  for (const std::string& name : keep) results.push_back(output_named(*forward, name));
  builder.set_outputs(std::move(results));
  return std::move(builder).build_pruned();
}

}  // namespace sardonyx
