// The activation functions of recurrent operators.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace sardonyx::cpu {

enum class Gate {
  Relu,
  Tanh,
  Sigmoid,
  Affine,
  LeakyRelu,
  ThresholdedRelu,
  ScaledTanh,
  HardSigmoid,
  Elu,
  Softsign,
  Softplus
};

struct GateFunction {
  Gate gate = Gate::Tanh;
  float alpha = 0, beta = 0;
  bool operator==(const GateFunction&) const = default;
};

template <typename T>
T gate_value(const GateFunction& f, T x) {
  const T alpha = static_cast<T>(f.alpha), beta = static_cast<T>(f.beta);
  switch (f.gate) {
    case Gate::Relu:
      return x > 0 || std::isnan(x) ? x : T(0);
    case Gate::Tanh:
      return std::tanh(x);
    case Gate::Sigmoid:
      return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
    case Gate::Affine:
      return alpha * x + beta;
    case Gate::LeakyRelu:
      return x >= 0 ? x : alpha * x;
    case Gate::ThresholdedRelu:
      return x >= alpha || std::isnan(x) ? x : T(0);
    case Gate::ScaledTanh:
      return alpha * std::tanh(beta * x);
    case Gate::HardSigmoid:
      return std::isnan(x) ? x : std::min(std::max(alpha * x + beta, T(0)), T(1));
    case Gate::Elu:
      return x >= 0 ? x : alpha * std::expm1(x);
    case Gate::Softsign:
      return x / (1 + std::abs(x));
    case Gate::Softplus:
      return std::max(x, T(0)) + std::log1p(std::exp(-std::abs(x)));
  }
  return x;
}

// x[i] = f(x[i]) for i < n, vectorised; n is a multiple of 32.
void simd_gate(const GateFunction& f, float* x, int64_t n);

}  // namespace sardonyx::cpu
