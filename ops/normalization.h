// Attribute structs of the normalizations.
#pragma once

#include <optional>
#include <vector>

#include "graph/attributes.h"

namespace sardonyx {

struct BatchNormalizationAttributes {
  float epsilon = 1e-5f, momentum = 0.9f;
  int64_t training_mode = 0;
  template <class V>
  void visit(V&& v) {
    v("epsilon", epsilon);
    v("momentum", momentum);
    v("training_mode", training_mode);
  }
};

struct InstanceNormalizationAttributes {
  float epsilon = 1e-5f;
  template <class V>
  void visit(V&& v) {
    v("epsilon", epsilon);
  }
};

// LayerNormalization and RMSNormalization.
struct LayerNormalizationAttributes {
  int64_t axis = -1, stash_type = 1;
  float epsilon = 1e-5f;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
    v("stash_type", stash_type);
    v("epsilon", epsilon);
  }
};

// Of kOwnDomain; RMSNormalization's is the one that is not centred.
struct LayerNormalizationBackwardAttributes {
  int64_t axis = -1, centred = 1;
  float epsilon = 1e-5f;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
    v("centred", centred);
    v("epsilon", epsilon);
  }
};

struct BatchNormalizationBackwardAttributes {
  float epsilon = 1e-5f;
  template <class V>
  void visit(V&& v) {
    v("epsilon", epsilon);
  }
};

struct GroupNormalizationAttributes {
  float epsilon = 1e-5f;
  int64_t stash_type = 1;
  std::optional<int64_t> num_groups;  // required
  template <class V>
  void visit(V&& v) {
    v("epsilon", epsilon);
    v("stash_type", stash_type);
    v("num_groups", num_groups);
  }
};

struct LpNormalizationAttributes {
  int64_t axis = -1, p = 2;
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
    v("p", p);
  }
};

struct LrnAttributes {
  float alpha = 1e-4f, beta = 0.75f, bias = 1;
  std::optional<int64_t> size;  // required
  template <class V>
  void visit(V&& v) {
    v("alpha", alpha);
    v("beta", beta);
    v("bias", bias);
    v("size", size);
  }
};

struct MeanVarianceNormalizationAttributes {
  std::vector<int64_t> axes = {0, 2, 3};
  template <class V>
  void visit(V&& v) {
    v("axes", axes);
  }
};

}  // namespace sardonyx
