#include "ops/random.h"

#include "ops/registry/operator.h"

namespace sardonyx {

void register_random(OperatorRegistry& registry) {
  registry.op("RandomNormal").attributes<RandomNormalAttributes>().random();
  registry.op("RandomUniform").attributes<RandomUniformAttributes>().random();
  registry.op("RandomNormalLike").attributes<RandomNormalLikeAttributes>().random().gradient_is_zero();
  registry.op("RandomUniformLike").attributes<RandomUniformLikeAttributes>().random().gradient_is_zero();
  registry.op("Bernoulli")
      .attributes<BernoulliAttributes>()
      .random()
      .non_differentiable("it draws its output, whose distribution alone depends on the input");
  registry.op("Multinomial")
      .attributes<MultinomialAttributes>()
      .random()
      .non_differentiable("its outputs are indices");
}

}  // namespace sardonyx
