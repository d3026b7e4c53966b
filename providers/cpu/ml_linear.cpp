// LinearClassifier, LinearRegressor, SVMClassifier, SVMRegressor.
#include <algorithm>
#include <cmath>

#include "graph/shape.h"
#include "ops/ml.h"
#include "providers/cpu/ml.h"
#include "providers/cpu/support/parallel.h"

namespace sardonyx::cpu {
namespace {

double dot(const double* x, const float* w, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * static_cast<double>(w[i]);
  return sum;
}

// One score decides between two classes: what is written for both.
void binary_scores(PostTransform transform, double score, double* out) {
  out[0] = -score;
  out[1] = score;
  apply_post_transform(transform, out, 2);
}

Prepared prepare_linear_classifier(PrepareContext& ctx) {
  const auto a = ctx.attributes<LinearClassifierAttributes>();
  const Rows rows = prepare_rows(ctx);
  const Labels labels = prepare_labels(ctx, a.classlabels_ints, a.classlabels_strings);
  const PostTransform transform = post_transform(ctx, a.post_transform);
  const std::vector<float> weights = a.coefficients.value_or(std::vector<float>()),
                           intercepts = a.intercepts.value_or(std::vector<float>());
  const auto count = static_cast<int64_t>(weights.size());
  ctx.expect(rows.features > 0 && count > 0 && count % rows.features == 0, "attribute 'coefficients'",
             "a multiple of " + std::to_string(rows.features) + " features", std::to_string(count));
  const int64_t classes = count / rows.features;
  ctx.expect(intercepts.empty() || static_cast<int64_t>(intercepts.size()) == classes,
             "attribute 'intercepts'", std::to_string(classes) + " values",
             std::to_string(intercepts.size()));
  const bool binary = classes == 1 && labels.size() == 2;
  ctx.expect(classes == 1 || labels.size() == classes, "class labels", std::to_string(classes),
             std::to_string(labels.size()));
  const int64_t width = binary ? 2 : classes;
  ctx.output(0, labels.dtype(), {rows.count});
  ctx.output(1, DType::Float32, {rows.count, width});
  return [=](RunContext& run) {
    const std::vector<double> x = numbers(run.input(0));
    std::vector<double> scores(static_cast<size_t>(width));
    for (int64_t r = 0; r < rows.count; ++r) {
      for (int64_t c = 0; c < classes; ++c)
        scores[c] = dot(x.data() + r * rows.features, weights.data() + c * rows.features, rows.features) +
                    (intercepts.empty() ? 0.0 : static_cast<double>(intercepts[c]));
      const int64_t best =
          binary ? (scores[0] > 0 ? 1 : 0) : std::max_element(scores.begin(), scores.end()) - scores.begin();
      if (binary)
        binary_scores(transform, scores[0], scores.data());
      else
        apply_post_transform(transform, scores.data(), width);
      if (run.wants(0)) {
        Tensor& y = run.output(0);
        if (width > 1) {
          labels.write(y, r, best);
        } else {
          // One class alone: its label, or none.
          const bool positive = scores[0] >= (transform == PostTransform::None ? 0 : 0.5);
          if (positive && labels.size() > 0)
            labels.write(y, r, 0);
          else if (!labels.are_strings())
            y.mutable_data<int64_t>()[r] = positive ? 1 : 0;
        }
      }
      if (float* z = run.out<float>(1))
        std::transform(scores.begin(), scores.end(), z + r * width,
                       [](double v) { return static_cast<float>(v); });
    }
  };
}

Prepared prepare_linear_regressor(PrepareContext& ctx) {
  const auto a = ctx.attributes<LinearRegressorAttributes>();
  const Rows rows = prepare_rows(ctx);
  const PostTransform transform = post_transform(ctx, a.post_transform);
  const std::vector<float> weights = a.coefficients.value_or(std::vector<float>()),
                           intercepts = a.intercepts.value_or(std::vector<float>());
  ctx.expect(a.targets > 0, "attribute 'targets'", "at least 1", std::to_string(a.targets));
  const int64_t wanted = checked_mul(a.targets, rows.features, "coefficients");
  ctx.expect(static_cast<int64_t>(weights.size()) == wanted, "attribute 'coefficients'",
             std::to_string(wanted) + " values", std::to_string(weights.size()));
  ctx.expect(intercepts.empty() || static_cast<int64_t>(intercepts.size()) == a.targets,
             "attribute 'intercepts'", std::to_string(a.targets) + " values",
             std::to_string(intercepts.size()));
  ctx.output(0, DType::Float32, {rows.count, a.targets});
  return [=, targets = a.targets](RunContext& run) {
    const std::vector<double> x = numbers(run.input(0));
    std::vector<double> scores(static_cast<size_t>(targets));
    for (int64_t r = 0; r < rows.count; ++r) {
      for (int64_t t = 0; t < targets; ++t)
        scores[t] = dot(x.data() + r * rows.features, weights.data() + t * rows.features, rows.features) +
                    (intercepts.empty() ? 0.0 : static_cast<double>(intercepts[t]));
      apply_post_transform(transform, scores.data(), targets);
      std::transform(scores.begin(), scores.end(), run.out<float>(0) + r * targets,
                     [](double v) { return static_cast<float>(v); });
    }
  };
}

// ---- support vector machines

struct SvmKernel {
  enum Kind { Linear, Poly, Rbf, Sigmoid } kind = Linear;
  double gamma = 0, coef0 = 0, degree = 0;
  double operator()(const double* x, const float* v, int64_t n) const {
    if (kind == Rbf) {
      double sum = 0;
      for (int64_t i = 0; i < n; ++i)
        sum += (x[i] - static_cast<double>(v[i])) * (x[i] - static_cast<double>(v[i]));
      return std::exp(-gamma * sum);
    }
    const double product = dot(x, v, n);
    if (kind == Poly) return std::pow(gamma * product + coef0, degree);
    if (kind == Sigmoid) return std::tanh(gamma * product + coef0);
    return product;
  }
};

SvmKernel svm_kernel(PrepareContext& ctx, const std::string& type, const std::vector<float>& parameters) {
  static const std::vector<std::string> names = {"LINEAR", "POLY", "RBF", "SIGMOID"};
  const auto found = std::find(names.begin(), names.end(), type);
  ctx.expect(found != names.end(), "attribute 'kernel_type'", "LINEAR, POLY, RBF or SIGMOID",
             "'" + type + "'");
  ctx.expect(parameters.empty() || parameters.size() == 3, "attribute 'kernel_params'", "3 values",
             std::to_string(parameters.size()));
  SvmKernel kernel;
  kernel.kind = static_cast<SvmKernel::Kind>(found - names.begin());
  if (!parameters.empty())
    kernel.gamma = static_cast<double>(parameters[0]), kernel.coef0 = static_cast<double>(parameters[1]),
    kernel.degree = static_cast<double>(parameters[2]);
  return kernel;
}

Prepared prepare_svm_regressor(PrepareContext& ctx) {
  const auto a = ctx.attributes<SvmRegressorAttributes>();
  const Rows rows = prepare_rows(ctx);
  const PostTransform transform = post_transform(ctx, a.post_transform);
  const std::vector<float> weights = a.coefficients.value_or(std::vector<float>()),
                           vectors = a.support_vectors.value_or(std::vector<float>()),
                           rho = a.rho.value_or(std::vector<float>());
  ctx.expect(rho.size() == 1, "attribute 'rho'", "1 value", std::to_string(rho.size()));
  ctx.expect(a.n_supports >= 0, "attribute 'n_supports'", "at least 0", std::to_string(a.n_supports));
  // Without support vectors the coefficients are the weights of the features.
  const bool linear = a.n_supports == 0;
  const int64_t wanted = linear ? rows.features : a.n_supports;
  ctx.expect(static_cast<int64_t>(weights.size()) == wanted, "attribute 'coefficients'",
             std::to_string(wanted) + " values", std::to_string(weights.size()));
  const int64_t size = linear ? 0 : checked_mul(a.n_supports, rows.features, "support vectors");
  ctx.expect(linear || static_cast<int64_t>(vectors.size()) == size, "attribute 'support_vectors'",
             std::to_string(size) + " values", std::to_string(vectors.size()));
  const SvmKernel kernel = svm_kernel(ctx, a.kernel_type, a.kernel_params.value_or(std::vector<float>()));
  ctx.output(0, DType::Float32, {rows.count, 1});
  return [=, supports = a.n_supports, one_class = a.one_class != 0](RunContext& run) {
    const std::vector<double> x = numbers(run.input(0));
    float* out = run.out<float>(0);
    const double cost = static_cast<double>(std::max<int64_t>(supports, 1) * rows.features) * 2 + 20;
    parallel_for(rows.count, grain_for(cost), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const double* row = x.data() + r * rows.features;
        double score = static_cast<double>(rho[0]);
        if (linear) score += dot(row, weights.data(), rows.features);
        for (int64_t s = 0; s < supports; ++s)
          score += static_cast<double>(weights[s]) *
                   kernel(row, vectors.data() + s * rows.features, rows.features);
        if (one_class) score = score > 0 ? 1 : -1;
        apply_post_transform(transform, &score, 1);
        out[r] = static_cast<float>(score);
      }
    });
  };
}

// The probabilities of the classes from those of each pair: pair[i][j] is that of i against j. The method
// of Wu, Lin and Weng, 2004: a quadratic problem solved by coordinate descent.
void couple_pairs(int64_t n, const std::vector<double>& pair, double* p) {
  std::vector<double> q(static_cast<size_t>(n * n)), qp(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    p[i] = 1 / static_cast<double>(n);
    for (int64_t j = 0; j < n; ++j) {
      if (j == i) continue;
      q[i * n + i] += pair[j * n + i] * pair[j * n + i];
      q[i * n + j] = -pair[j * n + i] * pair[i * n + j];
    }
  }
  const double tolerance = 0.005 / static_cast<double>(n);
  for (int64_t turn = 0; turn < std::max<int64_t>(100, n); ++turn) {
    double total = 0, worst = 0;
    for (int64_t i = 0; i < n; ++i) {
      qp[i] = 0;
      for (int64_t j = 0; j < n; ++j) qp[i] += q[i * n + j] * p[j];
      total += p[i] * qp[i];
    }
    for (int64_t i = 0; i < n; ++i) worst = std::max(worst, std::abs(qp[i] - total));
    if (worst < tolerance) return;
    for (int64_t i = 0; i < n; ++i) {
      const double step = (total - qp[i]) / q[i * n + i], shrink = 1 / (1 + step);
      p[i] += step;
      total = (total + step * (step * q[i * n + i] + 2 * qp[i])) * shrink * shrink;
      for (int64_t j = 0; j < n; ++j) {
        qp[j] = (qp[j] + step * q[i * n + j]) * shrink;
        p[j] *= shrink;
      }
    }
  }
}

struct Svm {
  Rows rows;
  Labels labels;
  PostTransform transform;
  SvmKernel kernel;
  std::vector<float> weights, vectors, rho, prob_a, prob_b;
  std::vector<int64_t> starts;  // first support vector of each class, and their number
  int64_t classes = 1, supports = 0, width = 0;
  int64_t pairs() const { return classes * (classes - 1) / 2; }
  bool has_probabilities() const { return supports > 0 && !prob_a.empty(); }

  // Raw scores; with support vectors also the votes of the duels between classes.
  void duels(const double* row, std::vector<double>& similarity, std::vector<double>& scores,
             std::vector<double>& votes) const {
    for (int64_t s = 0; s < supports; ++s)
      similarity[s] = kernel(row, vectors.data() + s * rows.features, rows.features);
    std::fill(votes.begin(), votes.end(), 0.0);
    int64_t duel = 0;
    for (int64_t i = 0; i < classes; ++i) {
      for (int64_t j = i + 1; j < classes; ++j, ++duel) {
        double sum = static_cast<double>(rho[duel]);
        for (int64_t s = starts[i]; s < starts[i + 1]; ++s)
          sum += static_cast<double>(weights[(j - 1) * supports + s]) * similarity[s];
        for (int64_t s = starts[j]; s < starts[j + 1]; ++s)
          sum += static_cast<double>(weights[i * supports + s]) * similarity[s];
        scores[duel] = sum;
        ++votes[sum > 0 ? i : j];
      }
    }
  }

  void probabilities(const std::vector<double>& scores, double* out) const {
    std::vector<double> pair(static_cast<size_t>(classes * classes));
    int64_t duel = 0;
    for (int64_t i = 0; i < classes; ++i) {
      for (int64_t j = i + 1; j < classes; ++j, ++duel) {
        const double raw = 1 - logistic(scores[duel] * static_cast<double>(prob_a[duel]) +
                                        static_cast<double>(prob_b[duel]));
        pair[i * classes + j] = std::clamp(raw, 1e-7, 1 - 1e-7);
        pair[j * classes + i] = 1 - pair[i * classes + j];
      }
    }
    couple_pairs(classes, pair, out);
  }

  void run(RunContext& context) const {
    const std::vector<double> x = numbers(context.input(0));
    const double cost = static_cast<double>(std::max<int64_t>(supports, classes) * rows.features) * 2 + 50;
    parallel_for(rows.count, grain_for(cost), [&](int64_t begin, int64_t end) {
      std::vector<double> similarity(static_cast<size_t>(supports)),
          scores(static_cast<size_t>(std::max(classes, pairs()))), votes(static_cast<size_t>(classes));
      for (int64_t r = begin; r < end; ++r) {
        const double* row = x.data() + r * rows.features;
        int64_t count = classes, best;
        if (supports > 0) {
          duels(row, similarity, scores, votes);
          count = pairs();
          best = std::max_element(votes.begin(), votes.end()) - votes.begin();
        } else {
          for (int64_t c = 0; c < classes; ++c)
            scores[c] =
                static_cast<double>(rho[0]) + dot(row, weights.data() + c * rows.features, rows.features);
          best = std::max_element(scores.begin(), scores.begin() + classes) - scores.begin();
        }
        if (has_probabilities()) {
          std::vector<double> raw = scores;
          probabilities(raw, scores.data());
          count = classes;
        }
        write(context, r, best, scores, count, supports > 0 ? votes[best] : scores[best]);
      }
    });
  }

  void write(RunContext& context, int64_t r, int64_t best, std::vector<double>& scores, int64_t count,
             double weight) const {
    if (context.wants(0)) {
      Tensor& y = context.output(0);
      if (labels.size() > 1)
        labels.write(y, r, best);
      else if (weight > 0 && labels.size() == 1)
        labels.write(y, r, 0);
      else if (!labels.are_strings())
        y.mutable_data<int64_t>()[r] = weight > 0 ? 1 : 0;
    }
    float* z = context.out<float>(1);
    if (!z) return;
    std::vector<double> out(scores.begin(), scores.begin() + count);
    if (count == 1 && width == 2) {
      out.resize(2);
      binary_scores(transform, scores[0], out.data());
    } else {
      apply_post_transform(transform, out.data(), count);
    }
    for (int64_t i = 0; i < width; ++i) z[r * width + i] = static_cast<float>(out[i]);
  }
};

Prepared prepare_svm_classifier(PrepareContext& ctx) {
  const auto a = ctx.attributes<SvmClassifierAttributes>();
  Svm m;
  m.rows = prepare_rows(ctx);
  m.labels = prepare_labels(ctx, a.classlabels_ints, a.classlabels_strings);
  m.transform = post_transform(ctx, a.post_transform);
  m.kernel = svm_kernel(ctx, a.kernel_type, a.kernel_params.value_or(std::vector<float>()));
  m.weights = a.coefficients.value_or(std::vector<float>());
  m.vectors = a.support_vectors.value_or(std::vector<float>());
  m.rho = a.rho.value_or(std::vector<float>());
  m.prob_a = a.prob_a.value_or(std::vector<float>());
  m.prob_b = a.prob_b.value_or(std::vector<float>());
  m.classes = std::max<int64_t>(m.labels.size(), 1);
  ctx.expect(m.classes < (1 << 20), "number of classes", "less than a million", std::to_string(m.classes));
  m.starts.push_back(0);
  for (int64_t n : a.vectors_per_class.value_or(std::vector<int64_t>())) {
    ctx.expect(n >= 0, "attribute 'vectors_per_class'", "counts of at least 0", std::to_string(n));
    m.supports = checked_add(m.supports, n, "support vectors");
    m.starts.push_back(m.supports);
  }
  const auto expect_size = [&](const char* name, size_t got, int64_t wanted) {
    ctx.expect(static_cast<int64_t>(got) == wanted, std::string("attribute '") + name + "'",
               std::to_string(wanted) + " values", std::to_string(got));
  };
  if (m.supports > 0) {
    ctx.expect(m.classes >= 2, "class labels", "at least 2", std::to_string(m.labels.size()));
    expect_size("vectors_per_class", m.starts.size() - 1, m.classes);
    expect_size("support_vectors", m.vectors.size(),
                checked_mul(m.supports, m.rows.features, "support vectors"));
    expect_size("coefficients", m.weights.size(), checked_mul(m.supports, m.classes - 1, "coefficients"));
    expect_size("rho", m.rho.size(), m.pairs());
    if (!m.prob_a.empty()) expect_size("prob_a", m.prob_a.size(), m.pairs());
    expect_size("prob_b", m.prob_b.size(), static_cast<int64_t>(m.prob_a.size()));
    m.width = m.has_probabilities() ? m.classes : m.pairs() == 1 ? 2 : m.pairs();
  } else {
    expect_size("coefficients", m.weights.size(), checked_mul(m.classes, m.rows.features, "coefficients"));
    ctx.expect(!m.rho.empty(), "attribute 'rho'", "at least 1 value", "0");
    m.width = m.classes;
  }
  ctx.output(0, m.labels.dtype(), {m.rows.count});
  ctx.output(1, DType::Float32, {m.rows.count, m.width});
  return [m](RunContext& run) { m.run(run); };
}

}  // namespace

void register_ml_linear(KernelRegistry& registry) {
  registry.ref("LinearClassifier", prepare_linear_classifier, kMlDomain);
  registry.ref("LinearRegressor", prepare_linear_regressor, kMlDomain);
  registry.ref("SVMClassifier", prepare_svm_classifier, kMlDomain);
  registry.ref("SVMRegressor", prepare_svm_regressor, kMlDomain);
}

}  // namespace sardonyx::cpu
