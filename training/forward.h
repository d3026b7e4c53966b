// A model's graph made ready for training: its parameters as inputs, its operators in training mode.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"

namespace sardonyx {

struct Parameter {
  std::string name;
  Tensor value;
};

// Statistics that the forward pass of a batch replaces: the input `name` by the output `next`.
struct Statistic {
  Parameter parameter;
  std::string next;
};

struct TrainingForward {
  GraphPtr graph;                     // types of parameters known, others as in the model
  std::vector<Parameter> parameters;  // float weights that a glob chose and that may have a gradient
  std::vector<Statistic> statistics;  // of batch normalization, inputs of the graph as well
};

struct ForwardOptions {
  std::vector<std::string> trainable = {"*"};  // globs; "!glob" takes out what earlier ones chose
  bool batch_statistics = true;                // false: batch normalization as in inference
};

// `graph` is at the canonical opset. A float constant is a weight if it is an initializer of the file, or a
// Constant node with more than one element; the running statistics of batch normalization, and what decides
// shapes (the scales of Resize), are none; of rank 0 it is one where a glob is its very name.
// InputError for a glob that matches nothing.
TrainingForward training_forward(const GraphPtr& graph, const std::vector<std::string>& initializers,
                                 const ForwardOptions& options);

// The same graph with batch normalization by the statistics of the batch (which become no outputs), if
// `batch_statistics`, and with or without dropout.
GraphPtr training_mode(const GraphPtr& graph, bool batch_statistics, bool dropout);

// The same graph in inference mode: batch normalization by its statistics, no dropout.
GraphPtr inference_mode(const GraphPtr& graph);

// '*' stands for any characters, '?' for one.
bool matches_glob(const std::string& glob, const std::string& name);

}  // namespace sardonyx
