#include "tests/support/models.h"

namespace sardonyx::test {

LoadedModel model_of(GraphBuilder builder) {
  auto model = std::make_shared<Model>();
  model->graph = std::move(builder).build();
  model->ir_version = 10;
  return LoadedModel(model);
}

}  // namespace sardonyx::test
