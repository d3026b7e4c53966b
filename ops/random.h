// Attributes of the operators that draw random numbers.
#pragma once

#include <optional>
#include <vector>

#include "graph/attributes.h"

namespace sardonyx {

struct RandomNormalAttributes {
  int64_t dtype = 1;
  float mean = 0, scale = 1;
  std::optional<float> seed;
  std::optional<std::vector<int64_t>> shape;
  template <class V>
  void visit(V&& v) {
    v("dtype", dtype);
    v("mean", mean);
    v("scale", scale);
    v("seed", seed);
    v("shape", shape);
  }
};
struct RandomUniformAttributes {
  int64_t dtype = 1;
  float low = 0, high = 1;
  std::optional<float> seed;
  std::optional<std::vector<int64_t>> shape;
  template <class V>
  void visit(V&& v) {
    v("dtype", dtype);
    v("low", low);
    v("high", high);
    v("seed", seed);
    v("shape", shape);
  }
};
struct RandomNormalLikeAttributes {
  std::optional<int64_t> dtype;
  float mean = 0, scale = 1;
  std::optional<float> seed;
  template <class V>
  void visit(V&& v) {
    v("dtype", dtype);
    v("mean", mean);
    v("scale", scale);
    v("seed", seed);
  }
};
struct RandomUniformLikeAttributes {
  std::optional<int64_t> dtype;
  float low = 0, high = 1;
  std::optional<float> seed;
  template <class V>
  void visit(V&& v) {
    v("dtype", dtype);
    v("low", low);
    v("high", high);
    v("seed", seed);
  }
};
struct BernoulliAttributes {
  std::optional<int64_t> dtype;
  std::optional<float> seed;
  template <class V>
  void visit(V&& v) {
    v("dtype", dtype);
    v("seed", seed);
  }
};
struct MultinomialAttributes {
  int64_t dtype = 6, sample_size = 1;
  std::optional<float> seed;
  template <class V>
  void visit(V&& v) {
    v("dtype", dtype);
    v("sample_size", sample_size);
    v("seed", seed);
  }
};

}  // namespace sardonyx
