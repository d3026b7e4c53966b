// The feature operators of domain ai.onnx.ml, and what the family shares.
#include "providers/cpu/ml.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <unordered_map>

#include "graph/shape.h"
#include "ops/ml.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"

namespace sardonyx::cpu {

using MlNumbers = Types<float, double, int64_t, int32_t>;

std::vector<double> numbers(const Tensor& tensor) {
  std::vector<double> values(static_cast<size_t>(tensor.size()));
  visit<MlNumbers>(tensor.dtype(), [&]<typename T>() {
    std::transform(tensor.data<T>(), tensor.data<T>() + tensor.size(), values.begin(),
                   [](T v) { return static_cast<double>(v); });
  });
  return values;
}

Rows prepare_rows(PrepareContext& ctx) {
  const Dims& dims = ctx.dims(0);
  ctx.expect(dims.size() == 1 || dims.size() == 2, "input 'X'", "rank 1 or 2", to_string(dims));
  ctx.expect(visit<MlNumbers>(ctx.dtype(0), []<typename T>() {}), "input 'X'",
             "float, double, int64 or int32", dtype_name(ctx.dtype(0)));
  return dims.size() == 1 ? Rows{1, dims[0]} : Rows{dims[0], dims[1]};
}

PostTransform post_transform(PrepareContext& ctx, const std::string& name) {
  const std::vector<std::string> names = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
  const auto found = std::find(names.begin(), names.end(), name);
  ctx.expect(found != names.end(), "attribute 'post_transform'",
             "NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO or PROBIT", "'" + name + "'");
  return static_cast<PostTransform>(found - names.begin());
}

double logistic(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }

namespace {

// The approximate quantile of the normal distribution that the reference implementations use.
double probit(double p) {
  const double x = 2 * p - 1, rest = (1 - x) * (1 + x);
  if (rest == 0) return 0;
  const double log = std::log(rest), v = 2 / (std::numbers::pi * 0.147) + 0.5 * log;
  return std::copysign(1.41421356, x) * std::sqrt(std::sqrt(v * v - log / 0.147) - v);
}

void softmax(double* scores, int64_t n, bool keep_zeros) {
  const double max = *std::max_element(scores, scores + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    // SOFTMAX_ZERO leaves a score of zero at zero.
    const bool zero = keep_zeros && std::abs(scores[i]) <= 1e-7;
    scores[i] = zero ? scores[i] * std::exp(-max) : std::exp(scores[i] - max);
    sum += scores[i];
  }
  for (int64_t i = 0; i < n; ++i) scores[i] = sum == 0 ? 0.5 : scores[i] / sum;
}

}  // namespace

void apply_post_transform(PostTransform transform, double* scores, int64_t n) {
  if (n == 0) return;
  switch (transform) {
    case PostTransform::None:
      return;
    case PostTransform::Softmax:
      return softmax(scores, n, false);
    case PostTransform::SoftmaxZero:
      return softmax(scores, n, true);
    case PostTransform::Logistic:
      return static_cast<void>(std::transform(scores, scores + n, scores, logistic));
    case PostTransform::Probit:
      return static_cast<void>(std::transform(scores, scores + n, scores, probit));
  }
}

void Labels::write(Tensor& out, int64_t i, int64_t index) const {
  if (are_strings())
    out.mutable_data<std::string>()[i] = strings[static_cast<size_t>(index)];
  else
    out.mutable_data<int64_t>()[i] = ints[static_cast<size_t>(index)];
}

Labels prepare_labels(PrepareContext& ctx, const std::optional<std::vector<int64_t>>& ints,
                      const std::optional<std::vector<std::string>>& strings) {
  Labels labels{ints.value_or(std::vector<int64_t>()), strings.value_or(std::vector<std::string>())};
  ctx.expect(labels.ints.empty() || labels.strings.empty(), "class labels", "integers or strings, not both");
  return labels;
}

namespace {

Prepared prepare_array_feature_extractor(PrepareContext& ctx) {
  const Dims& x = ctx.dims(0);
  ctx.expect(!x.empty(), "input 'X'", "at least rank 1");
  ctx.expect(ctx.dtype(1) == DType::Int64, "input 'Y'", "int64", dtype_name(ctx.dtype(1)));
  const int64_t picked = ctx.input(1).size(), last = x.back();
  Dims out(x.begin(), x.end() - 1);
  if (out.empty()) out.push_back(1);
  int64_t rows = element_count(out);
  out.push_back(picked);
  ctx.output(0, ctx.dtype(0), out);
  return [=](RunContext& run) {
    const int64_t* index = run.in<int64_t>(1);
    for (int64_t j = 0; j < picked; ++j)
      if (index[j] < 0 || index[j] >= last)
        run.fail("input 'Y' at " + std::to_string(j), "0 to " + std::to_string(last - 1),
                 std::to_string(index[j]));
    visit_storage(run.input(0).dtype(), [&]<typename T>() {
      const T* from = static_cast<const T*>(run.input(0).data());
      T* to = static_cast<T*>(run.output(0).mutable_data());
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t j = 0; j < picked; ++j) to[r * picked + j] = from[r * last + index[j]];
    });
  };
}

Prepared prepare_binarizer(PrepareContext& ctx) {
  const float threshold = ctx.attributes<BinarizerAttributes>().threshold;
  ctx.output(0, ctx.dtype(0), ctx.dims(0));
  ctx.may_share(0, 0);
  Prepared prepared = decline(std::string("no kernel for ") + dtype_name(ctx.dtype(0)));
  visit<MlNumbers>(ctx.dtype(0), [&]<typename T>() {
    prepared = [threshold, n = ctx.input(0).size()](RunContext& run) {
      std::transform(run.in<T>(0), run.in<T>(0) + n, run.out<T>(0), [threshold](T v) {
        return static_cast<double>(v) > static_cast<double>(threshold) ? T(1) : T(0);
      });
    };
  });
  return prepared;
}

Prepared prepare_feature_vectorizer(PrepareContext& ctx) {
  const auto given = ctx.attributes<FeatureVectorizerAttributes>().inputdimensions;
  ctx.expect(!given || given->size() == ctx.input_count(), "attribute 'inputdimensions'",
             std::to_string(ctx.input_count()) + " sizes",
             std::to_string(given.value_or(std::vector<int64_t>()).size()));
  std::vector<int64_t> have, wanted;
  int64_t rows = 0, width = 0;
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    const Dims& dims = ctx.dims(i);
    ctx.expect(dims.size() == 1 || dims.size() == 2, "input " + std::to_string(i), "rank 1 or 2",
               to_string(dims));
    ctx.expect(visit<MlNumbers>(ctx.dtype(i), []<typename T>() {}), "input " + std::to_string(i),
               "float, double, int64 or int32", dtype_name(ctx.dtype(i)));
    const int64_t count = dims.size() == 1 ? 1 : dims[0];
    if (i == 0) rows = count;
    ctx.expect(count == rows, "rows of input " + std::to_string(i), std::to_string(rows),
               std::to_string(count));
    have.push_back(dims.back());
    wanted.push_back(given ? (*given)[i] : dims.back());
    ctx.expect(wanted.back() >= 0, "attribute 'inputdimensions'", "sizes of at least 0",
               std::to_string(wanted.back()));
    width = checked_add(width, wanted.back(), "output width");
  }
  ctx.output(0, DType::Float32, {rows, width});
  return [=](RunContext& run) {
    float* out = run.out<float>(0);
    int64_t column = 0;
    for (size_t i = 0; i < have.size(); ++i) {
      visit<MlNumbers>(run.input(i).dtype(), [&]<typename T>() {
        const T* from = run.in<T>(i);
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t c = 0; c < wanted[i]; ++c)
            out[r * width + column + c] = c < have[i] ? static_cast<float>(from[r * have[i] + c]) : 0.0f;
      });
      column += wanted[i];
    }
  };
}

template <typename T>
Prepared imputer_of(PrepareContext& ctx, const std::vector<T>& values, T replaced) {
  const int64_t features = ctx.dims(0).empty() ? 1 : ctx.dims(0).back();
  const auto count = static_cast<int64_t>(values.size());
  ctx.expect(count == 1 || (count == features && count > 0), "attribute 'imputed_value_*'",
             "1 or " + std::to_string(features) + " values", std::to_string(count));
  return [=, n = ctx.input(0).size()](RunContext& run) {
    const T* x = run.in<T>(0);
    T* y = run.out<T>(0);
    for (int64_t i = 0; i < n; ++i) {
      bool match = x[i] == replaced;
      if constexpr (std::is_floating_point_v<T>) match = match || (std::isnan(x[i]) && std::isnan(replaced));
      y[i] = match ? values[static_cast<size_t>(count == 1 ? 0 : i % features)] : x[i];
    }
  };
}

Prepared prepare_imputer(PrepareContext& ctx) {
  const auto a = ctx.attributes<ImputerAttributes>();
  ctx.output(0, ctx.dtype(0), ctx.dims(0));
  ctx.may_share(0, 0);
  Prepared prepared = decline(std::string("no kernel for ") + dtype_name(ctx.dtype(0)));
  visit<MlNumbers>(ctx.dtype(0), [&]<typename T>() {
    std::vector<T> values;
    if constexpr (std::is_floating_point_v<T>) {
      for (float v : a.imputed_value_floats.value_or(std::vector<float>()))
        values.push_back(static_cast<T>(v));
      prepared = imputer_of<T>(ctx, values, static_cast<T>(a.replaced_value_float));
    } else {
      for (int64_t v : a.imputed_value_int64s.value_or(std::vector<int64_t>()))
        values.push_back(static_cast<T>(v));
      prepared = imputer_of<T>(ctx, values, static_cast<T>(a.replaced_value_int64));
    }
  });
  return prepared;
}

Prepared prepare_normalizer(PrepareContext& ctx) {
  const std::string norm = ctx.attributes<NormalizerAttributes>().norm;
  ctx.expect(norm == "MAX" || norm == "L1" || norm == "L2", "attribute 'norm'", "MAX, L1 or L2",
             "'" + norm + "'");
  const Rows rows = prepare_rows(ctx);
  ctx.output(0, DType::Float32, ctx.dims(0));
  return [=](RunContext& run) {
    visit<MlNumbers>(run.input(0).dtype(), [&]<typename T>() {
      const T* from = run.in<T>(0);
      float* to = run.out<float>(0);
      parallel_for(rows.count, grain_for(static_cast<double>(rows.features) * 3 + 5),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t r = begin; r < end; ++r) {
                       const T* x = from + r * rows.features;
                       double total = 0;
                       for (int64_t i = 0; i < rows.features; ++i) {
                         const double v = static_cast<double>(x[i]);
                         if (norm == "MAX")
                           total = std::max(total, std::abs(v));
                         else
                           total += norm == "L1" ? std::abs(v) : v * v;
                       }
                       if (norm == "L2") total = std::sqrt(total);
                       for (int64_t i = 0; i < rows.features; ++i)
                         to[r * rows.features + i] = static_cast<float>(
                             total == 0 ? static_cast<double>(x[i]) : static_cast<double>(x[i]) / total);
                     }
                   });
    });
  };
}

Prepared prepare_one_hot_encoder(PrepareContext& ctx) {
  const auto a = ctx.attributes<OneHotEncoderAttributes>();
  const bool strings = ctx.dtype(0) == DType::String;
  ctx.expect(strings || visit<MlNumbers>(ctx.dtype(0), []<typename T>() {}), "input 'X'",
             "string, float, double, int64 or int32", dtype_name(ctx.dtype(0)));
  ctx.expect(strings ? a.cats_strings.has_value() : a.cats_int64s.has_value(),
             strings ? "attribute 'cats_strings'" : "attribute 'cats_int64s'", "present for this input");
  std::unordered_map<std::string, int64_t> names;
  std::unordered_map<int64_t, int64_t> ints;
  int64_t width = 0;
  if (strings)
    for (const auto& name : *a.cats_strings) names[name] = width++;
  else
    for (int64_t value : *a.cats_int64s) ints[value] = width++;
  Dims out = ctx.dims(0);
  out.push_back(width);
  ctx.output(0, DType::Float32, out);
  return [=, allows_unknown = a.zeros != 0, n = ctx.input(0).size()](RunContext& run) {
    const Tensor& x = run.input(0);
    float* to = run.out<float>(0);
    std::fill_n(to, n * width, 0.0f);
    const auto set = [&](int64_t i, const auto& map, const auto& key) {
      const auto found = map.find(key);
      if (found != map.end())
        to[i * width + found->second] = 1;
      else if (!allows_unknown)
        run.fail("input 'X' at " + std::to_string(i), "a known category");
    };
    if (strings) {
      for (int64_t i = 0; i < n; ++i) set(i, names, x.data<std::string>()[i]);
      return;
    }
    visit<MlNumbers>(x.dtype(), [&]<typename T>() {
      for (int64_t i = 0; i < n; ++i) {
        const T v = x.data<T>()[i];
        // A float outside the integers is no category.
        if constexpr (std::is_floating_point_v<T>) {
          if (!(std::abs(v) < T(9.2e18))) {
            if (!allows_unknown) run.fail("input 'X' at " + std::to_string(i), "a known category");
            continue;
          }
        }
        set(i, ints, static_cast<int64_t>(v));
      }
    });
  };
}

Prepared prepare_scaler(PrepareContext& ctx) {
  const auto a = ctx.attributes<ScalerAttributes>();
  const Dims& dims = ctx.dims(0);
  ctx.expect(visit<MlNumbers>(ctx.dtype(0), []<typename T>() {}), "input 'X'",
             "float, double, int64 or int32", dtype_name(ctx.dtype(0)));
  const int64_t features = dims.empty() ? 1 : dims.back();
  const std::vector<float> scale = a.scale.value_or(std::vector<float>{1}),
                           offset = a.offset.value_or(std::vector<float>{0});
  for (const auto* list : {&scale, &offset})
    ctx.expect(list->size() == 1 || static_cast<int64_t>(list->size()) == features,
               "attributes 'scale' and 'offset'", "1 or " + std::to_string(features) + " values",
               std::to_string(list->size()));
  ctx.output(0, DType::Float32, dims);
  return [=, n = ctx.input(0).size()](RunContext& run) {
    visit<MlNumbers>(run.input(0).dtype(), [&]<typename T>() {
      const T* x = run.in<T>(0);
      float* y = run.out<float>(0);
      for (int64_t i = 0; i < n; ++i) {
        const auto feature = static_cast<size_t>(i % features);
        const double centred =
            static_cast<double>(x[i]) - static_cast<double>(offset[offset.size() == 1 ? 0 : feature]);
        y[i] = static_cast<float>(centred * static_cast<double>(scale[scale.size() == 1 ? 0 : feature]));
      }
    });
  };
}

}  // namespace

void register_ml(KernelRegistry& registry) {
  registry.ref("ArrayFeatureExtractor", prepare_array_feature_extractor, kMlDomain);
  registry.ref("Binarizer", prepare_binarizer, kMlDomain);
  registry.ref("FeatureVectorizer", prepare_feature_vectorizer, kMlDomain);
  registry.ref("Imputer", prepare_imputer, kMlDomain);
  registry.ref("Normalizer", prepare_normalizer, kMlDomain);
  registry.ref("OneHotEncoder", prepare_one_hot_encoder, kMlDomain);
  registry.ref("Scaler", prepare_scaler, kMlDomain);
}

}  // namespace sardonyx::cpu
