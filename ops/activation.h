// Attributes of the activations and of Dropout.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sardonyx {

struct LeakyReluAttributes {
  float alpha = 0.01f;
  template <class V>
  void visit(V&& v) {
    v("alpha", alpha);
  }
};

// Elu, Celu, ThresholdedRelu, Swish, SwiGLU.
struct AlphaAttributes {
  float alpha = 1;
  template <class V>
  void visit(V&& v) {
    v("alpha", alpha);
  }
};

struct SeluAttributes {
  float alpha = 1.67326319217681884765625f, gamma = 1.05070102214813232421875f;
  template <class V>
  void visit(V&& v) {
    v("alpha", alpha);
    v("gamma", gamma);
  }
};

struct HardSigmoidAttributes {
  float alpha = 0.2f, beta = 0.5f;
  template <class V>
  void visit(V&& v) {
    v("alpha", alpha);
    v("beta", beta);
  }
};

struct ShrinkAttributes {
  float bias = 0, lambd = 0.5f;
  template <class V>
  void visit(V&& v) {
    v("bias", bias);
    v("lambd", lambd);
  }
};

struct GeluAttributes {
  std::string approximate = "none";
  template <class V>
  void visit(V&& v) {
    v("approximate", approximate);
  }
};

struct DropoutAttributes {
  std::optional<int64_t> seed;
  template <class V>
  void visit(V&& v) {
    v("seed", seed);
  }
};

}  // namespace sardonyx
