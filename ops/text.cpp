#include "ops/text.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_text(OperatorRegistry& registry) {
  registry.op("StringNormalizer").attributes<StringNormalizerAttributes>();
  registry.op("StringSplit").attributes<StringSplitAttributes>();
  registry.op("RegexFullMatch").attributes<RegexFullMatchAttributes>();
  registry.op("TfIdfVectorizer").attributes<TfIdfVectorizerAttributes>();
}

}  // namespace sardonyx
