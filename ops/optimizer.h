// Attribute structs of the optimizers of domain ai.onnx.preview.training.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sardonyx {

struct AdagradAttributes {
  float norm_coefficient = 0, decay_factor = 0, epsilon = 1e-6f;
  template <class V>
  void visit(V&& v) {
    v("norm_coefficient", norm_coefficient);
    v("decay_factor", decay_factor);
    v("epsilon", epsilon);
  }
};

struct AdamAttributes {
  float epsilon = 1e-6f, norm_coefficient_post = 0, norm_coefficient = 0, beta = 0.999f, alpha = 0.9f;
  template <class V>
  void visit(V&& v) {
    v("epsilon", epsilon);
    v("norm_coefficient_post", norm_coefficient_post);
    v("norm_coefficient", norm_coefficient);
    v("beta", beta);
    v("alpha", alpha);
  }
};

struct MomentumAttributes {
  std::optional<float> norm_coefficient, beta, alpha;
  std::optional<std::string> mode;
  template <class V>
  void visit(V&& v) {
    v("norm_coefficient", norm_coefficient);
    v("beta", beta);
    v("mode", mode);
    v("alpha", alpha);
  }
};

// SGDStep and AdamWStep: what torch.optim does to one parameter in a step.
struct SgdStepAttributes {
  int64_t nesterov = 0, maximize = 0;
  template <class V>
  void visit(V&& v) {
    v("nesterov", nesterov);
    v("maximize", maximize);
  }
};

struct AdamWStepAttributes {
  int64_t amsgrad = 0, maximize = 0;
  template <class V>
  void visit(V&& v) {
    v("amsgrad", amsgrad);
    v("maximize", maximize);
  }
};

// The places of their numbers in the input `hyper`.
enum class SgdHyper : uint8_t { Rate, Momentum, Dampening, WeightDecay, Step };
enum class AdamWHyper : uint8_t { Rate, Beta1, Beta2, Epsilon, WeightDecay, Step };

}  // namespace sardonyx
