#include <fmt/core.h>

#include <filesystem>
#include <fstream>

#include "cli.h"
#include "sardonyx/npy.h"
#include "sardonyx/tools.h"

namespace sardonyx::cli {

namespace fs = std::filesystem;

namespace {

struct Arguments {
  std::string model, test_data, save, output_dir, profile;
  std::vector<std::string> outputs;
  double tolerance = 1e-3;
  SessionArguments session;
  FeedArguments feeds;
};

std::string file_name(std::string name) {
  for (char& c : name)
    if (c == '/' || c == '\\' || c == ':' || static_cast<unsigned char>(c) < 32) c = '_';
  return name;
}

// The kind of value in a serialized file, from the type of the port.
std::string kind_of(const std::string& type) {
  if (type.rfind("seq(", 0) == 0) return "sequence";
  if (type.rfind("optional(", 0) == 0) return "optional";
  if (type.rfind("map(", 0) == 0) return "map";
  return "tensor";
}

// Runs every test_data_set_* of a folder; returns the number of sets that differ.
int check_test_data(Session& session, const Arguments& args) {
  std::vector<fs::path> sets;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(args.test_data, ec))
    if (entry.is_directory() && entry.path().filename().string().rfind("test_data_set_", 0) == 0)
      sets.push_back(entry.path());
  if (ec) throw FileError("folder '" + args.test_data + "'", "a readable folder", ec.message());
  if (sets.empty() && fs::exists(fs::path(args.test_data) / "input_0.pb")) sets.push_back(args.test_data);
  if (sets.empty()) throw FileError("folder '" + args.test_data + "'", "folders test_data_set_*", "none");
  std::sort(sets.begin(), sets.end());
  int failed = 0;
  for (const auto& set : sets) {
    Feeds feeds;
    for (size_t i = 0; i < session.inputs().size(); ++i) {
      const fs::path file = set / fmt::format("input_{}.pb", i);
      if (fs::exists(file))
        feeds[session.inputs()[i].name] = read_value(file.string(), kind_of(session.inputs()[i].type));
    }
    const auto results = session.run(feeds);
    bool ok = true;
    for (size_t i = 0; i < results.size(); ++i) {
      const fs::path file = set / fmt::format("output_{}.pb", i);
      if (!fs::exists(file)) continue;
      const Difference d = compare(results[i], read_value(file.string(), kind_of(session.outputs()[i].type)));
      if (d.within(args.tolerance)) continue;
      ok = false;
      fmt::print("{}: output '{}': {}\n", set.filename().string(), session.outputs()[i].name,
                 d.comparable
                     ? fmt::format("differs by {:.3g} of the largest value at element {}", d.relative, d.at)
                     : d.why);
    }
    fmt::print("{}: {}\n", set.filename().string(), ok ? "ok" : "MISMATCH");
    failed += !ok;
  }
  fmt::print("{} of {} sets agree\n", sets.size() - static_cast<size_t>(failed), sets.size());
  return failed;
}

void write_outputs(const Arguments& args, const std::vector<std::string>& names,
                   const std::vector<Value>& values) {
  if (!args.save.empty()) {
    std::vector<std::pair<std::string, Tensor>> tensors;
    for (size_t i = 0; i < values.size(); ++i) {
      if (!values[i].is_tensor())
        throw UnsupportedError("output '" + names[i] + "' in an npz file", "a tensor (use --output-dir)",
                               values[i].kind_name());
      tensors.emplace_back(names[i], values[i].tensor());
    }
    write_npz(args.save, tensors);
  }
  if (args.output_dir.empty()) return;
  fs::create_directories(args.output_dir);
  for (size_t i = 0; i < values.size(); ++i) {
    const fs::path base = fs::path(args.output_dir) / file_name(names[i]);
    if (values[i].is_tensor()) {
      write_npy(base.string() + ".npy", values[i].tensor());
    } else {
      std::ofstream file(base.string() + ".pb", std::ios::binary);
      file << value_to_proto(values[i], names[i]);
      if (!file) throw FileError("file '" + base.string() + ".pb'", "to be written", "an error");
    }
  }
}

int run(const Arguments& args) {
  SessionOptions options = args.session.options();
  options.profile = !args.profile.empty();
  Session session(args.model, options);
  if (!args.test_data.empty()) return check_test_data(session, args) == 0 ? kOk : kMismatch;
  const auto results = session.run(args.feeds.make(session), args.outputs);
  std::vector<std::string> names = args.outputs;
  if (names.empty())
    for (const auto& output : session.outputs()) names.push_back(output.name);
  for (size_t i = 0; i < results.size(); ++i) fmt::print("{}: {}\n", names[i], summarize(results[i]));
  write_outputs(args, names, results);
  if (!args.profile.empty()) {
    std::ofstream file(args.profile);
    file << session.profile();
    if (!file) throw FileError("file '" + args.profile + "'", "to be written", "an error");
  }
  return kOk;
}

}  // namespace

void add_run(CLI::App& app, int& exit_code) {
  auto args = std::make_shared<Arguments>();
  CLI::App* sub = app.add_subcommand(
      "run", "Runs a model on files or random numbers, or checks it against recorded test data");
  sub->add_option("model", args->model, "The .onnx file")->required();
  args->feeds.add_to(*sub);
  sub->add_option("-o,--output", args->outputs, "Outputs to compute; all by default");
  sub->add_option("--save", args->save, "Writes the outputs into one .npz file");
  sub->add_option("--output-dir", args->output_dir,
                  "Writes each output into a .npy file (.pb for sequences and maps)");
  sub->add_option("--test-data", args->test_data,
                  "Runs the folders test_data_set_* in here and compares; exit code 1 on a mismatch");
  sub->add_option("--tolerance", args->tolerance,
                  "For --test-data: largest difference as a share of the largest value")
      ->capture_default_str();
  sub->add_option("--profile", args->profile, "Writes a Chrome trace of the run");
  args->session.add_to(*sub);
  sub->callback([args, &exit_code] { exit_code = run(*args); });
}

}  // namespace sardonyx::cli
