// Optimizers under torch's names, as operators of the step's graph.
#pragma once

#include <string>
#include <vector>

#include "graph/builder.h"
#include "training/arguments.h"

namespace sardonyx {

// Arguments of one group of parameters, in the form in which a step uses them.
struct OptimizerRule {
  std::string op;  // of kOwnDomain: inputs x, gradient, hyper, scale, states
  Attributes attributes;
  std::vector<std::string> states;  // torch's names; each has the shape of the parameter and starts as zeros
  std::vector<std::pair<std::string, double>> hyper;  // torch's names; last the step, which counts from 1
};

struct Optimizer {
  std::string name;
  // InputError for arguments that torch refuses too.
  OptimizerRule (*rule)(ArgumentReader& arguments);
};

const std::vector<Optimizer>& all_optimizers();
const Optimizer& find_optimizer(const std::string& name);
OptimizerRule optimizer_rule(const Optimizer& optimizer, const Arguments& arguments);

}  // namespace sardonyx
