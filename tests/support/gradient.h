// Gradients against central differences.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "graph/builder.h"
#include "sardonyx/session.h"

namespace sardonyx::test {

// The graph, whose inputs follow the model's, with a cotangent "d_<output>" as an input for each float output
// and the cotangents of the named inputs as outputs ("grad_<input>", zeros where nothing depends on one).
LoadedModel gradient_of(const LoadedModel& model, const std::vector<std::string>& wrt);

// Normal numbers in f64.
Tensor random_like(const Tensor& x, std::mt19937_64& random);

// How far the derivative along a random direction is from central differences, for a random cotangent of
// every output and each named input by itself; as a share of the root of the squared terms that the
// derivative sums (at least 1e-3). In f64, with the kernels that a session takes, or with "ref".
struct GradientCheck {
  std::vector<std::string> wrt;  // f64 inputs
  int seeds = 3;
  double step = 1e-5;
  std::string prefer_kernel = "ref";
  bool symbolic = false;  // nothing is known of the inputs' shapes but their rank
};
double gradient_error(const LoadedModel& model, const Feeds& feeds, const GradientCheck& check);
// The same for the gradient itself, as a graph of its inputs and cotangents.
double second_order_error(const LoadedModel& model, const Feeds& feeds, GradientCheck check);

}  // namespace sardonyx::test
