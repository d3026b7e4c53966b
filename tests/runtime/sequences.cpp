// Sequences in plans and in loops.
#include <gtest/gtest.h>

#include "tests/support/models.h"

namespace sardonyx::test {

namespace {

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

// Of a sequence that a loop carries, whose items grow with every turn, a size is not that of the first item.
TEST(Inference, ItemsOfALoopHaveNoDims) {
  const Type number = Type::tensor(DType::Int64, {}), sequence = Type::sequence(Type::tensor(DType::Float32));
  GraphBuilder body("body");
  const auto integer = [](GraphBuilder& b, int64_t v) { return b.constant(Tensor::scalar<int64_t>(v)); };
  body.input("i", number);
  const ValueId go_on = body.input("go_on", Type::tensor(DType::Bool, {})), s = body.input("s", sequence);
  GraphBuilder twice("twice");
  const ValueId item = twice.input("item", Type::tensor(DType::Float32));
  twice.output(twice.op("Concat", {item, item}, attributes({{"axis", int64_t{0}}})));
  body.output(body.op("Identity", {go_on}));
  body.output(body.op("SequenceMap", {s}, attributes({{"body", std::move(twice).build()}})));
  body.output(body.op("Shape", {body.op("SequenceAt", {s, integer(body, 0)})}));
  GraphBuilder b("growing");
  const ValueId x = b.input("x", Type::tensor(DType::Float32, {Dim(3)}));
  const auto made = b.ops("Loop", {integer(b, 3), kNone, b.op("SequenceConstruct", {x})}, 2,
                          attributes({{"body", std::move(body).build()}}));
  const ValueId size = b.op("Shape", {b.op("SequenceAt", {made[0], integer(b, 0)})});
  b.output(b.op("ConstantOfShape", {size}));
  b.output(made[1]);
  Session session(model_of(std::move(b)));
  const std::vector<Value> got = session.run({{"x", Tensor::of<float>({1, 2, 3})}});
  EXPECT_EQ(got[0].tensor().dims(), Dims{24});
  EXPECT_EQ(got[1].tensor().to_int64s(), (std::vector<int64_t>{3, 6, 12}));
}

}  // namespace

}  // namespace sardonyx::test
