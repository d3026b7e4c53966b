#include <gtest/gtest.h>

#include "graph/builder.h"
#include "sardonyx/session.h"

namespace sardonyx {

namespace {

// relu(x W) of f32.
LoadedModel product() {
  GraphBuilder builder("product");
  const ValueId x = builder.input("x", Type::tensor(DType::Float32, Shape{Dim(2), Dim(3)}));
  std::vector<float> weights;
  for (int i = 0; i < 12; ++i) weights.push_back(1.0f + static_cast<float>(i) / 1000);
  const ValueId w = builder.constant(Tensor::of(weights, {3, 4}), "w");
  const ValueId y = builder.op("Relu", {builder.op("MatMul", {x, w})});
  builder.info(y).name = "y";
  builder.output(y);
  auto model = std::make_shared<Model>();
  model->graph = std::move(builder).build();
  return LoadedModel(std::shared_ptr<const Model>(model));
}

std::vector<float> run(const std::string& precision) {
  SessionOptions options;
  options.precision = precision;
  Session session(product(), options);
  EXPECT_EQ(session.inputs().at(0).dtype, DType::Float32);
  EXPECT_EQ(session.outputs().at(0).dtype, DType::Float32);
  const auto results = session.run({{"x", Tensor::of(std::vector<float>{1, 2, 3, 4, 5, 6}, {2, 3})}});
  const Tensor& y = results.at(0).tensor();
  EXPECT_EQ(y.dtype(), DType::Float32);
  return {y.data<float>(), y.data<float>() + y.size()};
}

TEST(Precision, WordsAndTypes) {
  const std::vector<float> highest = run("highest"), medium = run("medium");
  EXPECT_EQ(highest, run("high"));
  ASSERT_EQ(highest.size(), medium.size());
  for (size_t i = 0; i < highest.size(); ++i) EXPECT_NEAR(medium[i], highest[i], highest[i] * 0.01f);
}

TEST(Precision, UnknownWordNamesTheKnownOnes) {
  SessionOptions options;
  options.precision = "low";
  try {
    Session session(product(), options);
    FAIL();
  } catch (const InputError& e) {
    for (const char* word : {"'highest'", "'high'", "'medium'", "'low'"})
      EXPECT_NE(std::string(e.what()).find(word), std::string::npos) << e.what();
  }
}

}  // namespace

}  // namespace sardonyx
