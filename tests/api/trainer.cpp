// Training from C++, and the order that updates in place need.
#include "sardonyx/trainer.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "graph/builder.h"
#include "ops/registry/operator.h"
#include "sardonyx/gradient.h"
#include "sardonyx/tools.h"

namespace sardonyx {

namespace {

// y = x w, w [3, 2].
LoadedModel linear() {
  GraphBuilder builder("linear");
  const ValueId x = builder.input("x", Type::tensor(DType::Float32, {Dim("n"), Dim(3)}));
  const ValueId w = builder.constant(Tensor::of<float>({1, 2, 3, 4, 5, 6}, {3, 2}), "w");
  Node node;
  node.op = "MatMul";
  node.inputs = {x, w};
  node.outputs = {builder.value("y")};
  builder.output(node.outputs[0]);
  builder.add(std::move(node));
  auto model = std::make_shared<Model>();
  model->graph = std::move(builder).build();
  model->ir_version = 10;
  model->initializers = {"w"};
  return LoadedModel(model);
}

const Tensor kX = Tensor::of<float>({1, 0, 0, 0, 1, 0}, {2, 3});
const Tensor kTarget = Tensor::zeros(DType::Float32, {2, 2});

TEST(Trainer, StepsInCpp) {
  TrainerOptions options;
  options.loss = {"MSELoss", {{"reduction", std::string("sum")}}};
  options.optimizer = {"sgd", {{"lr", 0.25}}};
  Trainer trainer(linear(), options);
  // The sum of (x w)^2 has the gradient 2 x^T x w: rows 0 and 1 of w are halved, row 2 is not read.
  EXPECT_DOUBLE_EQ(trainer.step({{"x", kX}}, {kTarget}), 1 + 4 + 9 + 16);
  EXPECT_EQ(trainer.parameters().at("w").to_doubles(), (std::vector<double>{0.5, 1, 1.5, 2, 5, 6}));
  EXPECT_EQ(trainer.gradients().at("w").to_doubles(), (std::vector<double>{2, 4, 6, 8, 0, 0}));
  EXPECT_DOUBLE_EQ(trainer.evaluate({{"x", kX}}, {kTarget}), (1 + 4 + 9 + 16) / 4.0);
  // The model that it was made from keeps its weights; the one it gives has the new ones.
  Session before(linear()), after(trainer.model());
  EXPECT_EQ(before.run({{"x", kX}})[0].tensor().to_doubles(), (std::vector<double>{1, 2, 3, 4}));
  EXPECT_EQ(after.run({{"x", kX}})[0].tensor().to_doubles(), (std::vector<double>{0.5, 1, 1.5, 2}));
  trainer.set_hyper("lr", 0);
  trainer.step({{"x", kX}}, {kTarget});
  EXPECT_EQ(trainer.parameters().at("w").to_doubles(), (std::vector<double>{0.5, 1, 1.5, 2, 5, 6}));
  EXPECT_THROW(trainer.set_hyper("learning_rate", 1), InputError);
  EXPECT_THROW(trainer.step({{"x", kX}}, {}), InputError);
}

TEST(Trainer, CheckpointsInCpp) {
  const std::string path = testing::TempDir() + "sardonyx_trainer.safetensors";
  TrainerOptions options;
  options.loss = {"MSELoss", {}};
  options.optimizer = {"AdamW", {{"lr", 0.1}}};
  Trainer whole(linear(), options), resumed(linear(), options);
  for (int step = 0; step < 3; ++step) whole.step({{"x", kX}}, {kTarget});
  whole.set_hyper("lr", 0.05);
  whole.save(path);
  resumed.load(path);
  EXPECT_EQ(resumed.update_count(), 3);
  EXPECT_DOUBLE_EQ(resumed.hyper("lr"), 0.05);
  EXPECT_EQ(whole.step({{"x", kX}}, {kTarget}), resumed.step({{"x", kX}}, {kTarget}));
  EXPECT_EQ(whole.parameters().at("w").to_doubles(), resumed.parameters().at("w").to_doubles());
  options.optimizer = {"SGD", {{"lr", 0.1}, {"momentum", 0.9}}};
  Trainer other(linear(), options);
  EXPECT_THROW(other.load(path), InputError);
  EXPECT_THROW(other.load(path + ".none"), FileError);
  EXPECT_EQ(other.parameters().at("w").to_doubles(), (std::vector<double>{1, 2, 3, 4, 5, 6}));
  std::remove(path.c_str());
}

// x -> the same three times, as anchor, positive and negative; |a - b + 3|, summed over the last axis.
TEST(Trainer, ModelAsAnArgumentOfTheLoss) {
  GraphBuilder three("three");
  const ValueId x = three.input("x", Type::tensor(DType::Float32, {Dim("n"), Dim(2)}));
  const ValueId w = three.constant(Tensor::of<float>({1, 1}, {2}), "w");
  three.set_outputs({three.op("Mul", {x, w}), three.op("Identity", {x}), three.op("Add", {x, x})});
  auto network = std::make_shared<Model>();
  network->graph = std::move(three).build();
  network->ir_version = 10;
  network->initializers = {"w"};
  GraphBuilder builder("distance");
  const Type any = Type::tensor(DType::Float32, {Dim(), Dim()});
  const ValueId a = builder.input("a", any), b = builder.input("b", any);
  const ValueId d = builder.op("Add", {builder.op("Sub", {a, b}), builder.constant(Tensor::scalar(3.0f))});
  builder.output(builder.op("ReduceL1", {d, builder.constant(Tensor::of<int64_t>({-1}))},
                            attributes({{"keepdims", int64_t{0}}})));
  auto distance = std::make_shared<Model>();
  distance->graph = std::move(builder).build();
  distance->ir_version = 10;

  TrainerOptions options;
  options.loss = {"TripletMarginWithDistanceLoss",
                  {{"distance_function", LoadedModel(distance).get()}, {"margin", 10.0}}};
  options.optimizer = {"sgd", {{"lr", 1.0}}};
  Trainer trainer(LoadedModel(network), options);
  // The distances of the first step are 3 + 3 and 2 + 1, both of which grow with w x: the gradient is 0.
  EXPECT_DOUBLE_EQ(trainer.step({{"x", Tensor::of<float>({1, 2}, {1, 2})}}, {}), 13);
  // Now 3 + 3 and |-1| + 2, of which the term |-1| falls: the gradient by the first w is 4 + 4.
  EXPECT_DOUBLE_EQ(trainer.step({{"x", Tensor::of<float>({4, 1}, {1, 2})}}, {}), 13);
  EXPECT_EQ(trainer.gradients().at("w").to_doubles(), (std::vector<double>{8, 0}));
}

TEST(Trainer, GradientModel) {
  GradientOptions options;
  options.wrt = {"x", "w"};
  options.loss = {"MSELoss", {{"reduction", std::string("sum")}}};
  Session session(gradient_model(linear(), options));
  const auto results = session.run({{"x", kX}, {"target", kTarget}});
  EXPECT_EQ(results.at(0).tensor().to_doubles(), std::vector<double>{30});
  EXPECT_EQ(results.at(1).tensor().to_doubles(), (std::vector<double>{10, 22, 34, 22, 50, 78}));
  EXPECT_EQ(results.at(2).tensor().to_doubles(), (std::vector<double>{2, 4, 6, 8, 0, 0}));
}

// p -> Accumulate(p, g) over p, and a reader of p that was appended later.
TEST(Updates, StandBehindAllReaders) {
  GraphBuilder builder("step");
  const Type type = Type::tensor(DType::Float32, {Dim(2)});
  const ValueId p = builder.input("p", type), g = builder.input("g", type);
  const ValueId next = builder.ops("Accumulate", {p, g}, 1, {}, kOwnDomain)[0];
  const ValueId read = builder.op("Neg", {p});
  builder.set_outputs({next, read});
  builder.update(p, next);
  const GraphPtr graph = std::move(builder).build();
  ASSERT_EQ(graph->nodes().size(), 2u);
  EXPECT_EQ(graph->nodes()[0].op, "Neg");
  EXPECT_EQ(graph->nodes()[1].op, "Accumulate");
  ASSERT_EQ(graph->updates().size(), 1u);
  // A session may write the sum over p: the reader has seen the old numbers.
  auto model = std::make_shared<Model>();
  model->graph = graph;
  model->ir_version = 10;
  Session session{LoadedModel(model)};
  Tensor memory = Tensor::of<float>({1, 2});
  RunOptions options;
  options.output_buffers[session.outputs()[0].name] = memory;
  const auto results = session.run({{"p", memory}, {"g", Tensor::of<float>({10, 20})}}, {}, options);
  EXPECT_EQ(memory.to_doubles(), (std::vector<double>{11, 22}));
  EXPECT_EQ(results.at(1).tensor().to_doubles(), (std::vector<double>{-1, -2}));
}

TEST(Updates, CannotBeReadByWhatTheyWaitFor) {
  GraphBuilder builder("cycle");
  const Type type = Type::tensor(DType::Float32, {Dim(2)});
  const ValueId p = builder.input("p", type);
  const ValueId next = builder.ops("Accumulate", {p, p}, 1, {}, kOwnDomain)[0];
  const ValueId both = builder.op("Add", {p, next});
  builder.set_outputs({next, both});
  builder.update(p, next);
  EXPECT_THROW(std::move(builder).build(), ModelError);
}

}  // namespace

}  // namespace sardonyx
