#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "cli.h"
#include "sardonyx/gradient.h"
#include "sardonyx/npy.h"
#include "sardonyx/tools.h"
#include "sardonyx/trainer.h"

namespace sardonyx::cli {

namespace {

struct Arguments {
  std::string model, data, validation, output, checkpoint, loss = "CrossEntropyLoss", optimizer = "AdamW";
  std::vector<std::string> loss_arguments, optimizer_arguments, trainable, no_decay, recompute,
      providers = {"cpu"};
  std::string precision = "highest", batch_norm = "train";
  double rate = 1e-3, hold_out = 0, clip_norm = 0, clip_value = 0;
  int epochs = 10, batch = 32, threads = 0, accumulate = 1;
  int64_t classes = 0, memory = 0;
  int pieces = 0;
  uint64_t seed = 0;
  bool constant_rate = false, json = false, list = false, resume = false;
};

// Arrays whose first dimension counts the examples.
struct Data {
  std::vector<std::pair<std::string, Tensor>> inputs;
  std::vector<Tensor> targets;
  int64_t count = 0;
};

// Targets are `y`, `y_1`, ...; inputs are under their names, the only one also under `x`.
Data read_data(const std::string& path, const Trainer& trainer, size_t targets) {
  const auto arrays = read_npz(path);
  Data data;
  const auto find = [&](const std::string& name, const std::string& other) {
    auto it = arrays.find(name);
    if (it == arrays.end() && !other.empty()) it = arrays.find(other);
    if (it == arrays.end()) {
      std::string list;
      for (const auto& [known, tensor] : arrays) list += (list.empty() ? "'" : ", '") + known + "'";
      throw InputError(path, "an array '" + name + "'" + (other.empty() ? "" : " or '" + other + "'"), list);
    }
    const Tensor& tensor = it->second;
    if (tensor.rank() == 0)
      throw InputError(path + ": '" + it->first + "'", "examples along axis 0", "a scalar");
    if (data.inputs.empty() && data.targets.empty()) data.count = tensor.dim(0);
    if (tensor.dim(0) != data.count)
      throw InputError(path + ": '" + it->first + "'", std::to_string(data.count) + " examples",
                       std::to_string(tensor.dim(0)));
    return tensor;
  };
  for (const auto& input : trainer.inputs())
    data.inputs.emplace_back(input.name, find(input.name, trainer.inputs().size() == 1 ? "x" : ""));
  for (size_t i = 0; i < targets; ++i)
    data.targets.push_back(find(i == 0 ? "y" : "y_" + std::to_string(i), i == 0 ? "target" : ""));
  if (data.count == 0) throw InputError(path, "at least one example", "none");
  return data;
}

Tensor rows(const Tensor& from, const std::vector<int64_t>& order, int64_t begin, int64_t end) {
  Dims dims = from.dims();
  dims[0] = end - begin;
  Tensor to(from.dtype(), dims);
  const size_t bytes = from.dims()[0] == 0 ? 0 : from.bytes() / static_cast<size_t>(from.dims()[0]);
  for (int64_t i = begin; i < end; ++i)
    std::memcpy(
        static_cast<char*>(to.mutable_data()) + static_cast<size_t>(i - begin) * bytes,
        static_cast<const char*>(from.data()) + static_cast<size_t>(order[static_cast<size_t>(i)]) * bytes,
        bytes);
  return to;
}

struct Batch {
  Feeds inputs;
  std::vector<Value> targets;
};
Batch batch_of(const Data& data, const std::vector<int64_t>& order, int64_t begin, int64_t end) {
  Batch batch;
  for (const auto& [name, tensor] : data.inputs) batch.inputs[name] = rows(tensor, order, begin, end);
  for (const Tensor& tensor : data.targets) batch.targets.push_back(rows(tensor, order, begin, end));
  return batch;
}

// Mean loss over the data, and the share of examples whose largest output is the target where targets are
// classes; -1 elsewhere.
std::pair<double, double> evaluate(Trainer& trainer, const Data& data, const std::vector<int64_t>& order,
                                   int64_t size) {
  const auto count = static_cast<int64_t>(order.size());
  double loss = 0;
  int64_t hits = 0;
  bool classes =
      data.targets.size() == 1 && data.targets[0].rank() == 1 && is_integer(data.targets[0].dtype());
  for (int64_t begin = 0; begin < count; begin += size) {
    const int64_t end = std::min(begin + size, count);
    const Batch batch = batch_of(data, order, begin, end);
    loss += trainer.evaluate(batch.inputs, batch.targets) * static_cast<double>(end - begin);
    if (!classes) continue;
    const std::vector<Value> outputs = trainer.predict(batch.inputs);
    classes = !outputs.empty() && outputs[0].is_tensor() && outputs[0].tensor().rank() == 2 &&
              outputs[0].tensor().dim(0) == end - begin && outputs[0].tensor().dim(1) > 0;
    if (!classes) continue;
    const std::vector<double> scores = outputs[0].tensor().to_doubles();
    const std::vector<int64_t> targets = batch.targets[0].tensor().to_int64s();
    const int64_t width = outputs[0].tensor().dim(1);
    for (int64_t i = 0; i < end - begin; ++i) {
      const auto row = scores.begin() + i * width;
      hits += std::max_element(row, row + width) - row == targets[static_cast<size_t>(i)];
    }
  }
  return {loss / static_cast<double>(count),
          classes ? static_cast<double>(hits) / static_cast<double>(count) : -1};
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void show_progress(int epoch, const Arguments& args, int64_t done, int64_t all, double loss) {
  constexpr int64_t kWidth = 30;
  const auto filled = static_cast<size_t>(all == 0 ? 0 : kWidth * done / all);
  fmt::print(stderr, "\repoch {}/{} [{}{}] {}/{} loss {:.4f}", epoch + 1, args.epochs,
             std::string(filled, '#'), std::string(static_cast<size_t>(kWidth) - filled, '.'), done, all,
             loss);
  std::fflush(stderr);
}

TrainerOptions trainer_options(const Arguments& args) {
  TrainerOptions options;
  options.providers = args.providers;
  options.threads = args.threads;
  options.precision = args.precision;
  options.losses = {loss_option(args.loss, args.loss_arguments)};
  options.optimizer = {args.optimizer, named_arguments(args.optimizer_arguments, "--optimizer-argument")};
  options.optimizer.arguments["lr"] = args.rate;
  if (!args.trainable.empty()) options.trainable = args.trainable;
  if (!args.no_decay.empty()) options.groups.push_back({args.no_decay, {{"weight_decay", 0.0}}});
  options.batch_norm = args.batch_norm;
  options.clip_norm = args.clip_norm;
  options.clip_value = args.clip_value;
  options.accumulate = args.accumulate;
  options.recompute = args.recompute;
  options.recompute_pieces = args.pieces;
  options.recompute_bytes = args.memory;
  options.keep_gradients = false;
  options.seed = args.seed;
  return options;
}

void set_rate(Trainer& trainer, double rate) {
  for (size_t g = 0; g < trainer.group_count(); ++g) trainer.set_hyper("lr", rate, static_cast<int>(g));
}

// What is trained, by name where asked; of how many numbers.
void show_parameters(const Trainer& trainer, bool by_name) {
  int64_t total = 0;
  for (const ParameterInfo& p : trainer.parameter_info()) {
    const int64_t count = element_count(p.dims);
    total += count;
    if (by_name) fmt::print("{} {}{} {}\n", p.name, dtype_name(p.dtype), to_string(p.dims), count);
  }
  fmt::print("{} weights in {} tensors\n", total, trainer.parameter_info().size());
}

// Before hours of training, not after them.
void check_output(const std::string& option, const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (!folder.empty() && !std::filesystem::is_directory(folder))
    throw FileError(option + " '" + path + "'", "a file in an existing folder", "none at " + folder.string());
  if (std::filesystem::is_directory(path))
    throw FileError(option + " '" + path + "'", "the name of a file", "a folder");
}

// A checkpoint is written after each epoch.
int epochs_done(const Trainer& trainer, int64_t batches, const Arguments& args) {
  const int64_t steps = trainer.step_count();
  if (batches == 0 || steps % batches != 0 || steps / batches > args.epochs)
    throw InputError("--resume '" + args.checkpoint + "'",
                     "whole epochs of " + std::to_string(batches) + " batches, " +
                         std::to_string(args.epochs) + " at most",
                     std::to_string(steps) + " batches");
  return static_cast<int>(steps / batches);
}

int train(const Arguments& args) {
  if (args.batch < 1) throw InputError("--batch-size", "at least 1", std::to_string(args.batch));
  if (args.epochs < 1) throw InputError("--epochs", "at least 1", std::to_string(args.epochs));
  if (!(args.hold_out >= 0 && args.hold_out < 1))
    throw InputError("--hold-out", "a share from 0 to below 1", fmt::format("{}", args.hold_out));
  check_output("--output", args.output);
  check_output("--checkpoint", args.checkpoint);
  LoadedModel model = LoadedModel::from_file(args.model);
  if (args.classes > 0) model = replace_head(model, args.classes, args.seed);
  Trainer trainer(model, trainer_options(args));
  if (args.list || !args.json) show_parameters(trainer, args.list);
  if (args.list) return kOk;
  const size_t targets = trainer.target_count();
  const Data data = read_data(args.data, trainer, targets);
  std::mt19937_64 random(args.seed);
  std::vector<int64_t> order(static_cast<size_t>(data.count));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::shuffle(order.begin(), order.end(), random);
  Data separate;
  std::vector<int64_t> held;
  if (!args.validation.empty()) {
    separate = read_data(args.validation, trainer, targets);
    held.resize(static_cast<size_t>(separate.count));
    std::iota(held.begin(), held.end(), int64_t{0});
  } else {
    const auto count = static_cast<ptrdiff_t>(args.hold_out * static_cast<double>(data.count));
    held.assign(order.begin(), order.begin() + count);
    order.erase(order.begin(), order.begin() + count);
  }
  const Data& validation = args.validation.empty() ? data : separate;
  nlohmann::json report = {{"epochs", nlohmann::json::array()}};
  const auto score = [&](const char* when) {
    if (held.empty()) return;
    const auto [loss, hits] = evaluate(trainer, validation, held, args.batch);
    report[when] = {{"loss", loss}};
    if (hits >= 0) report[when]["accuracy"] = hits;
    if (!args.json)
      fmt::print("{} training: held-out loss {:.4f}{}\n", when, loss,
                 hits >= 0 ? fmt::format(", accuracy {:.1f} %", 100 * hits) : "");
  };
  int first = 0;
  const auto size = static_cast<int64_t>(order.size());
  const int64_t batches = (size + args.batch - 1) / args.batch;
  if (args.resume) {
    trainer.load(args.checkpoint);
    first = epochs_done(trainer, batches, args);
    for (int epoch = 0; epoch < first; ++epoch) std::shuffle(order.begin(), order.end(), random);
  }
  score("before");
  const bool live = !args.json && isatty(STDERR_FILENO) != 0;
  for (int epoch = first; epoch < args.epochs; ++epoch) {
    const auto start = std::chrono::steady_clock::now();
    if (!args.constant_rate)
      set_rate(trainer, args.rate * 0.5 * (1 + std::cos(std::acos(-1.0) * epoch / args.epochs)));
    std::shuffle(order.begin(), order.end(), random);
    double total = 0;
    for (int64_t b = 0; b < batches; ++b) {
      const int64_t end = std::min<int64_t>((b + 1) * args.batch, size);
      const Batch batch = batch_of(data, order, b * args.batch, end);
      total += trainer.step(batch.inputs, batch.targets);
      if (live) show_progress(epoch, args, b + 1, batches, total / static_cast<double>(b + 1));
    }
    const double mean = total / static_cast<double>(std::max<int64_t>(batches, 1)),
                 seconds = seconds_since(start);
    report["epochs"].push_back({{"loss", mean}, {"seconds", seconds}});
    if (!args.checkpoint.empty()) trainer.save(args.checkpoint);
    if (live) fmt::print(stderr, "\r\x1b[K");
    if (!args.json) {
      fmt::print("epoch {}/{}: loss {:.4f}, {:.1f} s\n", epoch + 1, args.epochs, mean, seconds);
      std::fflush(stdout);
    }
  }
  score("after");
  if (!args.output.empty()) {
    convert_to_file(trainer.model(), args.output);
    if (!args.json) fmt::print("written: {}\n", args.output);
  }
  if (args.json) fmt::print("{}\n", report.dump(2));
  return kOk;
}

}  // namespace

void add_train(CLI::App& app, int& exit_code) {
  auto args = std::make_shared<Arguments>();
  CLI::App* train_app = app.add_subcommand("train", "Train the weights of a model on arrays of an .npz file");
  train_app->add_option("model", args->model, "ONNX file")->required();
  train_app->add_option("--data", args->data,
                        ".npz with an array for each input (or 'x' for the only one) and the target 'y'; "
                        "examples along axis 0");
  train_app->add_flag("--list", args->list, "Say which weights would be trained, and stop");
  train_app->add_option("--validation", args->validation,
                        ".npz of the same kind, to be scored before and after");
  train_app->add_option("--hold-out", args->hold_out, "Share of the data to be scored and not learnt from");
  train_app->add_option("-o,--output", args->output, "Where the trained model goes");
  CLI::Option* checkpoint =
      train_app->add_option("--checkpoint", args->checkpoint,
                            "Written after each epoch: all that is needed to go on (safetensors)");
  train_app->add_flag("--resume", args->resume, "Go on from --checkpoint")->needs(checkpoint);
  train_app
      ->add_option("--loss", args->loss, "torch's name of a loss, or an .onnx file whose first output it is")
      ->capture_default_str();
  train_app->add_option("--loss-argument", args->loss_arguments,
                        "name=value, as label_smoothing=0.1; a function is an .onnx file");
  train_app->add_option("--optimizer", args->optimizer, "torch's name of an optimizer")
      ->capture_default_str();
  train_app->add_option("--optimizer-argument", args->optimizer_arguments,
                        "name=value, as weight_decay=0.05");
  train_app->add_option("--lr", args->rate, "Learning rate")->capture_default_str();
  train_app->add_flag("--constant-lr", args->constant_rate,
                      "Keep it; by default it falls to 0 along a cosine");
  train_app->add_option("--epochs", args->epochs)->capture_default_str();
  train_app->add_option("--batch-size", args->batch)->capture_default_str();
  train_app->add_option("--accumulate", args->accumulate, "Batches to an update")->capture_default_str();
  train_app->add_option("--trainable", args->trainable,
                        "Globs of weights; '!glob' takes some out (default: all)");
  train_app->add_option("--no-decay", args->no_decay, "Globs of weights without weight decay");
  train_app->add_option("--replace-head", args->classes, "Give the last layer this many classes, drawn anew");
  train_app->add_option("--batch-norm", args->batch_norm, "train or frozen")->capture_default_str();
  train_app->add_option("--clip-norm", args->clip_norm, "Largest norm of all gradients together");
  train_app->add_option("--clip-value", args->clip_value, "Largest magnitude of each gradient");
  train_app->add_option("--recompute", args->recompute,
                        "Values of the model between which activations are computed again, not kept");
  train_app->add_option("--recompute-pieces", args->pieces,
                        "The same in so many pieces of about equal memory");
  train_app
      ->add_option("--recompute-memory", args->memory,
                   "The same in as few pieces as keep activations and gradients within that: 300MB, 2GiB")
      ->transform(CLI::AsSizeValue(true));
  train_app->add_option("--precision", args->precision, "highest, high or medium")->capture_default_str();
  train_app->add_option("--provider", args->providers, "Execution providers")->capture_default_str();
  train_app->add_option("--threads", args->threads, "0: all CPUs")->capture_default_str();
  train_app->add_option("--seed", args->seed, "Of the order, the new head and dropout")
      ->capture_default_str();
  train_app->add_flag("--json", args->json, "Print one JSON object");
  train_app->callback([args, &exit_code] {
    if (args->data.empty() && !args->list) throw CLI::RequiredError("--data");
    exit_code = train(*args);
  });
}

}  // namespace sardonyx::cli
