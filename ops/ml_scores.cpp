// Linear models and support vector machines written out in ai.onnx: what their gradients are those of. Scores
// are computed in the type of X and rounded to f32 at the end, as the kernels do it. Labels are integers or
// strings, through which nothing flows.
#include <cmath>
#include <numbers>

#include "ops/ml.h"
#include "ops/registry/operator.h"

namespace sardonyx {

namespace {

using Floats = std::vector<float>;

void expect(bool holds, const std::string& what, const std::string& expected, const std::string& got = "") {
  if (!holds) throw ModelError(what, expected, got);
}
void expect_size(const char* name, size_t got, size_t wanted) {
  expect(got == wanted, std::string("attribute '") + name + "'", std::to_string(wanted) + " values",
         std::to_string(got));
}

// Formulas in one float type.
class Formula {
 public:
  Formula(Compose& c, DType dtype) : c_(c), dtype_(dtype) {}

  DType dtype() const { return dtype_; }
  ValueId number(double v) { return c_.scalar(dtype_, v); }
  ValueId numbers(const std::vector<double>& values, Dims dims) {
    if (dtype_ == DType::Float64) return c_.builder().constant(Tensor::of(values, std::move(dims)));
    return c_.builder().constant(Tensor::of(Floats(values.begin(), values.end()), std::move(dims)));
  }
  ValueId numbers(const Floats& values, Dims dims) {
    return numbers(std::vector<double>(values.begin(), values.end()), std::move(dims));
  }
  // A matrix given by rows, its columns first.
  ValueId transposed(const Floats& rows, size_t count) {
    const size_t width = count ? rows.size() / count : 0;
    Floats columns(count * width);
    for (size_t r = 0; r < count; ++r)
      for (size_t i = 0; i < width; ++i) columns[i * count + r] = rows[r * width + i];
    return numbers(columns, {static_cast<int64_t>(width), static_cast<int64_t>(count)});
  }
  // The rows of X: a vector is one.
  ValueId rows() {
    const int rank = c_.need_rank(0);
    expect(rank == 1 || rank == 2, "input 'X'", "rank 1 or 2", std::to_string(rank));
    return rank == 2 ? c_.in(0) : c_.op("Unsqueeze", {c_.in(0), c_.ints({0})});
  }
  ValueId over_last(const char* reduction, ValueId x) {
    return c_.op(reduction, {x, c_.ints({-1})}, attributes({{"keepdims", int64_t{1}}}));
  }
  ValueId both(ValueId a, ValueId b, int64_t axis) {
    return c_.op("Concat", {a, b}, attributes({{"axis", axis}}));
  }
  // x and its opposite for two classes of which one score decides.
  ValueId of_two(ValueId x) { return both(c_.neg(x), x, 1); }

  ValueId post_transform(const std::string& name, ValueId scores) {
    if (name == "NONE") return scores;
    if (name == "SOFTMAX") return c_.op("Softmax", {scores}, attributes({{"axis", int64_t{-1}}}));
    if (name == "LOGISTIC") return c_.op("Sigmoid", {scores});
    if (name == "SOFTMAX_ZERO") return softmax_zero(scores);
    expect(name == "PROBIT", "attribute 'post_transform'", "NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO or PROBIT",
           "'" + name + "'");
    return probit(scores);
  }

  ValueId as_f32(ValueId scores) {
    return dtype_ == DType::Float32 ? scores : c_.cast(scores, DType::Float32);
  }

 private:
  // A softmax in which a score of zero counts as zero. All zeros: a half each.
  ValueId softmax_zero(ValueId scores) {
    const ValueId largest = over_last("ReduceMax", scores);
    const ValueId zero = c_.op("LessOrEqual", {c_.op("Abs", {scores}), number(1e-7)});
    const ValueId parts = c_.where(zero, c_.mul(scores, c_.op("Exp", {c_.neg(largest)})),
                                   c_.op("Exp", {c_.sub(scores, largest)}));
    const ValueId sum = over_last("ReduceSum", parts);
    const ValueId empty = c_.op("Equal", {sum, number(0)});
    return c_.where(empty, number(0.5), c_.div(parts, c_.where(empty, number(1), sum)));
  }

  // The kernels' approximate quantile of the normal distribution, sqrt(2) sign(x) sqrt(sqrt(v^2 - l / a) - v)
  // with x = 2 p - 1, l = log(1 - x^2) and v = 2 / (pi a) + l / 2. It is smooth in the middle, where these
  // roots are not: written as x times the root of an even function, whose series stands for it there.
  ValueId probit(ValueId p) {
    constexpr double kA = 0.147, kV = 2 / (std::numbers::pi * kA), kSmall = 1e-6;
    Formula f(c_, DType::Float64);  // cancels
    const ValueId x = c_.sub(c_.mul(c_.cast(p, DType::Float64), f.number(2)), f.number(1));
    const ValueId square = c_.mul(x, x), one = f.number(1);
    const ValueId rest = c_.mul(c_.sub(one, x), c_.add(one, x));
    const ValueId is_end = c_.op("Equal", {rest, f.number(0)}),
                  is_small = c_.op("Less", {square, f.number(kSmall)});
    const ValueId special = c_.op("Or", {is_end, is_small}), half = f.number(0.5);
    const ValueId log = c_.op("Log", {c_.where(special, half, rest)});
    const ValueId v = c_.add(c_.mul(log, half), f.number(kV));
    const ValueId term = c_.mul(log, f.number(-1 / kA));
    const ValueId root = c_.op("Sqrt", {c_.add(c_.mul(v, v), term)});
    const ValueId even =
        c_.op("Sqrt", {c_.div(c_.div(term, c_.add(root, v)), c_.where(special, half, square))});
    const double middle = std::sqrt(1 / (2 * kA * kV)), bend = 0.25 + 0.25 / kV - 0.125 / (kA * kV * kV);
    const ValueId series = c_.add(f.number(middle), c_.mul(square, f.number(middle * bend)));
    const ValueId y = c_.mul(c_.mul(x, f.number(1.41421356)), c_.where(is_small, series, even));
    const ValueId all = c_.where(is_end, f.number(0), y);
    return dtype_ == DType::Float64 ? all : c_.cast(all, dtype_);
  }

  Compose& c_;
  const DType dtype_;
};

// The class labels.
class Labels {
 public:
  Labels(const std::optional<std::vector<int64_t>>& ints,
         const std::optional<std::vector<std::string>>& strings)
      : ints_(ints.value_or(std::vector<int64_t>())), strings_(strings.value_or(std::vector<std::string>())) {
    expect(ints_.empty() || strings_.empty(), "class labels", "integers or strings, not both");
  }
  size_t size() const { return strings_.empty() ? ints_.size() : strings_.size(); }
  // The labels of indices.
  ValueId at(Compose& c, ValueId index) const {
    return c.op("Gather", {strings_.empty() ? c.ints(ints_) : list(c, strings_), index});
  }
  // One class alone: its label, or none.
  ValueId of_one(Compose& c, ValueId is_it) const {
    const ValueId index = c.cast(is_it, DType::Int64);
    if (!strings_.empty()) return c.op("Gather", {list(c, {"", strings_[0]}), index});
    return c.op("Gather", {c.ints({0, ints_.empty() ? 1 : ints_[0]}), index});
  }

 private:
  static ValueId list(Compose& c, const std::vector<std::string>& names) {
    return c.builder().constant(Tensor::of(names));
  }
  std::vector<int64_t> ints_;
  std::vector<std::string> strings_;
};

ValueId largest(Compose& c, ValueId x) {
  return c.op("ArgMax", {x}, attributes({{"axis", int64_t{1}}, {"keepdims", int64_t{0}}}));
}
// Whether the only score of each row is above a number.
ValueId above(Compose& c, const char* comparison, ValueId scores, ValueId number) {
  return c.op("Squeeze", {c.op(comparison, {scores, number}), c.ints({1})});
}

std::vector<ValueId> linear_regressor(Compose& c) {
  if (!is_float(c.dtype(0))) return {};
  const auto a = c.attributes<LinearRegressorAttributes>();
  const Floats weights = a.coefficients.value_or(Floats()), intercepts = a.intercepts.value_or(Floats());
  expect(a.targets > 0 && weights.size() % static_cast<size_t>(a.targets) == 0, "attribute 'coefficients'",
         "as many values for each of 'targets'", std::to_string(weights.size()));
  const auto targets = static_cast<size_t>(a.targets);
  Formula f(c, c.dtype(0));
  ValueId scores = c.op("MatMul", {f.rows(), f.transposed(weights, targets)});
  if (!intercepts.empty()) {
    expect_size("intercepts", intercepts.size(), targets);
    scores = c.add(scores, f.numbers(intercepts, {a.targets}));
  }
  return {f.as_f32(f.post_transform(a.post_transform, scores))};
}

// How many rows of weights there are.
size_t linear_classes(Compose& c, const LinearClassifierAttributes& a, size_t labels) {
  const size_t weights = a.coefficients.value_or(Floats()).size();
  const Type& x = c.type(0);
  size_t classes = labels;
  if (x.shape && !x.shape->empty() && x.shape->back().known() && x.shape->back().value > 0)
    classes = weights / static_cast<size_t>(x.shape->back().value);
  else if (a.intercepts && !a.intercepts->empty())
    classes = a.intercepts->size();
  classes = std::max<size_t>(classes, 1);
  expect(weights > 0 && weights % classes == 0, "attribute 'coefficients'", "as many values for each class",
         std::to_string(weights));
  expect(classes == 1 || classes == labels, "class labels", std::to_string(classes), std::to_string(labels));
  return classes;
}

std::vector<ValueId> linear_classifier(Compose& c) {
  if (!is_float(c.dtype(0))) return {};
  const auto a = c.attributes<LinearClassifierAttributes>();
  const Labels labels(a.classlabels_ints, a.classlabels_strings);
  const size_t classes = linear_classes(c, a, labels.size());
  Formula f(c, c.dtype(0));
  ValueId scores = c.op("MatMul", {f.rows(), f.transposed(a.coefficients.value_or(Floats()), classes)});
  if (a.intercepts && !a.intercepts->empty()) {
    expect_size("intercepts", a.intercepts->size(), classes);
    scores = c.add(scores, f.numbers(*a.intercepts, {static_cast<int64_t>(classes)}));
  }
  const bool is_binary = classes == 1 && labels.size() == 2;
  const ValueId given = f.post_transform(a.post_transform, is_binary ? f.of_two(scores) : scores);
  ValueId label = kNone;
  if (c.wants(0)) {
    if (is_binary)
      label = labels.at(c, c.cast(above(c, "Greater", scores, f.number(0)), DType::Int64));
    else if (classes > 1)
      label = labels.at(c, largest(c, scores));
    else
      label =
          labels.of_one(c, above(c, "GreaterOrEqual", given, f.number(a.post_transform == "NONE" ? 0 : 0.5)));
  }
  return {label, f.as_f32(given)};
}

// The similarity of each row of x to each support vector.
ValueId similarities(Compose& c, Formula& f, ValueId x, const Floats& vectors, size_t supports,
                     const std::string& kernel, const std::optional<Floats>& parameters) {
  const Floats p = parameters.value_or(Floats());
  expect(p.empty() || p.size() == 3, "attribute 'kernel_params'", "3 values", std::to_string(p.size()));
  const auto number = [&](size_t i) { return f.number(p.empty() ? 0 : static_cast<double>(p[i])); };
  const ValueId product = c.op("MatMul", {x, f.transposed(vectors, supports)});
  if (kernel == "LINEAR") return product;
  if (kernel == "RBF") {
    std::vector<double> squares(supports, 0);
    for (size_t i = 0; i < vectors.size(); ++i)
      squares[i / (vectors.size() / supports)] += std::pow(static_cast<double>(vectors[i]), 2);
    const ValueId distance =
        c.sub(c.add(f.over_last("ReduceSumSquare", x), f.numbers(squares, {static_cast<int64_t>(supports)})),
              c.mul(product, f.number(2)));
    return c.op("Exp", {c.neg(c.mul(distance, number(0)))});
  }
  const ValueId argument = c.add(c.mul(product, number(0)), number(1));
  if (kernel == "POLY") return c.op("Pow", {argument, number(2)});
  expect(kernel == "SIGMOID", "attribute 'kernel_type'", "LINEAR, POLY, RBF or SIGMOID", "'" + kernel + "'");
  return c.op("Tanh", {argument});
}

size_t features_of(const char* name, size_t values, size_t rows) {
  expect(values % rows == 0, std::string("attribute '") + name + "'", "as many values for each row",
         std::to_string(values));
  return values / rows;
}

std::vector<ValueId> svm_regressor(Compose& c) {
  if (!is_float(c.dtype(0))) return {};
  const auto a = c.attributes<SvmRegressorAttributes>();
  const Floats weights = a.coefficients.value_or(Floats()), vectors = a.support_vectors.value_or(Floats());
  expect_size("rho", a.rho.value_or(Floats()).size(), 1);
  expect(a.n_supports >= 0, "attribute 'n_supports'", "at least 0", std::to_string(a.n_supports));
  const auto supports = static_cast<size_t>(a.n_supports);
  Formula f(c, c.dtype(0));
  ValueId x = f.rows();
  if (supports > 0) {
    expect_size("coefficients", weights.size(), supports);
    features_of("support_vectors", vectors.size(), supports);
    x = similarities(c, f, x, vectors, supports, a.kernel_type, a.kernel_params);
  }
  ValueId score = c.add(c.op("MatMul", {x, f.transposed(weights, 1)}), f.numbers(*a.rho, {1}));
  if (a.one_class != 0) score = c.where(c.op("Greater", {score, f.number(0)}), f.number(1), f.number(-1));
  return {f.as_f32(f.post_transform(a.post_transform, score))};
}

// The duels between the classes of a support vector machine: i against each j behind it, then i + 1.
class Duels {
 public:
  Duels(Compose& c, size_t classes) : c_(c), n_(static_cast<int64_t>(classes)) {}
  int64_t classes() const { return n_; }
  int64_t count() const { return n_ * (n_ - 1) / 2; }

  // What the support vectors of class k add to the duels, by rows of the weights [n - 1, supports]: those of
  // row j - 1 are for the duel with a class j behind k, those of row i for that with a class i before it.
  ValueId scores(Formula& f, ValueId similarities, const Floats& weights,
                 const std::vector<int64_t>& per_class) {
    const std::vector<ValueId> parts = c_.ops("Split", {similarities, c_.ints(per_class)}, per_class.size(),
                                              attributes({{"axis", int64_t{1}}}));
    const size_t rows = static_cast<size_t>(n_ - 1), supports = weights.size() / rows;
    std::vector<ValueId> sums;
    size_t first = 0;
    for (size_t k = 0; k < parts.size(); ++k) {
      const auto count = static_cast<size_t>(per_class[k]);
      Floats block;
      for (size_t r = 0; r < rows; ++r)
        block.insert(block.end(), weights.begin() + static_cast<std::ptrdiff_t>(r * supports + first),
                     weights.begin() + static_cast<std::ptrdiff_t>(r * supports + first + count));
      sums.push_back(c_.op("MatMul", {parts[k], f.transposed(block, rows)}));
      first += count;
    }
    const ValueId all = c_.op("Concat", std::move(sums), attributes({{"axis", int64_t{1}}}));
    std::vector<int64_t> of_first, of_second;
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t j = i + 1; j < n_; ++j) {
        of_first.push_back(i * (n_ - 1) + j - 1);
        of_second.push_back(j * (n_ - 1) + i);
      }
    return c_.add(columns(all, std::move(of_first)), columns(all, std::move(of_second)));
  }

  // Of a number x of each duel [rows, duels]: x of i against j, 1 - x of j against i, zeros between
  // [rows, n, n].
  ValueId square(Formula& f, ValueId x) {
    const ValueId both = f.both(x, c_.sub(f.number(1), x), 1);
    std::vector<int64_t> places(static_cast<size_t>(n_ * n_), 2 * count());
    for (int64_t i = 0, duel = 0; i < n_; ++i)
      for (int64_t j = i + 1; j < n_; ++j, ++duel) {
        places[static_cast<size_t>(i * n_ + j)] = duel;
        places[static_cast<size_t>(j * n_ + i)] = count() + duel;
      }
    const ValueId padded = c_.op("Pad", {both, c_.ints({0, 0, 0, 1})});
    return c_.op("Reshape", {columns(padded, std::move(places)), c_.ints({0, n_, n_})});
  }

  // The first class with the most duels won.
  ValueId winner(Formula& f, ValueId scores) {
    const ValueId won = c_.cast(c_.op("Greater", {scores, f.number(0)}), f.dtype());
    return largest(c_, c_.reduce_sum(square(f, won), {2}, false));
  }

 private:
  ValueId columns(ValueId x, std::vector<int64_t> places) {
    return c_.op("Gather", {x, c_.ints(std::move(places))}, attributes({{"axis", int64_t{1}}}));
  }
  Compose& c_;
  const int64_t n_;
};

// One step of the elimination: of equations [rows, n, n + 1], the one at the place of the 1 is solved and
// taken out of the others.
GraphPtr elimination_step(int64_t n) {
  GraphBuilder body("elimination");
  const Node none;
  Compose c(body, none);
  const ValueId equations =
      body.input("equations", Type::tensor(DType::Float64, Shape{Dim(), Dim(n), Dim(n + 1)}));
  const ValueId place = body.input("place", Type::tensor(DType::Float64, Shape{Dim(n)}));
  const ValueId row = c.op("MatMul", {c.op("Unsqueeze", {place, c.ints({0})}), equations});
  const ValueId column_of_place = c.op("Unsqueeze", {place, c.ints({1})});
  const ValueId coefficients = c.op("Slice", {equations, c.ints({0}), c.ints({n}), c.ints({2})});
  const ValueId column = c.op("MatMul", {coefficients, column_of_place});
  const ValueId pivot = c.op("MatMul", {c.op("Unsqueeze", {place, c.ints({0})}), column});
  body.output(c.sub(equations, c.mul(c.sub(column, column_of_place), c.div(row, pivot))));
  return std::move(body).build();
}

// The probabilities p of the classes that fit best to those of each duel, r[i][j] of i against j: the
// smallest sum of (r[j][i] p[i] - r[i][j] p[j])^2, to which the iteration of the kernel comes close. Such p
// is the solution of (Q + 1) p = 1 but for its sum, where Q has the sums of r[j][i]^2 on its diagonal and
// -r[j][i] r[i][j] elsewhere; Q + 1 is positive definite, so that no pivot is zero.
ValueId probabilities(Compose& c, Duels& duels, ValueId scores, const Floats& a, const Floats& b) {
  Formula f(c, DType::Float64);
  const int64_t n = duels.classes();
  const ValueId argument = c.add(c.mul(c.cast(scores, DType::Float64), f.numbers(a, {duels.count()})),
                                 f.numbers(b, {duels.count()}));
  const ValueId r =
      duels.square(f, c.op("Clip", {c.op("Sigmoid", {c.neg(argument)}), f.number(1e-7), f.number(1 - 1e-7)}));
  Floats eye(static_cast<size_t>(n * n), 0);
  for (size_t i = 0; i < eye.size(); i += static_cast<size_t>(n) + 1) eye[i] = 1;
  const ValueId identity = f.numbers(eye, {n, n});
  const ValueId diagonal = c.mul(c.reduce_sum(c.mul(r, r), {1}), identity);
  const ValueId q = c.sub(diagonal, c.mul(r, c.transpose(r, {0, 2, 1})));
  const ValueId one_more = c.op("Pad", {c.add(q, f.number(1)), c.ints({0, 0, 0, 0, 0, 1}), f.number(1)});
  const ValueId solved = c.op("Scan", {one_more, identity},
                              attributes({{"num_scan_inputs", int64_t{1}}, {"body", elimination_step(n)}}));
  const ValueId p =
      c.op("Squeeze", {c.op("Slice", {solved, c.ints({n}), c.ints({n + 1}), c.ints({2})}), c.ints({2})});
  return c.div(p, f.over_last("ReduceSum", p));
}

std::vector<ValueId> svm_classifier(Compose& c) {
  if (!is_float(c.dtype(0))) return {};
  const auto a = c.attributes<SvmClassifierAttributes>();
  const Labels labels(a.classlabels_ints, a.classlabels_strings);
  const Floats weights = a.coefficients.value_or(Floats()), vectors = a.support_vectors.value_or(Floats()),
               rho = a.rho.value_or(Floats()), prob_a = a.prob_a.value_or(Floats()),
               prob_b = a.prob_b.value_or(Floats());
  const auto per_class = a.vectors_per_class.value_or(std::vector<int64_t>());
  const size_t classes = std::max<size_t>(labels.size(), 1);
  size_t supports = 0;
  for (const int64_t n : per_class) {
    expect(n >= 0 && static_cast<size_t>(n) <= vectors.size(), "attribute 'vectors_per_class'",
           "counts of support vectors", std::to_string(n));
    supports += static_cast<size_t>(n);
  }
  Formula f(c, c.dtype(0));
  ValueId label = kNone;
  if (supports == 0) {
    features_of("coefficients", weights.size(), classes);
    expect(!rho.empty(), "attribute 'rho'", "at least 1 value", "0");
    const ValueId scores = c.add(c.op("MatMul", {f.rows(), f.transposed(weights, classes)}),
                                 f.number(static_cast<double>(rho[0])));
    if (c.wants(0))
      label = labels.size() > 1 ? labels.at(c, largest(c, scores))
                                : labels.of_one(c, above(c, "Greater", scores, f.number(0)));
    return {label, f.as_f32(f.post_transform(a.post_transform, scores))};
  }
  expect(classes >= 2 && classes < (1 << 20), "class labels", "at least 2, less than a million",
         std::to_string(labels.size()));
  expect_size("vectors_per_class", per_class.size(), classes);
  expect_size("coefficients", weights.size(), supports * (classes - 1));
  features_of("support_vectors", vectors.size(), supports);
  Duels duels(c, classes);
  const auto pairs = static_cast<size_t>(duels.count());
  expect_size("rho", rho.size(), pairs);
  expect_size("prob_b", prob_b.size(), prob_a.size());
  const ValueId alike = similarities(c, f, f.rows(), vectors, supports, a.kernel_type, a.kernel_params);
  const ValueId scores = c.add(duels.scores(f, alike, weights, per_class), f.numbers(rho, {duels.count()}));
  if (c.wants(0)) label = labels.at(c, duels.winner(f, scores));
  if (prob_a.empty()) {
    const ValueId given = duels.count() == 1 ? f.of_two(scores) : scores;
    return {label, f.as_f32(f.post_transform(a.post_transform, given))};
  }
  expect_size("prob_a", prob_a.size(), pairs);
  Formula wide(c, DType::Float64);
  const ValueId p = probabilities(c, duels, scores, prob_a, prob_b);
  return {label, wide.as_f32(wide.post_transform(a.post_transform, p))};
}

// Each input cut off or filled up with zeros to its width.
std::vector<ValueId> feature_vectorizer(Compose& c) {
  const auto widths = c.attributes<FeatureVectorizerAttributes>().inputdimensions;
  const size_t count = c.node().inputs.size();
  if (widths) expect_size("inputdimensions", widths->size(), count);
  std::vector<ValueId> parts;
  for (size_t i = 0; i < count; ++i) {
    const int rank = c.need_rank(i);
    expect(rank == 1 || rank == 2, "input " + std::to_string(i), "rank 1 or 2", std::to_string(rank));
    const Dim have = c.type(i).shape->back();
    ValueId x = c.in(i);
    if (rank == 1) x = c.op("Unsqueeze", {x, c.ints({0})});
    if (widths) {
      const int64_t width = (*widths)[i];
      expect(width >= 0, "attribute 'inputdimensions'", "sizes of at least 0", std::to_string(width));
      if (!have.known() || have.value < width)
        x = c.op("Pad", {x, c.ints({0, 0, 0, have.known() ? width - have.value : width})});
      if (!have.known() || have.value > width)
        x = c.op("Slice", {x, c.ints({0}), c.ints({width}), c.ints({1})});
    }
    parts.push_back(x);
  }
  const ValueId all = c.op("Concat", std::move(parts), attributes({{"axis", int64_t{1}}}));
  return {c.dtype(0) == DType::Float32 ? all : c.cast(all, DType::Float32)};
}

}  // namespace

void register_ml_scores(OperatorRegistry& r) {
  const auto op = [&r](const char* name) -> Operator& { return r.op(name, "ai.onnx.ml"); };
  op("FeatureVectorizer").decomposes(feature_vectorizer);
  op("LinearClassifier").decomposes(linear_classifier);
  op("LinearRegressor").decomposes(linear_regressor);
  op("SVMClassifier").decomposes(svm_classifier);
  op("SVMRegressor").decomposes(svm_regressor);
}

}  // namespace sardonyx
