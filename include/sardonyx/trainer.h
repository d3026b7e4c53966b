// Training imported models.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sardonyx/arguments.h"
#include "sardonyx/session.h"

namespace sardonyx {

// A loss or an optimizer by torch's name ("CrossEntropyLoss", also "cross_entropy_loss") and arguments. Betas
// are "beta1" and "beta2".
struct Named {
  std::string name;
  Arguments arguments;
};

// Parameters with arguments of their own; the first group that has a parameter counts.
struct ParameterGroup {
  std::vector<std::string> parameters;  // globs
  Arguments arguments;                  // over those of the optimizer
};

// A term of the loss: `loss`, or a model whose first output is the loss. Of such a model the inputs that have
// names of the trained model's outputs are read from those (where there is none, the first one is the first
// output), the others are targets.
struct LossOptions {
  Named loss;
  double weight = 1;
  std::vector<std::string> predictions;  // outputs that it reads; empty: the first ones
  std::optional<LoadedModel> graph;
};

struct TrainerOptions {
  std::vector<std::string> providers = {"cpu"};
  int threads = 0;                    // 0: the CPUs this process may use
  std::string precision = "highest";  // "medium": computes in bf16, parameters and their updates stay f32
  Named loss = {"CrossEntropyLoss", {}};
  std::vector<std::string> predictions;  // outputs that the loss reads; empty: the first ones
  std::vector<LossOptions> losses;       // their weighted sum instead of `loss`; targets one after another
  Named optimizer = {"AdamW", {}};
  std::vector<ParameterGroup> groups;
  // Globs of weights; "!glob" takes out what earlier ones chose. A weight of rank 0 has to be named itself.
  std::vector<std::string> trainable = {"*"};
  std::string batch_norm = "train";      // "frozen": by the running statistics, which stay
  double clip_norm = 0, clip_value = 0;  // of the gradients together, of each number; 0: no clipping
  int accumulate = 1;                    // steps whose mean gradient makes an update
  bool keep_gradients = true;            // false: gradients() has none, which saves their memory
  // Values of the model between which the backward pass computes again what it needs, instead of keeping it;
  // or how many pieces of about the same memory there are to be; or how many bytes a step may take for
  // activations and gradients, by an estimate for the first batch (InputError then when no pieces are
  // enough).
  std::vector<std::string> recompute;
  int recompute_pieces = 0;
  int64_t recompute_bytes = 0;
  uint64_t seed = 0;     // of dropout
  bool profile = false;  // records every node for profile()
};

// A classifier with other classes: its last layer (Gemm, MatMul or 1 x 1 Conv, found from `output`, by
// default the first, backwards) is drawn anew as torch.nn.Linear's, with the same names, and a Softmax or
// Sigmoid behind it goes, so that the output gives logits. InputError when there is no such layer.
SARDONYX_API LoadedModel replace_head(const LoadedModel& model, int64_t classes, uint64_t seed = 0,
                                      const std::string& output = "");

struct ParameterInfo {
  std::string name;
  DType dtype = DType::Undefined;
  Dims dims;
  bool trained = false;  // false: the loss does not depend on it
};

// Trains the weights of a model: every float initializer that the loss depends on, or those that globs
// choose. Nodes BatchNormalization and Dropout train; what an exporter folded or left out stays as it is. A
// failed step leaves parameters and optimizer state as they were. Not for several threads at once.
class SARDONYX_API Trainer {
 public:
  // ModelError, InputError for options that do not fit the model. The model itself is not changed.
  explicit Trainer(const LoadedModel& model, TrainerOptions options = {});
  explicit Trainer(const std::string& path, TrainerOptions options = {});
  ~Trainer();
  Trainer(Trainer&&) noexcept;
  Trainer& operator=(Trainer&&) noexcept;

  // One batch: forward, loss, backward, and the update (after every `accumulate` of them). Returns the loss.
  // Targets are those of the loss, in its order. UnsupportedError lists all nodes without a gradient before
  // anything runs. InputError for feeds and targets that do not fit, and for a loss that is not finite: it
  // names the first node that gave a NaN or an infinity, and nothing was updated.
  double step(const Feeds& inputs, const std::vector<Value>& targets);
  // The loss in inference mode; nothing changes.
  double evaluate(const Feeds& inputs, const std::vector<Value>& targets);
  // The outputs of the model in inference mode.
  std::vector<Value> predict(const Feeds& inputs);

  // The weights that globs chose. `trained` is known after the first step.
  const std::vector<ParameterInfo>& parameter_info() const;
  // Views of the current values; the running statistics of batch normalization are among them if `buffers`.
  std::map<std::string, Tensor> parameters(bool buffers = false) const;
  // Copies a value in. InputError for another dtype or shape.
  void set_parameter(const std::string& name, const Tensor& value);
  // The mean gradients of the last update, after clipping by value, before clipping by norm.
  std::map<std::string, Tensor> gradients() const;
  // {"exp_avg/conv1.weight": ...}
  std::map<std::string, Tensor> optimizer_state() const;
  // Updates so far: what bias corrections count.
  int64_t update_count() const;
  // Batches so far.
  int64_t step_count() const;

  // A checkpoint: safetensors with weights, statistics, the optimizer's state and numbers, accumulated
  // gradients and counters. A trainer of the same model with the same options goes on from it as if it had
  // never stopped, to the bit. The file is complete or what it was before. FileError when it cannot be
  // written or read, and InputError when it belongs to another model or other options: then nothing changes.
  void save(const std::string& path) const;
  void load(const std::string& path);

  // A number of the optimizer ("lr", "weight_decay", ...), of the group at `group` (the last one: all other
  // parameters).
  double hyper(const std::string& name, int group = -1) const;
  void set_hyper(const std::string& name, double value, int group = -1);
  std::vector<std::string> hyper_names() const;
  size_t group_count() const;

  // The steps since training began or profile() was last called, as Chrome-trace JSON. Needs
  // TrainerOptions::profile and a step.
  std::string profile();

  const std::vector<ValueDescription>& inputs() const;
  // How many targets the loss takes.
  size_t target_count() const;
  // The model with the current weights, in inference mode; standard ONNX when written with tools.h.
  LoadedModel model() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sardonyx
