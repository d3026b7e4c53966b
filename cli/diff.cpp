#include <fmt/core.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "cli.h"
#include "sardonyx/npy.h"
#include "sardonyx/tools.h"

namespace sardonyx::cli {

namespace fs = std::filesystem;

namespace {

struct Arguments {
  std::string model, against = "stage", python = "python3";
  double tolerance = 1e-3;
  bool all = false;
  SessionArguments session;
  FeedArguments feeds;
};

// A folder that goes away with its contents.
struct TemporaryFolder {
  fs::path path;
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "sardonyx-XXXXXX").string();
    if (!mkdtemp(name.data())) throw FileError("temporary folder", "a writable place", std::strerror(errno));
    path = name;
  }
  ~TemporaryFolder() {
    std::error_code ec;
    fs::remove_all(path, ec);
  }
};

// Every value of the model as ONNX Runtime computes it, by the Python package onnxruntime.
std::map<std::string, Value> onnxruntime_values(const Arguments& args, const LoadedModel& model,
                                                const Feeds& feeds) {
  const TemporaryFolder folder;
  {
    std::ofstream file(folder.path / "model.onnx", std::ios::binary);
    file << convert_for_trace(model);
    std::ofstream script(folder.path / "run.py");
    script << "import sys, numpy as np, onnxruntime as ort\n"
              "f = sys.argv[1]\n"
              "o = ort.SessionOptions(); o.log_severity_level = 3\n"
              "o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL\n"
              "s = ort.InferenceSession(f + '/model.onnx', o, providers=['CPUExecutionProvider'])\n"
              "x = dict(np.load(f + '/in.npz'))\n"
              "names = [v.name for v in s.get_outputs()]\n"
              "np.savez(f + '/out.npz', **{'v%d' % i: v for i, v in enumerate(s.run(names, x)) if "
              "isinstance(v, np.ndarray) and v.dtype != object})\n"
              "open(f + '/names', 'w').write('\\n'.join(names))\n";
    if (!file || !script) throw FileError("temporary folder", "room to write", "an error");
  }
  std::vector<std::pair<std::string, Tensor>> inputs;
  for (const auto& [name, value] : feeds) inputs.emplace_back(name, value.tensor());
  write_npz((folder.path / "in.npz").string(), inputs);
  const pid_t child = fork();
  if (child == 0) {
    execlp(args.python.c_str(), args.python.c_str(), (folder.path / "run.py").c_str(), folder.path.c_str(),
           static_cast<char*>(nullptr));
    _exit(127);
  }
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0)
    throw ProviderError(
        "onnxruntime",
        "'" + args.python + "' to run it (the Python package onnxruntime; --python names an interpreter)",
        "exit status " + std::to_string(WIFEXITED(status) ? WEXITSTATUS(status) : -1));
  const auto arrays = read_npz((folder.path / "out.npz").string());
  std::map<std::string, Value> values;
  std::ifstream names(folder.path / "names");
  size_t i = 0;
  for (std::string name; std::getline(names, name); ++i)
    if (const auto it = arrays.find("v" + std::to_string(i)); it != arrays.end()) values[name] = it->second;
  return values;
}

std::map<std::string, Value> by_name(const std::vector<TracedValue>& traced) {
  std::map<std::string, Value> values;
  for (const auto& v : traced) values[v.name] = v.value;
  return values;
}

int diff(const Arguments& args) {
  const LoadedModel model = LoadedModel::from_file(args.model);
  const SessionOptions options = args.session.options();
  Feeds feeds;
  {
    Session session(model, options);
    feeds = args.feeds.make(session);
  }
  std::map<std::string, Value> reference;
  std::string stage = "decomposed";
  if (args.against == "onnxruntime") {
    reference = onnxruntime_values(args, model, feeds);
  } else if (args.against == "stage") {
    reference = by_name(trace(model, "upgraded", feeds, options));
  } else if (args.against == "provider") {
    SessionOptions plain = options;
    plain.prefer_kernel = "ref";
    reference = by_name(trace(model, stage, feeds, plain));
  }
  int compared = 0, different = 0;
  for (const auto& value : trace(model, stage, feeds, options)) {
    const auto it = reference.find(value.name);
    if (it == reference.end()) continue;
    ++compared;
    const Difference d = compare(value.value, it->second);
    if (d.within(args.tolerance)) continue;
    ++different;
    fmt::print("{} node {} value '{}': {}\n  here:  {}\n  there: {}\n",
               different == 1 ? "first difference:" : "also:", value.node, value.name,
               d.comparable
                   ? fmt::format("differs by {:.3g} of the largest value at element {}", d.relative, d.at)
                   : d.why,
               summarize(value.value), summarize(it->second));
    if (!args.all) break;
  }
  if (different == 0)
    fmt::print("{} values agree within {:g} of the largest value, against {}\n", compared, args.tolerance,
               args.against);
  return different == 0 ? kOk : kMismatch;
}

}  // namespace

void add_diff(CLI::App& app, int& exit_code) {
  auto args = std::make_shared<Arguments>();
  CLI::App* sub = app.add_subcommand(
      "diff", "Prints the first node whose value departs from another way of computing it");
  sub->add_option("model", args->model, "The .onnx file")->required();
  sub->add_option("--against", args->against,
                  "onnxruntime (the Python package), stage (the graph before any rewrite) or provider (the "
                  "plain reference kernels)")
      ->check(CLI::IsMember({"onnxruntime", "stage", "provider"}))
      ->capture_default_str();
  sub->add_option("--tolerance", args->tolerance, "Largest difference as a share of the largest value")
      ->capture_default_str();
  sub->add_flag("--all", args->all, "Prints every value that departs, not only the first");
  sub->add_option("--python", args->python, "The interpreter that has onnxruntime")->capture_default_str();
  args->feeds.add_to(*sub);
  args->session.add_to(*sub);
  sub->callback([args, &exit_code] { exit_code = diff(*args); });
}

}  // namespace sardonyx::cli
