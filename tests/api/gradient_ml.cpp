// The gradients of ai.onnx.ml's scores. They are f32 whatever the input is: what they are written out as is
// checked in f64, before it is rounded, and against the kernels.
#include <gtest/gtest.h>

#include <algorithm>

#include "api/differentiable.h"
#include "api/pipeline.h"
#include "ops/registry/operator.h"
#include "tests/support/cases.h"
#include "tests/support/gradient.h"

namespace sardonyx::test {

namespace {

LoadedModel with_graph(const LoadedModel& model, GraphPtr graph) {
  auto changed = std::make_shared<Model>(*model.get());
  changed->graph = std::move(graph);
  return LoadedModel(changed);
}

LoadedModel written_out(const LoadedModel& model) {
  const Pipeline pipeline({"cpu"});
  return with_graph(model, differentiable(model.get()->graph, pipeline.evaluator.get()));
}

// Its scores alone, and what is rounded in their place.
LoadedModel before_rounding(const LoadedModel& model) {
  GraphBuilder builder(*model.get()->graph);
  const Graph& graph = builder.graph();
  const Node last = graph.node(model.get()->graph->producer(graph.outputs().back()));
  EXPECT_EQ(last.op, "Cast");
  builder.set_outputs({last.inputs[0]});
  return with_graph(model, std::move(builder).build_pruned());
}

std::vector<Value> run(const LoadedModel& model, const Feeds& feeds) { return Session(model).run(feeds); }

TEST(GradientRules, ScoresOfMachineLearning) {
  int checked = 0;
  for (const Case& c : case_table().all()) {
    const Operator* op = OperatorRegistry::instance().find(c.domain, c.op);
    if (c.domain != "ai.onnx.ml" || !op->decompose) continue;
    SCOPED_TRACE(c.name());
    const Prepared f32 = make_model(c, 1), f64 = make_model(c, 1, DType::Float64);
    const std::vector<Value> expected = run(f32.model, f32.feeds);
    const std::vector<Value> got = run(written_out(f32.model), f32.feeds);
    ASSERT_EQ(got.size(), expected.size());
    // The iteration for the probabilities stops where it is near.
    const double tolerance = c.attributes.has("prob_a") ? 1e-2 : 1e-5;
    for (size_t i = 0; i < got.size(); ++i) EXPECT_LE(difference(got[i], expected[i]), tolerance);

    const LoadedModel scores = before_rounding(written_out(f64.model));
    GradientCheck check;
    for (const auto& [name, value] : f64.feeds) check.wrt.push_back(name);
    EXPECT_LE(gradient_error(scores, f64.feeds, check), 1e-6) << "ref kernels";
    check.prefer_kernel.clear();
    check.symbolic = true;
    EXPECT_LE(gradient_error(scores, f64.feeds, check), 1e-6) << "symbolic dims";
    check.symbolic = false;
    EXPECT_LE(second_order_error(scores, f64.feeds, check), 1e-5) << "second order";
    ++checked;
  }
  EXPECT_GT(checked, 60);
}

}  // namespace

}  // namespace sardonyx::test
