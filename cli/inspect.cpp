#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "cli.h"
#include "sardonyx/tools.h"

namespace sardonyx::cli {

namespace {

using nlohmann::json;

struct Arguments {
  std::string model, stage;
  bool as_json = false, placement = false, plan = false;
  SessionArguments session;
  FeedArguments feeds;
};

std::string human(double value) {
  const char* units[] = {"", " K", " M", " G", " T", " P"};
  int unit = 0;
  while (value >= 1000 && unit < 5) value /= 1000, ++unit;
  return unit == 0 ? fmt::format("{:.0f}", value) : fmt::format("{:.2f}{}", value, units[unit]);
}

int inspect(const Arguments& args) {
  const LoadedModel model = LoadedModel::from_file(args.model);
  if (args.stage == "list") {
    for (const auto& stage : graph_stages()) fmt::print("{}\n", stage);
    return kOk;
  }
  if (!args.stage.empty()) {
    fmt::print("{}", print_stage(model, args.stage, args.session.options()));
    return kOk;
  }
  if (args.plan) {
    Session session(model, args.session.options());
    fmt::print("{}", session.plan(args.feeds.make(session)));
    return kOk;
  }
  const std::string text = inspect_json(model, args.session.options(), args.placement);
  if (args.as_json) {
    fmt::print("{}\n", text);
    return kOk;
  }
  const json j = json::parse(text);
  fmt::print("file        {}\n", j["file"].get<std::string>());
  fmt::print("format      IR {}", j["ir_version"].get<int64_t>());
  for (const auto& [domain, version] : j["opsets"].items())
    fmt::print(", {} opset {}", domain, version.get<int64_t>());
  fmt::print("\n");
  if (!j["producer"].get<std::string>().empty())
    fmt::print("producer    {} {}\n", j["producer"].get<std::string>(),
               j["producer_version"].get<std::string>());
  fmt::print("nodes       {} ({} in the file)\n", j["nodes"].get<int64_t>(),
             j["nodes_in_file"].get<int64_t>());
  fmt::print("parameters  {} ({}B)\n", human(j["parameters"].get<double>()),
             human(j["parameter_bytes"].get<double>()));
  fmt::print("FLOPs       {}{}\n", human(j["flops"].get<double>()),
             j["flops_complete"].get<bool>() ? "" : " (at least: some shapes are dynamic)");
  for (const char* side : {"inputs", "outputs"})
    for (const auto& port : j[side])
      fmt::print("{:<11} {}: {}\n", std::string(side, std::string(side).size() - 1),
                 port["name"].get<std::string>(), port["type"].get<std::string>());
  for (const auto& [provider, operators] : j["operators"].items()) {
    fmt::print("{}:\n", provider);
    std::vector<std::pair<int64_t, std::string>> sorted;
    for (const auto& [op, count] : operators.items()) sorted.emplace_back(-count.get<int64_t>(), op);
    std::sort(sorted.begin(), sorted.end());
    for (const auto& [count, op] : sorted) fmt::print("  {:>5} {}\n", -count, op);
  }
  if (args.placement)
    for (const auto& node : j["placement"])
      fmt::print("{:<8} {}\n", node["provider"].get<std::string>(), node["node"].get<std::string>());
  for (const auto& [key, value] : j["metadata"].items()) {
    std::string shown = value.get<std::string>();
    if (shown.size() > 60) shown = shown.substr(0, 57) + "...";
    fmt::print("metadata    {} = {}\n", key, shown);
  }
  return kOk;
}

struct CheckArguments {
  std::string model;
  SessionArguments session;
};

}  // namespace

void add_inspect(CLI::App& app, int& exit_code) {
  auto args = std::make_shared<Arguments>();
  CLI::App* sub = app.add_subcommand(
      "inspect", "Says what a model is: inputs, outputs, opsets, parameters, FLOPs, operators by provider");
  sub->add_option("model", args->model, "The .onnx file")->required();
  sub->add_flag("--placement", args->placement, "Lists every node with its provider");
  sub->add_option("--stage", args->stage, "Prints the graph at a stage ('list' names them)");
  sub->add_flag("--plan", args->plan,
                "Runs once and prints the plan: kernels, layouts, reorders, places in memory (see --shape)");
  sub->add_flag("--json", args->as_json, "Prints JSON");
  args->feeds.add_to(*sub);
  args->session.add_to(*sub);
  sub->callback([args, &exit_code] { exit_code = inspect(*args); });
}

void add_check(CLI::App& app, int& exit_code) {
  auto args = std::make_shared<CheckArguments>();
  CLI::App* sub = app.add_subcommand(
      "check", "Loads a model and prepares it without running: says whether it is valid and supported");
  sub->add_option("model", args->model, "The .onnx file")->required();
  args->session.add_to(*sub);
  sub->callback([args, &exit_code] {
    const Session session(args->model, args->session.options());
    fmt::print("{}: ok, {} inputs, {} outputs\n", args->model, session.inputs().size(),
               session.outputs().size());
    exit_code = kOk;
  });
}

void add_ops(CLI::App& app, int& exit_code) {
  auto as_json = std::make_shared<bool>(false);
  CLI::App* sub = app.add_subcommand("ops", "Lists every operator and what implements it");
  sub->add_flag("--json", *as_json, "Prints JSON");
  sub->callback([as_json, &exit_code] {
    const std::string text = operators_json();
    exit_code = kOk;
    if (*as_json) {
      fmt::print("{}\n", text);
      return;
    }
    constexpr const char* kLine = "{:<28} {:<25} {:>5}  {:<4} {:<5} {:<14} {}\n";
    fmt::print(kLine, "operator", "domain", "since", "cpu", "cuda", "gradient", "kernels");
    int on_cpu = 0, all = 0, with_gradient = 0, with_floats = 0;
    const json parsed = json::parse(text);
    for (const auto& op : parsed["operators"]) {
      std::string kernels;
      for (const auto& k : op["kernels"]) kernels += (kernels.empty() ? "" : ", ") + k.get<std::string>();
      if (op["decomposition"].get<bool>()) kernels += kernels.empty() ? "decomposition" : ", decomposition";
      const auto yes = [&](const char* key) { return op[key].get<bool>() ? "yes" : "no"; };
      // "rule", "decomposition", "none: why", "no floats", or nothing where none is known.
      const auto by = op["gradient_by"].get<std::string>();
      fmt::print(kLine, op["name"].get<std::string>(), op["domain"].get<std::string>(),
                 op["since_version"].get<int>(), yes("cpu"), yes("cuda"),
                 by.empty() ? "no" : by.substr(0, by.find(':')), kernels);
      on_cpu += op["cpu"].get<bool>();
      with_gradient += op["gradient"].get<bool>();
      with_floats += by != "no floats";
      ++all;
    }
    fmt::print("{} of {} operators run on the CPU; of {} that take and give floats {} have a gradient\n",
               on_cpu, all, with_floats, with_gradient);
  });
}

void add_convert(CLI::App& app, int& exit_code) {
  struct Convert {
    std::string model, output;
    ConvertOptions options;
  };
  auto args = std::make_shared<Convert>();
  CLI::App* sub =
      app.add_subcommand("convert", "Rewrites a model as standard ONNX at one opset, functions inlined");
  sub->add_option("model", args->model, "The .onnx file")->required();
  sub->add_option("output", args->output, "The file to write")->required();
  sub->add_flag("--optimize", args->options.optimize, "Writes the simplified graph");
  sub->add_option("--opset", args->options.opset,
                  "Forces an opset; by default the lowest in which every node means the same")
      ->check(CLI::PositiveNumber);
  sub->add_option("--external-bytes", args->options.external_bytes,
                  "Tensors of at least this many bytes go to OUTPUT.data (by default only past 2 GB)")
      ->check(CLI::PositiveNumber);
  sub->callback([args, &exit_code] {
    convert_to_file(LoadedModel::from_file(args->model), args->output, args->options);
    fmt::print("{}\n", args->output);
    exit_code = kOk;
  });
}

}  // namespace sardonyx::cli
