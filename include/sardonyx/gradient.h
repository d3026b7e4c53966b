// Gradients as ONNX graphs.
#pragma once

#include <string>
#include <vector>

#include "sardonyx/session.h"
#include "sardonyx/trainer.h"

namespace sardonyx {

struct GradientOptions {
  // Globs of weights and names of inputs; empty: every weight that the loss depends on.
  std::vector<std::string> wrt;
  Named loss = {"CrossEntropyLoss", {}};
  std::vector<std::string> predictions;  // outputs that the loss reads; empty: the first ones
  std::vector<LossOptions> losses;       // their weighted sum instead of `loss`
  bool batch_statistics = true;          // batch normalization by the statistics of the batch
  bool dropout = false;
};

// A model of standard ONNX: the inputs are the model's and `target` (`target_1`, ... for further ones), the
// outputs `loss` and the derivatives of the loss, `<name>_grad`, in the order of wrt (the file's order for
// what a glob matches). Weights stay initializers. The target has the type that is usual for the loss: int64
// classes, or that of the prediction; for a model as a loss that of its input. UnsupportedError lists all
// nodes without a gradient; InputError for names that do not exist and for a loss that is no scalar.
SARDONYX_API LoadedModel gradient_model(const LoadedModel& model, const GradientOptions& options = {});

// A loss as a model whose inputs are its ports under torch's names ("input", "target"), its output `loss`.
// Types: dtype and rank of each.
struct PortType {
  DType dtype = DType::Float32;
  int rank = 0;
};
SARDONYX_API LoadedModel loss_model(const Named& loss, const std::vector<PortType>& types);
// The gradient of a model's outputs: inputs are the model's and a cotangent `<output>_grad` for each float
// output, outputs the derivatives `<name>_grad` of the inputs and weights `wrt` (zeros where nothing depends
// on one).
SARDONYX_API LoadedModel vjp_model(const LoadedModel& model, const std::vector<std::string>& wrt);
// Names of the ports of a loss, and the names of all losses and optimizers.
SARDONYX_API std::vector<std::string> loss_ports(const std::string& loss);
SARDONYX_API std::vector<std::string> loss_names();
SARDONYX_API std::vector<std::string> optimizer_names();

}  // namespace sardonyx
