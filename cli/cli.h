// What the subcommands share.
#pragma once

#include <CLI/CLI.hpp>

#include <map>
#include <string>
#include <vector>

#include "sardonyx/trainer.h"

namespace sardonyx::cli {

// Exit codes.
inline constexpr int kOk = 0, kMismatch = 1, kUsage = 2, kBadInput = 3;

// Options that every command with a session takes.
struct SessionArguments {
  std::vector<std::string> providers = {"cpu"};
  int threads = 0;
  std::string precision = "highest", optimize = "all";
  std::vector<std::string> disabled_passes, free_dimensions;
  std::string prefer_kernel;
  void add_to(CLI::App& app);
  SessionOptions options() const;
};

// Options that say what to feed.
struct FeedArguments {
  std::vector<std::string> inputs;  // name=file.npy|file.npz[:entry]|file.pb|file.raw|random|zeros
  std::vector<std::string> shapes;  // name=1,3,224,224
  uint64_t seed = 0;
  void add_to(CLI::App& app);
  // A feed for every input without a default: what was given, and random numbers for the rest. InputError
  // for a dynamic dimension without a shape.
  Feeds make(const Session& session) const;
};

Dims parse_dims(const std::string& text);
// "name=rest" -> {name, rest}; InputError without '='.
std::pair<std::string, std::string> split_assignment(const std::string& text, const std::string& option);

// Of "name=value": a flag, a number, a word, or the model of a path that ends in .onnx.
Arguments named_arguments(const std::vector<std::string>& texts, const std::string& option);
// A loss by its name, or as a model.
LossOptions loss_option(const std::string& loss, const std::vector<std::string>& arguments,
                        const std::vector<std::string>& predictions = {});

// A tensor file by its ending: .npy, .npz (one entry, or "file.npz:entry"), .pb.
Value read_value(const std::string& path, const std::string& kind = "tensor");
// "float[2, 3] min -1 max 2 mean 0.5"
std::string summarize(const Value& value);

struct Difference {
  bool comparable = true;
  std::string why;      // when not comparable: dtype, dims, kind
  double largest = 0;   // largest |a - b|
  double relative = 0;  // largest |a - b| / max(|b|max, 1e-3)
  int64_t at = -1;      // element of the largest difference
  bool within(double tolerance) const { return comparable && relative <= tolerance; }
};
// NaN equals NaN and an infinity itself; strings, integers and bools must be equal.
Difference compare(const Value& got, const Value& expected);

void add_run(CLI::App& app, int& exit_code);
void add_inspect(CLI::App& app, int& exit_code);
void add_check(CLI::App& app, int& exit_code);
void add_diff(CLI::App& app, int& exit_code);
void add_convert(CLI::App& app, int& exit_code);
void add_bench(CLI::App& app, int& exit_code);
void add_ops(CLI::App& app, int& exit_code);
void add_train(CLI::App& app, int& exit_code);
void add_grad(CLI::App& app, int& exit_code);

}  // namespace sardonyx::cli
