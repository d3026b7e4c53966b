#include "sardonyx/tools.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "api/differentiable.h"
#include "api/pipeline.h"
#include "graph/print.h"
#include "onnx_import/export.h"
#include "onnx_import/import.h"
#include "ops/registry/decompose.h"
#include "ops/registry/flops.h"
#include "ops/registry/operator.h"
#include "ops/registry/schema.h"
#include "providers/runtime/executor.h"
#include "providers/runtime/passes.h"
#include "providers/runtime/registry.h"

namespace sardonyx {

namespace {

using nlohmann::json;

Model converted(const LoadedModel& loaded, const ConvertOptions& options) {
  Model model = *loaded.get();
  const Pipeline pipeline({"cpu"});
  model.graph = pipeline.run(model, {}, options.optimize ? "simplified" : "upgraded");
  model.graph = standard_operators(model.graph, pipeline.evaluator.get());
  return model;
}

ExportOptions export_options(const ConvertOptions& options) {
  ExportOptions result;
  result.opset = options.opset;
  result.external_bytes = options.external_bytes;
  return result;
}

json describe_port(const Graph& graph, ValueId id) {
  const ValueInfo& info = graph.value(id);
  json shape = nullptr;
  if (info.type.shape) {
    shape = json::array();
    for (const Dim& dim : *info.type.shape)
      shape.push_back(dim.known() ? json(dim.value) : json(dim.symbol.empty() ? "?" : dim.symbol));
  }
  return {{"name", info.name}, {"type", info.type.to_string()}, {"shape", shape}};
}

// The provider that a node runs on, or the reason why none does.
std::string place(const Pipeline& pipeline, const Node& node) {
  for (const auto& provider : pipeline.providers)
    if (provider->supports(node)) return provider->name();
  return pipeline.host->supports(node) ? "host" : "none";
}

struct Totals {
  std::map<std::string, std::map<std::string, int64_t>> operators;  // provider -> operator -> count
  json nodes = json::array();
  int64_t node_count = 0, parameters = 0, parameter_bytes = 0;
  double flops = 0;
  bool flops_complete = true;
};

void sum_up(const Pipeline& pipeline, const Graph& graph, Totals& totals, bool placement) {
  for (const ValueInfo& info : graph.values()) {
    if (info.kind != ValueKind::Constant || !info.constant.is_tensor() ||
        !is_float(info.constant.tensor().dtype()))
      continue;
    totals.parameters += info.constant.tensor().size();
    totals.parameter_bytes += static_cast<int64_t>(info.constant.tensor().bytes());
  }
  for (const Node& node : graph.nodes()) {
    ++totals.node_count;
    const std::string provider = place(pipeline, node);
    const std::string op = (node.domain.empty() ? "" : node.domain + ".") + node.op;
    ++totals.operators[provider][op];
    if (placement)
      totals.nodes.push_back({{"node", describe(graph, node)}, {"operator", op}, {"provider", provider}});
    if (const auto flops = node_flops(graph, node))
      totals.flops += *flops;
    else
      totals.flops_complete = false;
    for (const auto& [name, attribute] : node.attributes)
      if (const auto* body = std::get_if<GraphPtr>(&attribute)) sum_up(pipeline, **body, totals, placement);
  }
}

}  // namespace

std::string convert_to_bytes(const LoadedModel& model, const ConvertOptions& options) {
  return export_bytes(converted(model, options), export_options(options));
}

void convert_to_file(const LoadedModel& model, const std::string& path, const ConvertOptions& options) {
  export_file(converted(model, options), path, export_options(options));
}

std::vector<TracedValue> trace(const LoadedModel& model, const std::string& stage, const Feeds& feeds,
                               const SessionOptions& options) {
  const Pipeline pipeline(options.providers);
  GraphPtr graph = pipeline.run(*model.get(), options, stage);
  if (stage != "decomposed" && stage != "fused" && stage != "lowered") {
    // What no kernel takes is decomposed all the same; the rest stays as it is at the stage.
    const auto supported = [&](const Node& node) { return place(pipeline, node) != "none"; };
    graph = decompose_unsupported(graph, supported, pipeline.evaluator.get());
  }
  GraphBuilder builder(*graph);
  std::vector<ValueId> wanted;
  std::vector<TracedValue> values;
  for (const Node& node : graph->nodes())
    for (const ValueId id : node.outputs)
      if (id != kNone) {
        wanted.push_back(id);
        values.push_back({graph->value(id).name, describe(*graph, node), {}});
      }
  builder.set_outputs(std::move(wanted));
  auto traced = std::make_shared<Model>(*model.get());
  traced->graph = std::move(builder).build();
  SessionOptions as_it_is = options;
  as_it_is.free_dimensions.clear();  // the stage has them already
  as_it_is.optimize = "none";
  Session session{LoadedModel(traced), as_it_is};
  std::vector<Value> results = session.run(feeds);
  for (size_t i = 0; i < values.size(); ++i) values[i].value = std::move(results[i]);
  return values;
}

std::string convert_for_trace(const LoadedModel& loaded) {
  Model model = converted(loaded, {});
  GraphBuilder builder(*model.graph);
  std::vector<ValueId> outputs = model.graph->outputs();
  for (const Node& node : model.graph->nodes())
    for (const ValueId id : node.outputs)
      if (id != kNone && model.graph->value(id).type.is_tensor() &&
          std::find(outputs.begin(), outputs.end(), id) == outputs.end())
        outputs.push_back(id);
  builder.set_outputs(std::move(outputs));
  model.graph = std::move(builder).build();
  return export_bytes(model, {});
}

std::vector<std::string> graph_stages() { return stage_names(); }

std::string print_stage(const LoadedModel& model, const std::string& stage, const SessionOptions& options) {
  return print_graph(*Pipeline(options.providers).run(*model.get(), options, stage));
}

std::string inspect_json(const LoadedModel& model, const SessionOptions& options, bool placement) {
  const Pipeline pipeline(options.providers);
  const GraphPtr graph = pipeline.run(*model.get(), options);
  Totals totals;
  sum_up(pipeline, *graph, totals, placement);
  json result = {{"file", model.get()->path},
                 {"ir_version", model.get()->ir_version},
                 {"opsets", json::object()},
                 {"producer", model.get()->producer_name},
                 {"producer_version", model.get()->producer_version},
                 {"inputs", json::array()},
                 {"outputs", json::array()},
                 {"nodes", totals.node_count},
                 {"nodes_in_file", model.get()->graph->nodes().size()},
                 {"parameters", totals.parameters},
                 {"parameter_bytes", totals.parameter_bytes},
                 {"flops", totals.flops},
                 {"flops_complete", totals.flops_complete},
                 {"operators", totals.operators},
                 {"metadata", model.get()->metadata}};
  for (const auto& [domain, version] : model.get()->opsets)
    result["opsets"][domain.empty() ? "ai.onnx" : domain] = version;
  for (const ValueId id : graph->inputs()) result["inputs"].push_back(describe_port(*graph, id));
  for (const ValueId id : graph->outputs()) result["outputs"].push_back(describe_port(*graph, id));
  if (placement) result["placement"] = totals.nodes;
  return result.dump(-1, ' ', false, json::error_handler_t::replace);
}

namespace {

bool has_float(const std::vector<PortSchema>& ports) {
  for (const PortSchema& port : ports)
    for (const std::string& type : port.types)
      if (type.find("tensor(float)") != std::string::npos || type.find("tensor(double)") != std::string::npos)
        return true;
  return false;
}

// How a gradient flows through an operator; empty where nothing is known.
std::string gradient_of(const OpSchemaInfo& schema, const Operator* op) {
  if (!has_float(schema.inputs) || !has_float(schema.outputs)) return "no floats";
  if (schema.name == "Gradient" && schema.domain == "ai.onnx.preview.training") return "written out";
  if (!op) return "";
  if (op->gradient) return "rule";
  if (!op->no_gradient.empty()) return "none: " + op->no_gradient;
  return op->decompose ? "decomposition" : "";
}

}  // namespace

std::string operators_json() {
  const auto cpu = find_provider("cpu");
  const auto host = make_host_provider();
  json list = json::array();
  for (const OpSchemaInfo* schema : newest_schemas()) {
    if (schema->deprecated) continue;
    const auto& on_cpu = cpu->kernels().find(schema->domain, schema->name);
    const auto& on_host = host->kernels().find(schema->domain, schema->name);
    const Operator* op = OperatorRegistry::instance().find(schema->domain, schema->name);
    json kernels = json::array();
    for (const auto& kernel : on_cpu) kernels.push_back(kernel.name);
    for (const auto& kernel : on_host) kernels.push_back("host." + kernel.name);
    std::set<std::string> types;
    if (!schema->inputs.empty())
      types.insert(schema->inputs.front().types.begin(), schema->inputs.front().types.end());
    const bool decomposes = op && op->decompose;
    const std::string gradient = gradient_of(*schema, op);
    list.push_back({{"name", schema->name},
                    {"domain", schema->domain.empty() ? "ai.onnx" : schema->domain},
                    {"since_version", schema->since_version},
                    {"cpu", !kernels.empty() || decomposes},
                    {"cuda", false},
                    {"kernels", kernels},
                    {"decomposition", decomposes},
                    {"gradient", gradient == "rule" || gradient == "decomposition"},
                    {"gradient_by", gradient},
                    {"dtypes", types},
                    {"test", "onnx backend suite"}});
  }
  return json{{"operators", list}}.dump();
}

Value value_from_proto(const void* data, size_t bytes, const std::string& kind) {
  static const std::map<std::string, ProtoKind> kinds = {{"tensor", ProtoKind::Tensor},
                                                         {"sparse_tensor", ProtoKind::SparseTensor},
                                                         {"sequence", ProtoKind::Sequence},
                                                         {"optional", ProtoKind::Optional},
                                                         {"map", ProtoKind::Map}};
  const auto it = kinds.find(kind);
  if (it == kinds.end())
    throw InputError("kind of value", "tensor, sparse_tensor, sequence, optional or map", "'" + kind + "'");
  return import_value(data, bytes, it->second);
}

std::string value_to_proto(const Value& value, const std::string& name) { return export_value(value, name); }

}  // namespace sardonyx
