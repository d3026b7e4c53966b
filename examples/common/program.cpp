#include "program.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>

namespace examples {

namespace {

std::string default_models() {
  const char* chosen = std::getenv("SARDONYX_MODELS");
  return chosen && *chosen ? chosen : EXAMPLES_MODELS;
}

}  // namespace

void add_common_options(CLI::App& app, CommonOptions& options) {
  options.models = default_models();
  app.add_option("--models", options.models, "folder that tools/fetch_models filled (or $SARDONYX_MODELS)")
      ->type_name("DIR")
      ->capture_default_str();
  app.add_option("--threads", options.threads, "threads to compute with; 0: all CPUs this process may use")
      ->type_name("N")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  app.add_flag("--json", options.json, "print the results as JSON");
}

std::string model_file(const CommonOptions& options, const std::string& folder, const std::string& name) {
  const std::filesystem::path path = std::filesystem::path(options.models) / folder / name;
  if (!std::filesystem::is_regular_file(path))
    throw std::runtime_error(path.string() + ": no such file (tools/fetch_models downloads the models)");
  return path.string();
}

sardonyx::Session open_session(const CommonOptions& options, const std::string& folder,
                               const std::string& name) {
  sardonyx::SessionOptions session;
  session.providers = {"cpu"};
  session.threads = options.threads;
  return sardonyx::Session(model_file(options, folder, name), session);
}

std::string read_file(const std::string& path) {
  if (std::filesystem::is_directory(path)) throw std::runtime_error(path + ": is a directory");
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  if (file && file.peek() != std::ifstream::traits_type::eof()) bytes << file.rdbuf();
  if (!file.is_open() || file.bad()) throw std::runtime_error(path + ": " + std::strerror(errno));
  return bytes.str();
}

void print_json(const nlohmann::json& value) {
  // Paths may hold any bytes; JSON holds UTF-8.
  std::cout << value.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
}

int run(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
  const std::string program = std::filesystem::path(argv[0]).filename().string();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  try {
    return body();
  } catch (const std::exception& error) {
    std::cerr << program << ": " << error.what() << '\n';
    return kBadInput;
  }
}

}  // namespace examples
