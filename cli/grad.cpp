#include <fmt/core.h>

#include "cli.h"
#include "sardonyx/gradient.h"
#include "sardonyx/tools.h"

namespace sardonyx::cli {

void add_grad(CLI::App& app, int& exit_code) {
  struct Arguments {
    std::string model, output, loss = "CrossEntropyLoss", batch_norm = "train";
    std::vector<std::string> loss_arguments, predictions;
    GradientOptions options;
    int opset = 0;
  };
  auto args = std::make_shared<Arguments>();
  CLI::App* grad = app.add_subcommand("grad", "Write the gradient of a model's loss as standard ONNX");
  grad->add_option("model", args->model, "ONNX file")->required();
  grad->add_option("output", args->output, "Where the gradient model goes")->required();
  grad->add_option("--wrt", args->options.wrt, "Inputs and globs of weights (default: every weight)");
  grad->add_option("--loss", args->loss, "torch's name of a loss, or an .onnx file whose first output it is")
      ->capture_default_str();
  grad->add_option("--loss-argument", args->loss_arguments,
                   "name=value, as label_smoothing=0.1; a function is an .onnx file");
  grad->add_option("--prediction", args->predictions, "Outputs that the loss reads (default: the first)");
  grad->add_option("--batch-norm", args->batch_norm, "train or frozen")
      ->check(CLI::IsMember({"train", "frozen"}))
      ->capture_default_str();
  grad->add_flag("--dropout", args->options.dropout, "Keep dropout");
  grad->add_option("--opset", args->opset, "0: the lowest that can hold it")->capture_default_str();
  grad->callback([args, &exit_code] {
    args->options.losses = {loss_option(args->loss, args->loss_arguments, args->predictions)};
    args->options.batch_statistics = args->batch_norm == "train";
    const LoadedModel gradient = gradient_model(LoadedModel::from_file(args->model), args->options);
    ConvertOptions options;
    options.opset = args->opset;
    convert_to_file(gradient, args->output, options);
    const Session session(gradient);
    for (const auto& input : session.inputs()) fmt::print("input  {} {}\n", input.name, input.type);
    for (const auto& output : session.outputs()) fmt::print("output {} {}\n", output.name, output.type);
    exit_code = kOk;
  });
}

}  // namespace sardonyx::cli
