// What the example programs have in common: their options, where models lie, errors and exit codes.
#pragma once

#include <functional>
#include <string>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "sardonyx/session.h"

namespace examples {

enum ExitCode { kOk = 0, kUsage = 2, kBadInput = 3 };

struct CommonOptions {
  std::string models;
  int threads = 0;
  bool json = false;
};

// Adds --models, --threads and --json.
void add_common_options(CLI::App& app, CommonOptions& options);

// The path of one file of a model: folder and name below options.models. std::runtime_error says how to
// get it when it is not there.
std::string model_file(const CommonOptions& options, const std::string& folder, const std::string& name);
sardonyx::Session open_session(const CommonOptions& options, const std::string& folder,
                               const std::string& name);

// A whole file. std::runtime_error when it cannot be read.
std::string read_file(const std::string& path);

void print_json(const nlohmann::json& value);

// Parses the command line and calls body(); turns errors into a message and an exit code.
int run(CLI::App& app, int argc, char** argv, const std::function<int()>& body);

}  // namespace examples
