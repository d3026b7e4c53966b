// The operators of this project's own have kernels; what they are written out as for other engines, and for
// second derivatives, gives the same.
#include <gtest/gtest.h>

#include "api/pipeline.h"
#include "ops/registry/decompose.h"
#include "ops/registry/operator.h"
#include "ops/registry/schema.h"
#include "tests/support/cases.h"

namespace sardonyx::test {

TEST(OwnOperators, DecompositionsGiveWhatKernelsGive) {
  const Pipeline pipeline({"cpu"});
  int compared = 0;
  for (const Case& c : case_table().all()) {
    if (c.domain != kOwnDomain || !OperatorRegistry::instance().find(c.domain, c.op)->decompose) continue;
    SCOPED_TRACE(c.name());
    const Prepared prepared = make_model(c, 1, DType::Float64);
    const auto is_standard = [](const Node& node) { return node.domain != kOwnDomain; };
    auto written_out = std::make_shared<Model>(*prepared.model.get());
    written_out->graph =
        decompose_unsupported(infer_types(prepared.model.get()->graph, pipeline.evaluator.get()), is_standard,
                              pipeline.evaluator.get());
    for (const Node& node : written_out->graph->nodes()) EXPECT_TRUE(is_standard(node)) << node.op;
    SessionOptions plain;
    plain.prefer_kernel = "ref";
    plain.optimize = "none";
    Session kernel(prepared.model, plain), decomposed{LoadedModel(written_out)};
    const std::vector<Value> expected = kernel.run(prepared.feeds), got = decomposed.run(prepared.feeds);
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i)
      EXPECT_LE(difference(got[i], expected[i]), 1e-12) << "output " << i;
    ++compared;
  }
  EXPECT_GT(compared, 30);
}

}  // namespace sardonyx::test
