#include <cstdio>

#include "cli.h"

int main(int argc, char** argv) {
  using namespace sardonyx;
  using namespace sardonyx::cli;
  CLI::App app{"Sardonyx: runs, checks, compares, converts and measures ONNX models."};
  app.set_version_flag("--version", version());
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 ok, 1 mismatch, 2 usage, 3 bad input.\n"
      "SARDONYX_LOG=graph:<stage>,dispatch,plan prints the graph of a stage, the kernels chosen, and the "
      "plans.");
  int exit_code = kOk;
  add_run(app, exit_code);
  add_train(app, exit_code);
  add_grad(app, exit_code);
  add_inspect(app, exit_code);
  add_check(app, exit_code);
  add_diff(app, exit_code);
  add_convert(app, exit_code);
  add_bench(app, exit_code);
  add_ops(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kOk : kUsage;
  } catch (const Error& e) {
    std::fprintf(stderr, "sardonyx: %s\n", e.what());
    return kBadInput;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "sardonyx: %s\n", e.what());
    return kBadInput;
  }
  return exit_code;
}
