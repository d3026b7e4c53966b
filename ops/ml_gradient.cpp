// Gradients in the domain ai.onnx.ml: of the operators that are formulas of their floats. The outputs are f32
// whatever the input is.
#include <cmath>

#include "ops/ml.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

ValueId numbers(Differentiate& d, const std::vector<float>& values, Dims dims) {
  const ValueId id = d.builder().constant(Tensor::of(values, std::move(dims)));
  return d.dtype(0) == DType::Float32 ? id : d.cast(id, d.dtype(0));
}

// dY in the type of X.
ValueId cotangent(Differentiate& d) {
  return d.dtype(0) == DType::Float32 ? d.cotangent() : d.cast(d.cotangent(), d.dtype(0));
}

void scaler(Differentiate& d) {
  const auto scale = d.attributes<ScalerAttributes>().scale.value_or(std::vector<float>{1});
  const Dims dims = scale.size() == 1 ? Dims{} : Dims{static_cast<int64_t>(scale.size())};
  d.give(0, d.mul(cotangent(d), numbers(d, scale, dims)));
}

void imputer(Differentiate& d) {
  const float replaced = d.attributes<ImputerAttributes>().replaced_value_float;
  const ValueId is_replaced = std::isnan(replaced) ? d.op("IsNaN", {d.in(0)})
                                                   : d.op("Equal", {d.in(0), d.scalar(d.dtype(0), replaced)});
  d.give(0, d.where(is_replaced, d.scalar(d.dtype(0), 0), d.cotangent()));
}

// Of y = x / n(x) along the last axis: (dY - n'(x) * sum(dY * y)) / n. A row of zeros is kept as it is.
void normalizer(Differentiate& d) {
  const std::string norm = d.attributes<NormalizerAttributes>().norm;
  const ValueId x = d.in(0), dy = cotangent(d), zero = d.scalar(d.dtype(0), 0), one = d.scalar(d.dtype(0), 1);
  const ValueId last = d.ints({-1}), size = d.op("Abs", {x});
  const ValueId n = norm == "MAX" ? d.op("ReduceMax", {size, last})
                                  : d.op(norm == "L1" ? "ReduceL1" : "ReduceL2", {x, last});
  const ValueId empty = d.op("Equal", {n, zero}), safe = d.where(empty, one, n);
  const ValueId y = d.div(x, safe);
  ValueId slope = norm == "L2" ? y : d.op("Sign", {x});
  if (norm == "MAX") {
    const ValueId hit = d.number(d.op("Equal", {size, n}), d.dtype(0));
    slope = d.mul(slope, d.div(hit, d.reduce_sum(hit, {-1})));
  }
  const ValueId through_norm = d.mul(slope, d.reduce_sum(d.mul(dy, y), {-1}));
  d.give(0, d.where(empty, dy, d.div(d.sub(dy, through_norm), safe)));
}

}  // namespace

void register_ml_gradient(OperatorRegistry& r) {
  const auto op = [&r](const char* name) -> Operator& { return r.op(name, "ai.onnx.ml"); };
  op("Scaler").differentiates(scaler);
  op("Imputer").differentiates(imputer);
  op("Normalizer").differentiates(normalizer);
  // Steps of their inputs.
  for (const char* name : {"Binarizer", "LabelEncoder", "OneHotEncoder", "TreeEnsemble",
                           "TreeEnsembleClassifier", "TreeEnsembleRegressor"})
    op(name).gradient_is_zero();
  for (const char* name : {"CastMap", "DictVectorizer", "ZipMap"})
    op(name).non_differentiable("ONNX has no operators for the cotangents of maps");
}

}  // namespace sardonyx
