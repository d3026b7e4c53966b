#include <fmt/core.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>

#include "cli.h"
#include "sardonyx/tools.h"

namespace sardonyx::cli {

namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

struct Arguments {
  std::string model;
  int iterations = 0, warmup = 3;
  double seconds = 3, tolerance = 1e-3;
  bool per_op = false, check = false, as_json = false;
  SessionArguments session;
  FeedArguments feeds;
};

double milliseconds(Clock::time_point from) {
  return std::chrono::duration<double, std::milli>(Clock::now() - from).count();
}

double percentile(const std::vector<double>& sorted, double p) {
  return sorted[std::min(sorted.size() - 1,
                         static_cast<size_t>(p / 100 * static_cast<double>(sorted.size())))];
}

int64_t peak_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{1024} * usage.ru_maxrss;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// What the profiles of single runs say of each (operator, kernel): its time in the median run, without that
// of the bodies it ran, operations where they are defined, bytes.
json per_operator(const std::vector<std::string>& profiles) {
  struct Sum {
    double bytes = 0, calls = 0, flops = 0;
    std::vector<double> us;  // by run
  };
  struct Done {
    double begin, us;
  };
  std::map<std::pair<std::string, std::string>, Sum> sums;
  for (size_t run = 0; run < profiles.size(); ++run) {
    std::map<int, std::vector<Done>> done;  // of each thread: not within another event so far
    const json trace = json::parse(profiles[run]);
    for (const auto& event : trace["traceEvents"]) {  // in the order in which they ended
      const json& args = event["args"];
      const double begin = event["ts"], whole = event["dur"];
      double us = whole;
      std::vector<Done>& before = done[event["tid"]];
      for (; !before.empty() && before.back().begin >= begin; before.pop_back()) us -= before.back().us;
      before.push_back({begin, whole});
      Sum& sum = sums[{event["name"], args["kernel"]}];
      sum.us.resize(profiles.size());
      sum.us[run] += us;
      sum.bytes += args["bytes"].get<double>();
      sum.flops += args.value("flops", 0.0);
      sum.calls += 1;
    }
  }
  const double runs = static_cast<double>(profiles.size());
  std::vector<std::pair<double, json>> rows;
  double total = 0;
  for (const auto& [key, sum] : sums) {
    const double us = std::max(median(sum.us), 1e-3);  // the clock's own resolution
    json row = {{"operator", key.first},
                {"kernel", key.second},
                {"calls", sum.calls / runs},
                {"ms", us / 1e3},
                {"gb_per_s", sum.bytes / runs / us / 1e3}};
    if (sum.flops > 0) row["gflop_per_s"] = sum.flops / runs / us / 1e3;
    rows.emplace_back(-us, std::move(row));
    total += us;
  }
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  json list = json::array();
  for (auto& [us, row] : rows) {
    row["share"] = -us / total;
    list.push_back(std::move(row));
  }
  return list;
}

void print_operators(const json& rows, double run_ms) {
  size_t width = 10;
  for (const auto& row : rows) width = std::max(width, row["kernel"].get<std::string>().size());
  double kernels = 0;
  fmt::print("{:<24} {:<{}} {:>7} {:>10} {:>7} {:>8} {:>7}\n", "operator", "kernel", width, "calls", "ms",
             "share", "GFLOP/s", "GB/s");
  for (const auto& row : rows) {
    const double ms = row["ms"];
    kernels += ms;
    const bool counted = row.contains("gflop_per_s");
    fmt::print("{:<24} {:<{}} {:>7.0f} {:>10.4f} {:>6.1f}% {:>8} {:>7.1f}\n",
               row["operator"].get<std::string>(), row["kernel"].get<std::string>(), width,
               row["calls"].get<double>(), ms, 100 * row["share"].get<double>(),
               counted ? fmt::format("{:.1f}", row["gflop_per_s"].get<double>()) : "",
               row["gb_per_s"].get<double>());
  }
  fmt::print("{:.4f} ms in kernels; a run without the profile takes {:.4f} ms\n", kernels, run_ms);
}

int bench(const Arguments& args) {
  const auto load_begin = Clock::now();
  const LoadedModel model = LoadedModel::from_file(args.model);
  Session session(model, args.session.options());
  const double load_ms = milliseconds(load_begin);
  const Feeds feeds = args.feeds.make(session);
  const auto first_begin = Clock::now();
  const std::vector<Value> first = session.run(feeds);
  const double first_ms = milliseconds(first_begin);

  json result = {{"model", args.model}, {"load_ms", load_ms}, {"first_run_ms", first_ms}};
  int exit_code = kOk;
  if (args.check) {
    SessionOptions plain = args.session.options();
    plain.prefer_kernel = "ref";
    plain.optimize = "none";
    const std::vector<Value> expected = Session(model, plain).run(feeds);
    double worst = 0;
    for (size_t i = 0; i < first.size(); ++i) {
      const Difference d = compare(first[i], expected[i]);
      worst = std::max(worst, d.comparable ? d.relative : 1e30);
    }
    result["largest_difference"] = worst;
    if (worst > args.tolerance) exit_code = kMismatch;
  }
  for (int i = 0; i < args.warmup; ++i) session.run(feeds);
  std::vector<double> times;
  const auto begin = Clock::now();
  while (args.iterations > 0 ? times.size() < static_cast<size_t>(args.iterations)
                             : milliseconds(begin) < 1e3 * args.seconds || times.size() < 5) {
    const auto start = Clock::now();
    session.run(feeds);
    times.push_back(milliseconds(start));
  }
  const double total = milliseconds(begin);
  std::sort(times.begin(), times.end());
  result["runs"] = times.size();
  result["latency_ms"] = {{"min", times.front()},
                          {"p50", percentile(times, 50)},
                          {"p90", percentile(times, 90)},
                          {"p99", percentile(times, 99)},
                          {"max", times.back()}};
  result["runs_per_second"] = 1e3 * static_cast<double>(times.size()) / total;
  result["peak_bytes"] = peak_bytes();
  if (args.per_op) {
    SessionOptions profiled = args.session.options();
    profiled.profile = true;
    Session watched(model, profiled);
    for (int i = 0; i < args.warmup + 1; ++i) watched.run(feeds);
    watched.profile();
    std::vector<std::string> profiles(
        static_cast<size_t>(std::clamp(static_cast<int>(1000 / std::max(times.front(), 0.01)), 3, 1000)));
    for (std::string& profile : profiles) {
      watched.run(feeds);
      profile = watched.profile();
    }
    result["operators"] = per_operator(profiles);
  }
  if (args.as_json) {
    fmt::print("{}\n", result.dump());
    return exit_code;
  }
  fmt::print("load {:.1f} ms, first run {:.2f} ms\n", load_ms, first_ms);
  fmt::print("latency over {} runs: min {:.3f}  p50 {:.3f}  p90 {:.3f}  p99 {:.3f}  max {:.3f} ms\n",
             times.size(), times.front(), percentile(times, 50), percentile(times, 90), percentile(times, 99),
             times.back());
  fmt::print("throughput {:.1f} runs/s, peak memory {:.1f} MB\n", result["runs_per_second"].get<double>(),
             static_cast<double>(result["peak_bytes"].get<int64_t>()) / 1e6);
  if (args.check)
    fmt::print("largest difference from the reference kernels: {:.3g} of the largest value{}\n",
               result["largest_difference"].get<double>(), exit_code == kOk ? "" : " MISMATCH");
  if (args.per_op) print_operators(result["operators"], percentile(times, 50));
  return exit_code;
}

}  // namespace

void add_bench(CLI::App& app, int& exit_code) {
  auto args = std::make_shared<Arguments>();
  CLI::App* sub =
      app.add_subcommand("bench", "Measures latency, throughput, memory, load and first-run time of a model");
  sub->add_option("model", args->model, "The .onnx file")->required();
  sub->add_option("-n,--iterations", args->iterations, "Runs to measure; 0 measures for --seconds")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  sub->add_option("--seconds", args->seconds, "How long to measure")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  sub->add_option("--warmup", args->warmup, "Runs before measuring")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  sub->add_flag("--per-op", args->per_op,
                "Adds a table of time by operator and kernel: calls, share, GFLOP/s of products, GB/s");
  sub->add_flag("--check", args->check,
                "Compares the outputs with the reference kernels; exit code 1 on a mismatch");
  sub->add_option("--tolerance", args->tolerance,
                  "For --check: largest difference as a share of the largest value")
      ->capture_default_str();
  sub->add_flag("--json", args->as_json, "Prints JSON");
  args->feeds.add_to(*sub);
  args->session.add_to(*sub);
  sub->callback([args, &exit_code] { exit_code = bench(*args); });
}

}  // namespace sardonyx::cli
