// Loading a model and running it.
//
//   sardonyx::Session session("model.onnx");
//   auto outputs = session.run({{"x", sardonyx::Tensor::of<float>({1, 2, 3})}});
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sardonyx/error.h"
#include "sardonyx/tensor.h"

namespace sardonyx {

struct Model;

// A loaded model: the graph and its weights, held once and shared by every session made from it.
class SARDONYX_API LoadedModel {
 public:
  // FileError, ModelError or UnsupportedError (every unknown operator listed at once).
  static LoadedModel from_file(const std::string& path);
  // External data is refused for a model in memory unless `folder` says where it lies.
  static LoadedModel from_bytes(const void* data, size_t bytes, const std::string& folder = "");
  const std::shared_ptr<const Model>& get() const { return model_; }
  explicit LoadedModel(std::shared_ptr<const Model> model) : model_(std::move(model)) {}

 private:
  std::shared_ptr<const Model> model_;
};

// Bounds that an untrusted model cannot exceed.
struct Limits {
  int64_t max_nodes = 2'000'000;                // after function expansion
  int64_t max_nesting = 64;                     // bodies and functions within each other
  int64_t max_loop_iterations = 1'000'000'000;  // of all loops of one run
  int64_t max_bytes = 0;  // of one run; 0: what the machine and its cgroup have available
};

struct SessionOptions {
  std::vector<std::string> providers = {"cpu"};  // in order of preference
  int threads = 0;                               // 0: the CPUs this process may use
  // How f32 is computed: "highest" as f32; "high" on the CPU the same; "medium" with bf16 tensors and
  // products and f32 sums, where the CPU has instructions for it, else as "highest". Inputs and outputs stay
  // f32.
  std::string precision = "highest";
  std::string optimize = "all";                    // "none": as imported and upgraded; "all": rewritten
  std::vector<std::string> disabled_passes;        // names that pass_names() of tools.h gives
  std::map<std::string, int64_t> free_dimensions;  // symbolic dimensions fixed by name
  // Kernels of this name ("ref", "simd", "onednn") are asked first; for comparing implementations.
  std::string prefer_kernel;
  uint64_t seed = 0;  // of random operators without a seed of their own
  bool profile = false;
  Limits limits;
};

// A way to stop a run from another thread.
class CancelToken {
 public:
  CancelToken() : flag_(std::make_shared<std::atomic<bool>>(false)) {}
  void cancel() { flag_->store(true); }
  const std::shared_ptr<std::atomic<bool>>& flag() const { return flag_; }

 private:
  std::shared_ptr<std::atomic<bool>> flag_;
};

struct RunOptions {
  std::optional<CancelToken> cancel;
  // Which numbers random operators draw: a run with the same step and seed draws the same. Empty: those of
  // the session's runs so far.
  std::optional<uint64_t> random_step;
  // Outputs written into memory of the caller: the tensor's dtype and dims must be those of the output
  // (InputError otherwise).
  std::map<std::string, Tensor> output_buffers;
};

// A dimension of an input or output: a number, or a name (possibly empty) with value -1.
struct DimInfo {
  int64_t value = -1;
  std::string name;
};

struct ValueDescription {
  std::string name;
  std::string type;  // ONNX's spelling: "tensor(float)", "seq(tensor(int64))"
  DType dtype = DType::Undefined;
  bool has_shape = false;
  std::vector<DimInfo> shape;
  bool has_default = false;  // may be left out of the feeds
};

using NamedValues = std::vector<std::pair<std::string, Value>>;
using Feeds = std::map<std::string, Value>;

// Runs a model. Safe to use from several threads at once: each run has its own memory.
class SARDONYX_API Session {
 public:
  explicit Session(const std::string& path, SessionOptions options = {});
  explicit Session(const LoadedModel& model, SessionOptions options = {});
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  const std::vector<ValueDescription>& inputs() const;
  const std::vector<ValueDescription>& outputs() const;
  const std::map<std::string, std::string>& metadata() const;

  // Values of the wanted outputs (empty: all), in that order. InputError for feeds that are missing,
  // unknown (the nearest name is suggested), or of another dtype, rank or fixed dimension. A failed run
  // leaves the session usable.
  std::vector<Value> run(const Feeds& feeds, const std::vector<std::string>& outputs = {},
                         const RunOptions& options = {});
  // Prepares kernels for shapes that will come: one map from input name to dims for each set. Inputs are
  // zeros; a model whose shapes depend on values may prepare less than a real run would.
  void warm_up(const std::vector<std::map<std::string, Dims>>& shapes);
  // Runs once, and returns the plan of that run as text: kernels, nodes computed together, shapes, layouts,
  // reorders, places in memory and their sum. Empty where a provider runs node by node.
  std::string plan(const Feeds& feeds);
  // Gives cached memory back to the system.
  void trim();
  // The runs since the session began or profile() was last called, as Chrome-trace JSON. Needs
  // SessionOptions::profile.
  std::string profile();

  class Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// "0.1.0"
SARDONYX_API const char* version();

}  // namespace sardonyx
