// The operators of domain ai.onnx.ml.
#include "ops/ml.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_ml(OperatorRegistry& registry) {
  const auto op = [&registry](const char* name) -> Operator& { return registry.op(name, "ai.onnx.ml"); };
  op("Binarizer").attributes<BinarizerAttributes>();
  op("CastMap").attributes<CastMapAttributes>();
  op("CategoryMapper").attributes<CategoryMapperAttributes>();
  op("DictVectorizer").attributes<DictVectorizerAttributes>();
  op("FeatureVectorizer").attributes<FeatureVectorizerAttributes>();
  op("Imputer").attributes<ImputerAttributes>();
  op("LabelEncoder").attributes<LabelEncoderAttributes>();
  op("LinearClassifier").attributes<LinearClassifierAttributes>();
  op("LinearRegressor").attributes<LinearRegressorAttributes>();
  op("Normalizer").attributes<NormalizerAttributes>();
  op("OneHotEncoder").attributes<OneHotEncoderAttributes>();
  op("SVMClassifier").attributes<SvmClassifierAttributes>();
  op("SVMRegressor").attributes<SvmRegressorAttributes>();
  op("Scaler").attributes<ScalerAttributes>();
  op("TreeEnsemble").attributes<TreeEnsembleAttributes>();
  op("TreeEnsembleClassifier").attributes<TreeEnsembleClassifierAttributes>();
  op("TreeEnsembleRegressor").attributes<TreeEnsembleRegressorAttributes>();
  op("ZipMap").attributes<ZipMapAttributes>();
}

}  // namespace sardonyx
