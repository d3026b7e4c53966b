// What a sequence holds is not written over by nodes behind it.
#include <gtest/gtest.h>

#include "graph/builder.h"
#include "sardonyx/session.h"

namespace sardonyx::test {

namespace {

LoadedModel model_of(GraphBuilder builder) {
  auto model = std::make_shared<Model>();
  model->graph = std::move(builder).build();
  model->ir_version = 10;
  return LoadedModel(model);
}

TEST(Plans, WhatASequenceHoldsIsKept) {
  for (const bool viewed : {false, true}) {
    GraphBuilder b("kept");
    const ValueId x = b.input("x", Type::tensor(DType::Float32, {Dim(4)}));
    const ValueId one = b.op("Add", {x, b.constant(Tensor::of<float>({1}))});
    const ValueId held = viewed ? b.op("Reshape", {one, b.constant(Tensor::of<int64_t>({2, 2}))}) : one;
    const ValueId sequence = b.op("SequenceConstruct", {held});
    b.output(b.op("Mul", {one, b.constant(Tensor::of<float>({0.5f}))}));
    b.output(b.op("ConcatFromSequence", {sequence}, attributes({{"axis", int64_t{0}}})));
    Session session(model_of(std::move(b)));
    const Feeds feeds = {{"x", Tensor::of<float>({1, 2, 3, 4})}};
    for (int run = 0; run < 3; ++run) {
      const std::vector<double> got = session.run(feeds).back().tensor().to_doubles();
      EXPECT_EQ(got, (std::vector<double>{2, 3, 4, 5})) << viewed << ", run " << run;
    }
  }
}

}  // namespace

}  // namespace sardonyx::test
