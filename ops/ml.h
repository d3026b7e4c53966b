// Attribute structs of the operators of domain ai.onnx.ml.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sardonyx/tensor.h"

namespace sardonyx {

struct BinarizerAttributes {
  float threshold = 0;
  template <class V>
  void visit(V&& v) {
    v("threshold", threshold);
  }
};

struct CastMapAttributes {
  std::string cast_to = "TO_FLOAT";
  std::string map_form = "DENSE";
  int64_t max_map = 1;
  template <class V>
  void visit(V&& v) {
    v("cast_to", cast_to);
    v("map_form", map_form);
    v("max_map", max_map);
  }
};

struct CategoryMapperAttributes {
  std::optional<std::vector<int64_t>> cats_int64s;
  std::optional<std::vector<std::string>> cats_strings;
  int64_t default_int64 = -1;
  std::string default_string = "_Unused";
  template <class V>
  void visit(V&& v) {
    v("cats_int64s", cats_int64s);
    v("cats_strings", cats_strings);
    v("default_int64", default_int64);
    v("default_string", default_string);
  }
};

struct DictVectorizerAttributes {
  std::optional<std::vector<int64_t>> int64_vocabulary;
  std::optional<std::vector<std::string>> string_vocabulary;
  template <class V>
  void visit(V&& v) {
    v("int64_vocabulary", int64_vocabulary);
    v("string_vocabulary", string_vocabulary);
  }
};

struct FeatureVectorizerAttributes {
  std::optional<std::vector<int64_t>> inputdimensions;
  template <class V>
  void visit(V&& v) {
    v("inputdimensions", inputdimensions);
  }
};

struct ImputerAttributes {
  std::optional<std::vector<float>> imputed_value_floats;
  std::optional<std::vector<int64_t>> imputed_value_int64s;
  float replaced_value_float = 0;
  int64_t replaced_value_int64 = 0;
  template <class V>
  void visit(V&& v) {
    v("imputed_value_floats", imputed_value_floats);
    v("imputed_value_int64s", imputed_value_int64s);
    v("replaced_value_float", replaced_value_float);
    v("replaced_value_int64", replaced_value_int64);
  }
};

struct LabelEncoderAttributes {
  float default_float = -0.0f;
  int64_t default_int64 = -1;
  std::string default_string = "_Unused";
  std::optional<Tensor> default_tensor;
  std::optional<std::vector<float>> keys_floats;
  std::optional<std::vector<int64_t>> keys_int64s;
  std::optional<std::vector<std::string>> keys_strings;
  std::optional<Tensor> keys_tensor;
  std::optional<std::vector<float>> values_floats;
  std::optional<std::vector<int64_t>> values_int64s;
  std::optional<std::vector<std::string>> values_strings;
  std::optional<Tensor> values_tensor;
  template <class V>
  void visit(V&& v) {
    v("default_float", default_float);
    v("default_int64", default_int64);
    v("default_string", default_string);
    v("default_tensor", default_tensor);
    v("keys_floats", keys_floats);
    v("keys_int64s", keys_int64s);
    v("keys_strings", keys_strings);
    v("keys_tensor", keys_tensor);
    v("values_floats", values_floats);
    v("values_int64s", values_int64s);
    v("values_strings", values_strings);
    v("values_tensor", values_tensor);
  }
};

struct LinearClassifierAttributes {
  std::optional<std::vector<int64_t>> classlabels_ints;
  std::optional<std::vector<std::string>> classlabels_strings;
  std::optional<std::vector<float>> coefficients;
  std::optional<std::vector<float>> intercepts;
  int64_t multi_class = 0;
  std::string post_transform = "NONE";
  template <class V>
  void visit(V&& v) {
    v("classlabels_ints", classlabels_ints);
    v("classlabels_strings", classlabels_strings);
    v("coefficients", coefficients);
    v("intercepts", intercepts);
    v("multi_class", multi_class);
    v("post_transform", post_transform);
  }
};

struct LinearRegressorAttributes {
  std::optional<std::vector<float>> coefficients;
  std::optional<std::vector<float>> intercepts;
  std::string post_transform = "NONE";
  int64_t targets = 1;
  template <class V>
  void visit(V&& v) {
    v("coefficients", coefficients);
    v("intercepts", intercepts);
    v("post_transform", post_transform);
    v("targets", targets);
  }
};

struct NormalizerAttributes {
  std::string norm = "MAX";
  template <class V>
  void visit(V&& v) {
    v("norm", norm);
  }
};

struct OneHotEncoderAttributes {
  std::optional<std::vector<int64_t>> cats_int64s;
  std::optional<std::vector<std::string>> cats_strings;
  int64_t zeros = 1;
  template <class V>
  void visit(V&& v) {
    v("cats_int64s", cats_int64s);
    v("cats_strings", cats_strings);
    v("zeros", zeros);
  }
};

struct SvmClassifierAttributes {
  std::optional<std::vector<int64_t>> classlabels_ints;
  std::optional<std::vector<std::string>> classlabels_strings;
  std::optional<std::vector<float>> coefficients;
  std::optional<std::vector<float>> kernel_params;
  std::string kernel_type = "LINEAR";
  std::string post_transform = "NONE";
  std::optional<std::vector<float>> prob_a;
  std::optional<std::vector<float>> prob_b;
  std::optional<std::vector<float>> rho;
  std::optional<std::vector<float>> support_vectors;
  std::optional<std::vector<int64_t>> vectors_per_class;
  template <class V>
  void visit(V&& v) {
    v("classlabels_ints", classlabels_ints);
    v("classlabels_strings", classlabels_strings);
    v("coefficients", coefficients);
    v("kernel_params", kernel_params);
    v("kernel_type", kernel_type);
    v("post_transform", post_transform);
    v("prob_a", prob_a);
    v("prob_b", prob_b);
    v("rho", rho);
    v("support_vectors", support_vectors);
    v("vectors_per_class", vectors_per_class);
  }
};

struct SvmRegressorAttributes {
  std::optional<std::vector<float>> coefficients;
  std::optional<std::vector<float>> kernel_params;
  std::string kernel_type = "LINEAR";
  int64_t n_supports = 0;
  int64_t one_class = 0;
  std::string post_transform = "NONE";
  std::optional<std::vector<float>> rho;
  std::optional<std::vector<float>> support_vectors;
  template <class V>
  void visit(V&& v) {
    v("coefficients", coefficients);
    v("kernel_params", kernel_params);
    v("kernel_type", kernel_type);
    v("n_supports", n_supports);
    v("one_class", one_class);
    v("post_transform", post_transform);
    v("rho", rho);
    v("support_vectors", support_vectors);
  }
};

struct ScalerAttributes {
  std::optional<std::vector<float>> offset;
  std::optional<std::vector<float>> scale;
  template <class V>
  void visit(V&& v) {
    v("offset", offset);
    v("scale", scale);
  }
};

struct TreeEnsembleAttributes {
  int64_t aggregate_function = 1;
  std::optional<std::vector<int64_t>> leaf_targetids;
  std::optional<Tensor> leaf_weights;
  std::optional<Tensor> membership_values;
  std::optional<int64_t> n_targets;
  std::optional<std::vector<int64_t>> nodes_falseleafs;
  std::optional<std::vector<int64_t>> nodes_falsenodeids;
  std::optional<std::vector<int64_t>> nodes_featureids;
  std::optional<Tensor> nodes_hitrates;
  std::optional<std::vector<int64_t>> nodes_missing_value_tracks_true;
  std::optional<Tensor> nodes_modes;
  std::optional<Tensor> nodes_splits;
  std::optional<std::vector<int64_t>> nodes_trueleafs;
  std::optional<std::vector<int64_t>> nodes_truenodeids;
  int64_t post_transform = 0;
  std::optional<std::vector<int64_t>> tree_roots;
  template <class V>
  void visit(V&& v) {
    v("aggregate_function", aggregate_function);
    v("leaf_targetids", leaf_targetids);
    v("leaf_weights", leaf_weights);
    v("membership_values", membership_values);
    v("n_targets", n_targets);
    v("nodes_falseleafs", nodes_falseleafs);
    v("nodes_falsenodeids", nodes_falsenodeids);
    v("nodes_featureids", nodes_featureids);
    v("nodes_hitrates", nodes_hitrates);
    v("nodes_missing_value_tracks_true", nodes_missing_value_tracks_true);
    v("nodes_modes", nodes_modes);
    v("nodes_splits", nodes_splits);
    v("nodes_trueleafs", nodes_trueleafs);
    v("nodes_truenodeids", nodes_truenodeids);
    v("post_transform", post_transform);
    v("tree_roots", tree_roots);
  }
};

struct TreeEnsembleClassifierAttributes {
  std::optional<std::vector<float>> base_values;
  std::optional<Tensor> base_values_as_tensor;
  std::optional<std::vector<int64_t>> class_ids;
  std::optional<std::vector<int64_t>> class_nodeids;
  std::optional<std::vector<int64_t>> class_treeids;
  std::optional<std::vector<float>> class_weights;
  std::optional<Tensor> class_weights_as_tensor;
  std::optional<std::vector<int64_t>> classlabels_int64s;
  std::optional<std::vector<std::string>> classlabels_strings;
  std::optional<std::vector<int64_t>> nodes_falsenodeids;
  std::optional<std::vector<int64_t>> nodes_featureids;
  std::optional<std::vector<float>> nodes_hitrates;
  std::optional<Tensor> nodes_hitrates_as_tensor;
  std::optional<std::vector<int64_t>> nodes_missing_value_tracks_true;
  std::optional<std::vector<std::string>> nodes_modes;
  std::optional<std::vector<int64_t>> nodes_nodeids;
  std::optional<std::vector<int64_t>> nodes_treeids;
  std::optional<std::vector<int64_t>> nodes_truenodeids;
  std::optional<std::vector<float>> nodes_values;
  std::optional<Tensor> nodes_values_as_tensor;
  std::string post_transform = "NONE";
  template <class V>
  void visit(V&& v) {
    v("base_values", base_values);
    v("base_values_as_tensor", base_values_as_tensor);
    v("class_ids", class_ids);
    v("class_nodeids", class_nodeids);
    v("class_treeids", class_treeids);
    v("class_weights", class_weights);
    v("class_weights_as_tensor", class_weights_as_tensor);
    v("classlabels_int64s", classlabels_int64s);
    v("classlabels_strings", classlabels_strings);
    v("nodes_falsenodeids", nodes_falsenodeids);
    v("nodes_featureids", nodes_featureids);
    v("nodes_hitrates", nodes_hitrates);
    v("nodes_hitrates_as_tensor", nodes_hitrates_as_tensor);
    v("nodes_missing_value_tracks_true", nodes_missing_value_tracks_true);
    v("nodes_modes", nodes_modes);
    v("nodes_nodeids", nodes_nodeids);
    v("nodes_treeids", nodes_treeids);
    v("nodes_truenodeids", nodes_truenodeids);
    v("nodes_values", nodes_values);
    v("nodes_values_as_tensor", nodes_values_as_tensor);
    v("post_transform", post_transform);
  }
};

struct TreeEnsembleRegressorAttributes {
  std::string aggregate_function = "SUM";
  std::optional<std::vector<float>> base_values;
  std::optional<Tensor> base_values_as_tensor;
  std::optional<int64_t> n_targets;
  std::optional<std::vector<int64_t>> nodes_falsenodeids;
  std::optional<std::vector<int64_t>> nodes_featureids;
  std::optional<std::vector<float>> nodes_hitrates;
  std::optional<Tensor> nodes_hitrates_as_tensor;
  std::optional<std::vector<int64_t>> nodes_missing_value_tracks_true;
  std::optional<std::vector<std::string>> nodes_modes;
  std::optional<std::vector<int64_t>> nodes_nodeids;
  std::optional<std::vector<int64_t>> nodes_treeids;
  std::optional<std::vector<int64_t>> nodes_truenodeids;
  std::optional<std::vector<float>> nodes_values;
  std::optional<Tensor> nodes_values_as_tensor;
  std::string post_transform = "NONE";
  std::optional<std::vector<int64_t>> target_ids;
  std::optional<std::vector<int64_t>> target_nodeids;
  std::optional<std::vector<int64_t>> target_treeids;
  std::optional<std::vector<float>> target_weights;
  std::optional<Tensor> target_weights_as_tensor;
  template <class V>
  void visit(V&& v) {
    v("aggregate_function", aggregate_function);
    v("base_values", base_values);
    v("base_values_as_tensor", base_values_as_tensor);
    v("n_targets", n_targets);
    v("nodes_falsenodeids", nodes_falsenodeids);
    v("nodes_featureids", nodes_featureids);
    v("nodes_hitrates", nodes_hitrates);
    v("nodes_hitrates_as_tensor", nodes_hitrates_as_tensor);
    v("nodes_missing_value_tracks_true", nodes_missing_value_tracks_true);
    v("nodes_modes", nodes_modes);
    v("nodes_nodeids", nodes_nodeids);
    v("nodes_treeids", nodes_treeids);
    v("nodes_truenodeids", nodes_truenodeids);
    v("nodes_values", nodes_values);
    v("nodes_values_as_tensor", nodes_values_as_tensor);
    v("post_transform", post_transform);
    v("target_ids", target_ids);
    v("target_nodeids", target_nodeids);
    v("target_treeids", target_treeids);
    v("target_weights", target_weights);
    v("target_weights_as_tensor", target_weights_as_tensor);
  }
};

struct ZipMapAttributes {
  std::optional<std::vector<int64_t>> classlabels_int64s;
  std::optional<std::vector<std::string>> classlabels_strings;
  template <class V>
  void visit(V&& v) {
    v("classlabels_int64s", classlabels_int64s);
    v("classlabels_strings", classlabels_strings);
  }
};

}  // namespace sardonyx
