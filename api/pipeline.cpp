#include "api/pipeline.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "api/differentiable.h"
#include "autodiff/gradient_nodes.h"
#include "graph/builder.h"
#include "graph/print.h"
#include "onnx_import/upgrade.h"
#include "ops/registry/schema.h"
#include "providers/runtime/executor.h"
#include "providers/runtime/log.h"
#include "providers/runtime/passes.h"
#include "providers/runtime/plan.h"
#include "providers/runtime/precision.h"
#include "providers/runtime/registry.h"
#include "sardonyx/tools.h"

namespace sardonyx {

const std::vector<std::string>& stage_names() {
  static const std::vector<std::string> names = {"imported",   "inferred", "upgraded", "simplified",
                                                 "decomposed", "fused",    "lowered"};
  return names;
}

const std::vector<std::string>& pass_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const char* stage : {"simplified", "fused", "planned"})
      for (std::string& name : pass_names(stage)) all.push_back(std::move(name));
    return all;
  }();
  return names;
}

std::vector<std::string> pass_names(const std::string& stage) {
  if (stage == "simplified") return simplify_pass_names();
  if (stage == "planned") return plan_pass_names();
  if (stage != "fused")
    throw InputError("stage of passes", "simplified, fused or planned", "'" + stage + "'");
  std::vector<std::string> names;
  for (const Fusion& fusion : FusionRegistry::instance().all()) names.push_back(fusion.name);
  return names;
}

namespace {
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t up = row[j];
      row[j] = std::min({up + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = up;
    }
  }
  return row[b.size()];
}
}  // namespace

std::string suggest(const std::string& name, const std::vector<ValueDescription>& known) {
  std::string list;
  const ValueDescription* nearest = nullptr;
  for (const auto& d : known) {
    list += (list.empty() ? "'" : ", '") + d.name + "'";
    if (!nearest || edit_distance(name, d.name) < edit_distance(name, nearest->name)) nearest = &d;
  }
  if (nearest && edit_distance(name, nearest->name) <= std::max<size_t>(2, name.size() / 3))
    return "one of " + list + " (did you mean '" + nearest->name + "'?)";
  return known.empty() ? "no name at all" : "one of " + list;
}

ValueDescription describe_value(const ValueInfo& info) {
  ValueDescription d;
  d.name = info.name;
  d.type = info.type.onnx_name();
  d.dtype = info.type.is_tensor() ? info.type.dtype : DType::Undefined;
  d.has_default = info.kind == ValueKind::Input && info.constant.defined();
  if (info.type.shape) {
    d.has_shape = true;
    for (const Dim& dim : *info.type.shape) d.shape.push_back({dim.value, dim.symbol});
  }
  return d;
}

Pipeline::Pipeline(const std::vector<std::string>& provider_names) : host(make_host_provider()) {
  if (provider_names.empty()) throw InputError("option 'providers'", "at least one provider", "none");
  for (const auto& name : provider_names) providers.push_back(find_provider(name));
  evaluator = std::make_unique<KernelEvaluator>(find_provider("cpu"), host);
}

namespace {

GraphPtr fix_dimensions(const GraphPtr& graph, const std::map<std::string, int64_t>& dims) {
  if (dims.empty()) return graph;
  GraphBuilder builder(*graph);
  for (const auto& [name, size] : dims) {
    if (size < 0)
      throw InputError("free dimension '" + name + "'", "a size of at least 0", std::to_string(size));
    bool found = false;
    for (const ValueId id : graph->inputs()) {
      Type& type = builder.info(id).type;
      if (!type.shape) continue;
      for (Dim& dim : *type.shape)
        if (!dim.known() && dim.symbol == name) {
          dim = Dim(size);
          found = true;
        }
    }
    if (!found)
      throw InputError("free dimension", "the name of a symbolic dimension of an input", "'" + name + "'");
  }
  return std::move(builder).build();
}

// Nodes that ask for a gradient are written out.
GraphPtr with_gradients(GraphPtr graph, Evaluator* evaluator) {
  while (has_gradient_nodes(*graph)) {
    graph = differentiable(graph, evaluator);
    graph = infer_types(expand_gradient_node(graph), evaluator);
  }
  return graph;
}

}  // namespace

GraphPtr fused(GraphPtr graph, Evaluator& evaluator, const FusionOptions& options) {
  // What one round folds, the next may recognize. Weights stay quantized until nothing more is found.
  constexpr int kMaxRounds = 6;
  Quantized weights = Quantized::Keep;
  for (int round = 0; round < kMaxRounds; ++round) {
    if (round == kMaxRounds / 2) weights = Quantized::Fold;
    const GraphPtr next = simplify(fuse(graph, &evaluator, options), evaluator, options.disabled, weights);
    if (next == graph && weights == Quantized::Fold) break;
    if (next == graph) weights = Quantized::Fold;
    graph = next;
  }
  return graph;
}

GraphPtr Pipeline::run(const Model& model, const SessionOptions& options,
                       const std::string& last_stage) const {
  if (std::find(stage_names().begin(), stage_names().end(), last_stage) == stage_names().end())
    throw InputError("stage", fmt::format("one of {}", fmt::join(stage_names(), ", ")), last_stage);
  const auto supported = [&](const Node& node) {
    return host->supports(node) ||
           std::any_of(providers.begin(), providers.end(), [&](const auto& p) { return p->supports(node); });
  };
  const std::set<std::string> disabled(options.disabled_passes.begin(), options.disabled_passes.end());
  for (const auto& name : disabled)
    if (std::find(pass_names().begin(), pass_names().end(), name) == pass_names().end())
      throw InputError("disabled pass", fmt::format("one of {}", fmt::join(pass_names(), ", ")),
                       "'" + name + "'");
  const bool optimize = options.optimize == "all";
  if (!optimize && options.optimize != "none")
    throw InputError("option 'optimize'", "'all' or 'none'", "'" + options.optimize + "'");
  if (options.precision != "highest" && options.precision != "high" && options.precision != "medium")
    throw InputError("option 'precision'", "'highest', 'high' or 'medium'", "'" + options.precision + "'");
  const bool lowers =
      options.precision == "medium" &&
      std::any_of(providers.begin(), providers.end(), [](const auto& p) { return p->multiplies_bfloat16(); });
  GraphPtr graph;
  try {
    for (const auto& stage : stage_names()) {
      if (stage == "imported")
        graph = fix_dimensions(model.graph, options.free_dimensions);
      else if (stage == "inferred")
        graph = infer_types(graph, evaluator.get());
      else if (stage == "upgraded")
        graph = with_gradients(infer_types(upgrade_graph(graph), evaluator.get()), evaluator.get());
      else if (stage == "simplified" && optimize)
        graph = simplify(graph, *evaluator, disabled, Quantized::Keep);
      else if (stage == "decomposed") {
        graph = written_out(graph, supported, evaluator.get());
        if (optimize) graph = simplify(graph, *evaluator, disabled, Quantized::Keep);
      } else if (stage == "fused" && optimize) {
        const auto preferred = [&](const Node& node) {
          return host->prefers(node) || std::any_of(providers.begin(), providers.end(),
                                                    [&](const auto& p) { return p->prefers(node); });
        };
        FusionOptions fusions{disabled, preferred, {}};
        if (log_enabled("fusion"))
          fusions.report = [](const Fusion& fusion, const Graph& before, const Graph& after) {
            log_line(fmt::format("fusion {}: {} nodes become {}", fusion.name, before.nodes().size(),
                                 after.nodes().size()));
          };
        graph = fused(graph, *evaluator, fusions);
      } else if (stage == "lowered" && lowers) {
        graph = fold_constants(lower_precision(graph), *evaluator);
      }
      if (log_enabled("graph:" + stage) || log_enabled("graph:all"))
        log_line("--- " + stage + "\n" + print_graph(*graph));
      if (stage == last_stage) break;
    }
  } catch (Error& e) {
    e.add_file(model.path);
    throw;
  }
  return graph;
}

}  // namespace sardonyx
