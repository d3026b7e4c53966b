#include "ops/random.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_random(OperatorRegistry& registry) {
  registry.op("RandomNormal").attributes<RandomNormalAttributes>().random();
  registry.op("RandomUniform").attributes<RandomUniformAttributes>().random();
  registry.op("RandomNormalLike").attributes<RandomNormalLikeAttributes>().random();
  registry.op("RandomUniformLike").attributes<RandomUniformLikeAttributes>().random();
  registry.op("Bernoulli").attributes<BernoulliAttributes>().random();
  registry.op("Multinomial").attributes<MultinomialAttributes>().random();
}

}  // namespace sardonyx
