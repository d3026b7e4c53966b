#include "tests/support/cases.h"

namespace sardonyx::test {

namespace {

// The outputs are f32: tests/api/gradient_ml.cpp checks the gradients before they are rounded.
Case& ml(CaseTable& t, std::string op, std::vector<Input> inputs) {
  return t.add(std::move(op), std::move(inputs)).of("ai.onnx.ml").no_gradient_check();
}

std::vector<float> floats(size_t count, float scale, float middle = 0) {
  std::vector<float> values;
  for (size_t i = 0; i < count; ++i)
    values.push_back(middle + scale * (static_cast<float>((i * 7 + 3) % 11) / 5 - 1));
  return values;
}

const char* kTransforms[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};

// The scores of a post_transform: the quantiles of PROBIT are those of probabilities.
float scale_for(const std::string& transform) { return transform == "PROBIT" ? 0.05f : 0.5f; }
float middle_for(const std::string& transform) { return transform == "PROBIT" ? 0.45f : 0.1f; }

void linear(CaseTable& t) {
  for (const char* transform : kTransforms) {
    const float scale = scale_for(transform), middle = middle_for(transform);
    const auto regressor = [&](int64_t targets, Dims dims) -> Case& {
      return ml(t, "LinearRegressor", {f32(std::move(dims), Fill::Unit)})
          .integer("targets", targets)
          .with("coefficients", floats(static_cast<size_t>(targets) * 4, scale))
          .with("intercepts", floats(static_cast<size_t>(targets), scale, middle))
          .text("post_transform", transform);
    };
    regressor(1, {5, 4});
    regressor(3, {5, 4});
    regressor(3, {4});
    const auto classifier = [&](size_t classes, size_t labels) -> Case& {
      std::vector<int64_t> names;
      for (size_t i = 0; i < labels; ++i) names.push_back(static_cast<int64_t>(3 * i + 2));
      return ml(t, "LinearClassifier", {f32({6, 4}, Fill::Unit)})
          .gives(2)
          .with("coefficients", floats(classes * 4, scale))
          .with("intercepts", floats(classes, scale, middle))
          .with("classlabels_ints", names)
          .text("post_transform", transform);
    };
    classifier(3, 3);
    classifier(1, 1);
    // Both the score and its opposite are probabilities for no score at all.
    if (std::string(transform) != "PROBIT") classifier(1, 2);
  }
  ml(t, "LinearRegressor", {f32({3, 4})}).with("coefficients", floats(4, 1));
  ml(t, "LinearClassifier", {f32({3, 4})})
      .gives(2)
      .with("coefficients", floats(8, 1))
      .with("classlabels_strings", std::vector<std::string>{"a", "b"});
  // A score that is zero, and scores that all are.
  std::vector<float> some = floats(12, 0.5f);
  std::fill_n(some.begin() + 4, 4, 0.0f);
  ml(t, "LinearRegressor", {f32({5, 4})})
      .integer("targets", 3)
      .with("coefficients", some)
      .text("post_transform", "SOFTMAX_ZERO");
  ml(t, "LinearRegressor", {f32({5, 4})})
      .integer("targets", 2)
      .with("coefficients", std::vector<float>(8, 0))
      .text("post_transform", "SOFTMAX_ZERO");
  // The middle and the ends of PROBIT.
  ml(t, "LinearRegressor", {f32({5, 4})})
      .integer("targets", 4)
      .with("coefficients", std::vector<float>(16, 0))
      .with("intercepts", std::vector<float>{0, 0.5f, 1, 0.50001f})
      .text("post_transform", "PROBIT");
}

struct Kernel {
  const char* name;
  std::vector<float> parameters;
};

void support_vectors(CaseTable& t) {
  const Kernel kernels[] = {{"LINEAR", {}},
                            {"POLY", {0.3f, 0.5f, 3}},
                            {"POLY", {0.1f, 2.5f, 1.5f}},
                            {"RBF", {0.2f, 0, 0}},
                            {"SIGMOID", {0.1f, 0.2f, 0}}};
  for (const Kernel& kernel : kernels) {
    const auto with_kernel = [&](Case& c) -> Case& {
      if (!kernel.parameters.empty()) c.with("kernel_params", kernel.parameters);
      return c.text("kernel_type", kernel.name);
    };
    for (const char* transform : kTransforms)
      with_kernel(ml(t, "SVMRegressor", {f32({5, 4}, Fill::Unit)}))
          .integer("n_supports", 3)
          .with("coefficients", floats(3, scale_for(transform)))
          .with("support_vectors", floats(12, 0.8f))
          .with("rho", std::vector<float>{middle_for(transform)})
          .text("post_transform", transform);
    for (const size_t classes : {2, 3, 4})
      for (const bool probabilities : {false, true}) {
        const std::vector<int64_t> per_class = {2, 3, 1, 2}, labels = {5, 2, 7, 4};
        const auto end = static_cast<std::ptrdiff_t>(classes);
        const size_t supports = classes == 2 ? 5 : classes == 3 ? 6 : 8, pairs = classes * (classes - 1) / 2;
        Case& c = with_kernel(ml(t, "SVMClassifier", {f32({6, 4}, Fill::Unit)}))
                      .gives(2)
                      .with("coefficients", floats(supports * (classes - 1), 1))
                      .with("support_vectors", floats(supports * 4, 0.8f))
                      .with("rho", floats(pairs, 0.1f))
                      .ints("vectors_per_class", {per_class.begin(), per_class.begin() + end})
                      .ints("classlabels_ints", {labels.begin(), labels.begin() + end});
        if (probabilities) c.with("prob_a", floats(pairs, 0.3f, -1)).with("prob_b", floats(pairs, 0.2f));
      }
  }
  ml(t, "SVMRegressor", {f32({5, 4})})
      .with("coefficients", floats(4, 1))
      .with("rho", std::vector<float>{0.1f});
  ml(t, "SVMRegressor", {f32({5, 4})})
      .integer("one_class", 1)
      .with("coefficients", floats(4, 1))
      .with("rho", std::vector<float>{0.1f});
  // Scores of the features themselves, of several classes and of one.
  for (const char* transform : {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"}) {
    ml(t, "SVMClassifier", {f32({6, 4})})
        .gives(2)
        .with("coefficients", floats(12, 0.5f))
        .with("rho", std::vector<float>{0.2f})
        .with("classlabels_strings", std::vector<std::string>{"a", "b", "c"})
        .text("post_transform", transform);
    ml(t, "SVMClassifier", {f32({6, 4})})
        .gives(2)
        .with("coefficients", floats(5, 1))
        .with("support_vectors", floats(20, 1))
        .with("rho", std::vector<float>{0.2f})
        .ints("vectors_per_class", {2, 3})
        .ints("classlabels_ints", {1, 0})
        .text("post_transform", transform);
  }
  ml(t, "SVMClassifier", {f32({6, 4})})
      .gives(2)
      .with("coefficients", floats(4, 1))
      .with("rho", std::vector<float>{0.2f})
      .ints("classlabels_ints", {7});
}

}  // namespace

void cases_ml(CaseTable& t) {
  linear(t);
  support_vectors(t);
  ml(t, "FeatureVectorizer", {f32({3, 4}), f32({3, 2}), f32({3, 3})}).ints("inputdimensions", {2, 4, 3});
  ml(t, "FeatureVectorizer", {f32({3, 4}), f32({3, 2})}).ints("inputdimensions", {4, 0});
  ml(t, "FeatureVectorizer", {f32({4}), f32({2})});
  for (const char* norm : {"MAX", "L1", "L2"}) ml(t, "Normalizer", {f32({4, 3})}).text("norm", norm);
  ml(t, "Scaler", {f32({4, 3})}).with("scale", floats(3, 2)).with("offset", floats(3, 1));
  ml(t, "Scaler", {f32({4, 3})}).with("scale", floats(1, 2)).with("offset", floats(1, 1));
}

}  // namespace sardonyx::test
