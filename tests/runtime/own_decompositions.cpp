// The operators of this project's own have kernels; what they are written out as for other engines, and for
// second derivatives, gives the same.
#include <gtest/gtest.h>

#include "ops/registry/operator.h"
#include "tests/support/cases.h"

namespace sardonyx::test {

TEST(OwnOperators, DecompositionsGiveWhatKernelsGive) {
  int compared = 0;
  for (const Case& c : case_table().all()) {
    if (c.domain != kOwnDomain || !OperatorRegistry::instance().find(c.domain, c.op)->decompose) continue;
    SCOPED_TRACE(c.name());
    const Prepared prepared = make_model(c, 1, DType::Float64);
    const LoadedModel written_out = in_standard_operators(prepared.model);
    for (const Node& node : written_out.get()->graph->nodes()) EXPECT_NE(node.domain, kOwnDomain) << node.op;
    SessionOptions plain;
    plain.prefer_kernel = "ref";
    plain.optimize = "none";
    Session kernel(prepared.model, plain), decomposed(written_out);
    const std::vector<Value> expected = kernel.run(prepared.feeds), got = decomposed.run(prepared.feeds);
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i)
      EXPECT_LE(difference(got[i], expected[i]), 1e-12) << "output " << i;
    ++compared;
  }
  EXPECT_GT(compared, 30);
}

}  // namespace sardonyx::test
