// What central differences over the case table cannot see: kinks, special places, random operators, operators
// without an f64 form, and gradients in f32 and 16 bits.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "ops/registry/operator.h"
#include "tests/support/cases.h"
#include "tests/support/gradient.h"
#include "tests/support/models.h"

namespace sardonyx::test {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Tensor as_dtype(const Tensor& x, DType to) {
  if (!is_float(x.dtype())) return x;
  const std::vector<double> numbers = x.to_doubles();
  Tensor tensor(to, x.dims());
  for (size_t i = 0; i < numbers.size(); ++i) {
    void* data = tensor.mutable_data();
    if (to == DType::Float64) static_cast<double*>(data)[i] = numbers[i];
    if (to == DType::Float32) static_cast<float*>(data)[i] = static_cast<float>(numbers[i]);
    if (to == DType::Float16) static_cast<Half*>(data)[i] = Half(numbers[i]);
    if (to == DType::BFloat16) static_cast<BFloat16*>(data)[i] = BFloat16(numbers[i]);
  }
  return tensor;
}

// A case in a float type. make_model leaves f32 as it is.
Prepared model_in(const Case& c, DType dtype) {
  return make_model(c, 1, dtype == DType::Float32 ? DType::Undefined : dtype);
}

// The gradient of a model for given cotangents, by the names of its inputs. Feeds that it does not read are
// left out.
std::vector<Tensor> gradients(const LoadedModel& model, const std::vector<std::string>& wrt,
                              const Feeds& all) {
  Session session(gradient_of(model, wrt));
  Feeds feeds;
  for (const auto& input : session.inputs()) feeds[input.name] = all.at(input.name);
  std::vector<Tensor> result;
  for (const Value& value : session.run(feeds)) result.push_back(value.tensor());
  return result;
}

Case one(std::string op, std::vector<Input> inputs) {
  CaseTable table;
  return table.add(std::move(op), std::move(inputs));
}

void expect_slopes(Case c, const std::vector<double>& at, const std::vector<double>& slopes) {
  SCOPED_TRACE(c.name());
  Prepared prepared = make_model(c, 1, DType::Float64);
  const Dims dims{static_cast<int64_t>(at.size())};
  prepared.feeds["x0"] = Tensor::of(at, dims);
  Feeds feeds = prepared.feeds;
  feeds["d_y0"] = Tensor::of(std::vector<double>(at.size(), 1.0), dims);
  const std::vector<double> got = gradients(prepared.model, {"x0"}, feeds).at(0).to_doubles();
  for (size_t i = 0; i < at.size(); ++i) EXPECT_NEAR(got[i], slopes[i], 1e-12) << "at " << at[i];
}

// The values are PyTorch's.
TEST(GradientRules, Kinks) {
  const auto at = [](size_t n) { return std::vector<Input>{f32({static_cast<int64_t>(n)})}; };
  expect_slopes(one("Relu", at(5)), {-1, 0, 2, kInf, -kInf}, {0, 0, 1, 1, 0});
  expect_slopes(one("LeakyRelu", at(3)).number("alpha", 0.25f), {-1, 0, 2}, {0.25, 0.25, 1});
  expect_slopes(one("Elu", at(3)), {-kInf, 0, kInf}, {0, 1, 1});
  expect_slopes(one("Celu", at(3)).number("alpha", 2), {-kInf, 0, kInf}, {0, 1, 1});
  expect_slopes(one("ThresholdedRelu", at(4)), {0.5, 1, 1.5, -kInf}, {0, 0, 1, 0});
  expect_slopes(one("HardSigmoid", at(4)).number("alpha", 0.25f), {-2, 2, 1, kInf}, {0, 0, 0.25, 0});
  expect_slopes(one("HardSwish", at(6)), {-3, 3, 0, -4, 4, -kInf}, {0, 1, 0.5, 0, 1, 0});
  expect_slopes(one("Shrink", at(5)), {-0.5, 0.5, 0, 0.75, -kInf}, {0, 0, 0, 1, 1});
  expect_slopes(one("Sigmoid", at(3)), {-kInf, kInf, 0}, {0, 0, 0.25});
  expect_slopes(one("Softplus", at(3)), {-kInf, kInf, 0}, {0, 1, 0.5});
  expect_slopes(one("Softsign", at(3)), {-kInf, kInf, 0}, {0, 0, 1});
}

TEST(GradientRules, NanComesThroughRelu) {
  Prepared prepared = make_model(one("Relu", {f32({1})}), 1, DType::Float64);
  prepared.feeds["x0"] = Tensor::of<double>({kNan});
  Feeds feeds = prepared.feeds;
  feeds["d_y0"] = Tensor::of<double>({3});
  EXPECT_EQ(gradients(prepared.model, {"x0"}, feeds).at(0).to_doubles().at(0), 3);
}

TEST(GradientRules, CumProdWithZeros) {
  for (const int64_t exclusive : {0, 1})
    for (const int64_t reverse : {0, 1}) {
      Prepared prepared = make_model(one("CumProd", {f32({3, 5}), constant<int64_t>({1}, {})})
                                         .integer("exclusive", exclusive)
                                         .integer("reverse", reverse),
                                     1, DType::Float64);
      // One zero, two, and at both ends.
      prepared.feeds["x0"] = Tensor::of<double>({2, 3, 0, 5, 7, 2, 0, 3, 0, 5, 0, 2, 3, 4, 0}, {3, 5});
      EXPECT_LE(gradient_error(prepared.model, prepared.feeds, {.wrt = {"x0"}, .step = 1e-4}), 1e-6)
          << exclusive << reverse;
    }
}

TEST(GradientRules, CumProdWithoutElements) {
  for (const Dims& dims : {Dims{2, 0, 3}, Dims{0, 2, 3}}) {
    const Prepared prepared =
        make_model(one("CumProd", {f32(dims), constant<int64_t>({1}, {})}), 1, DType::Float64);
    EXPECT_EQ(gradient_error(prepared.model, prepared.feeds, {.wrt = {"x0"}}), 0);
    // Written out for other engines as well.
    const LoadedModel gradient = in_standard_operators(gradient_of(prepared.model, {"x0"}));
    Feeds feeds = prepared.feeds;
    feeds["d_y0"] = prepared.feeds.at("x0");
    EXPECT_EQ(Session(gradient).run(feeds).at(0).tensor().dims(), dims);
  }
}

TEST(GradientRules, DetOfSingularMatrices) {
  const Prepared prepared = make_model(one("Det", {f32({4, 3, 3})}), 1, DType::Float64);
  Feeds feeds;
  // Of rank 2 twice, 1 and 0: the gradient is that of a polynomial.
  feeds["x0"] = Tensor::of<double>({1, 2, 3, 4, 5, 6, 5, 7, 9, 0, 1, 0, 0, 0, 2, 0, 0, 0,
                                    1, 2, 3, 2, 4, 6, 3, 6, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0},
                                   {4, 3, 3});
  for (const std::string kernel : {"ref", ""}) {
    GradientCheck check{.wrt = {"x0"}, .step = 1e-4};
    check.prefer_kernel = kernel;
    EXPECT_LE(gradient_error(prepared.model, feeds, check), 1e-6);
  }
}

TEST(GradientRules, StatisticsOfLayerNormalization) {
  for (const int64_t axis : {1, -1}) {
    const Dims scale = axis == 1 ? Dims{3, 4} : Dims{4};
    const Prepared prepared = make_model(one("LayerNormalization", {f32({2, 3, 4}), f32(scale), f32(scale)})
                                             .integer("axis", axis)
                                             .integer("stash_type", static_cast<int64_t>(DType::Float64))
                                             .gives(3),
                                         1, DType::Float64);
    GradientCheck check{.wrt = {"x0", "x1", "x2"}};
    for (const bool symbolic : {false, true}) {
      check.symbolic = symbolic;
      EXPECT_LE(gradient_error(prepared.model, prepared.feeds, check), 1e-6) << axis;
    }
  }
}

TEST(GradientRules, NothingFlowsWhereAllLabelsAreIgnored) {
  for (const char* op : {"SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"})
    for (const DType dtype : {DType::Float32, DType::Float64}) {
      Prepared prepared =
          model_in(one(op, {f32({3, 4}), index({3}, 4)}).integer("ignore_index", -100), dtype);
      prepared.feeds["x1"] = Tensor::of<int64_t>({-100, -100, -100});
      Feeds feeds = prepared.feeds;
      feeds["d_y0"] = as_dtype(Tensor::of<double>({1}, {}), dtype);
      for (const double v : gradients(prepared.model, {"x0"}, feeds).at(0).to_doubles())
        EXPECT_EQ(v, 0) << op;
    }
}

// y = Dropout(x) w: the gradient of w shows what the gradient of x must agree with.
TEST(GradientRules, DropoutUsesTheMaskOfTheForwardPass) {
  const Dims dims{43, 50};
  for (const bool training : {true, false})
    for (const bool constant_mode : {true, false}) {
      GraphBuilder builder("dropout");
      const ValueId x = builder.input("x", Type::tensor(DType::Float32, shape_of(dims))),
                    w = builder.input("w", Type::tensor(DType::Float32, shape_of(dims)));
      const ValueId ratio = builder.constant(Tensor::of<float>({0.25f}, {}));
      const Tensor mode = Tensor::of<bool>({training}, {});
      const ValueId mode_id =
          constant_mode ? builder.constant(mode) : builder.input("mode", Type::tensor(DType::Bool, Shape{}));
      Node node;
      node.op = "Mul";
      node.inputs = {builder.op("Dropout", {x, ratio, mode_id}), w};
      node.outputs = {builder.value("y")};
      builder.output(node.outputs[0]);
      builder.add(std::move(node));
      std::mt19937_64 random(3);
      Feeds feeds;
      for (const char* name : {"x", "w", "d_y"})
        feeds[name] = as_dtype(random_like(Tensor(DType::Float64, dims), random), DType::Float32);
      if (!constant_mode) feeds["mode"] = mode;
      const auto got = gradients(model_of(std::move(builder)), {"x", "w"}, feeds);
      int64_t kept = 0;
      for (int64_t i = 0; i < got[0].size(); ++i) {
        const auto at = [&](const char* name) { return feeds.at(name).tensor().data<float>()[i]; };
        const float dx = got[0].data<float>()[i], dw = got[1].data<float>()[i];
        kept += dw != 0;
        EXPECT_NEAR(dx * at("x"), dw * at("w"), 1e-5);
        EXPECT_NEAR(dx, dw == 0 ? 0 : at("d_y") * at("w") * (training ? 4.0f / 3 : 1.0f), 1e-5);
      }
      EXPECT_EQ(kept < 1900, training);
    }
}

// The vector loop draws what the plain one does, also across a vector and in 16 bits.
TEST(GradientRules, DropoutDrawsTheSameInEveryKernel) {
  for (const DType dtype : {DType::Float32, DType::Float16})
    for (const int64_t size : {1, 5, 63, 64, 1029, 5000}) {
      const std::vector<Input> inputs{f32({size}, Fill::Positive), constant<float>({0.3f}, {}),
                                      constant<bool>({true}, {})};
      const Prepared prepared = model_in(one("Dropout", inputs).integer("seed", 7).gives(2), dtype);
      SessionOptions ref;
      ref.prefer_kernel = "ref";
      Session fast(prepared.model), plain(prepared.model, ref);
      const std::vector<Value> got = fast.run(prepared.feeds), expected = plain.run(prepared.feeds);
      for (size_t i = 0; i < 2; ++i) EXPECT_EQ(difference(got[i], expected[i]), 0) << size;
    }
}

// x goes through QuantizeLinear and DequantizeLinear; a scale that is an input is one for the tensor.
LoadedModel quantized_and_back(const Dims& dims, const Value& scale, const Value& zero, Attributes attributes,
                               bool scale_is_input) {
  GraphBuilder builder("quantized");
  const ValueId x = builder.input("x", Type::tensor(DType::Float32, shape_of(dims)));
  std::vector<ValueId> numbers = {
      x, scale_is_input
             ? builder.input("scale", Type::tensor(DType::Float32, shape_of(scale.tensor().dims())))
             : builder.constant(scale)};
  if (zero.defined()) numbers.push_back(builder.constant(zero));
  numbers[0] = builder.op("QuantizeLinear", numbers, attributes);
  Node node;
  node.op = "DequantizeLinear";
  node.inputs = numbers;
  for (const char* name : {"axis", "block_size"})
    if (const Attribute* value = attributes.find(name)) node.attributes.set(name, *value);
  node.outputs = {builder.value("y")};
  builder.output(node.outputs[0]);
  builder.add(std::move(node));
  return model_of(std::move(builder));
}

TEST(GradientRules, QuantizationLetsThroughWhatItDoesNotCut) {
  const Dims dims{2, 6};
  const std::vector<float> x = {-7, -6.4f, -1, 0.3f, 6.3f, 6.4f, -100, -12, 3, 6, 12.7f, 13};
  Feeds feeds;
  feeds["x"] = Tensor::of(x, dims);
  std::mt19937_64 random(3);
  feeds["d_y"] = as_dtype(random_like(Tensor(DType::Float64, dims), random), DType::Float32);
  const auto expect = [&](const LoadedModel& model, const std::vector<int>& inside) {
    const Tensor got = gradients(model, {"x"}, feeds).at(0);
    for (int64_t i = 0; i < got.size(); ++i)
      EXPECT_EQ(got.data<float>()[i],
                inside[static_cast<size_t>(i)] ? feeds["d_y"].tensor().data<float>()[i] : 0)
          << "at " << x[static_cast<size_t>(i)];
  };
  // int8: -6.4 to 6.35.
  expect(quantized_and_back(dims, Tensor::of<float>({0.05f}, {}), Tensor::of<int8_t>({0}, {}), {}, false),
         {0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0});
  // uint8 about 128: -6.4 to 6.35; without a zero point: 0 to 12.75.
  expect(quantized_and_back(dims, Tensor::of<float>({0.05f}, {}), Tensor::of<uint8_t>({128}, {}), {}, false),
         {0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0});
  expect(quantized_and_back(dims, Tensor::of<float>({0.05f}, {}), {}, {}, false),
         {0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 0});
  // A scale for each row, and for blocks of three.
  expect(quantized_and_back(dims, Tensor::of<float>({0.05f, 0.1f}), Tensor::of<int8_t>({0, 0}),
                            attributes({{"axis", int64_t{0}}}), false),
         {0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0});
  expect(quantized_and_back(dims, Tensor::of<float>({0.05f, 0.1f, 0.1f, 0.05f}, {2, 2}), {},
                            attributes({{"axis", int64_t{1}}, {"block_size", int64_t{3}}}), false),
         {0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 0});
  expect(quantized_and_back(dims, Tensor::of<float>({1}, {}), {},
                            attributes({{"output_dtype", static_cast<int64_t>(DType::Float8E4M3FN)}}), false),
         {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1});
}

TEST(GradientRules, DynamicQuantizationCutsNothing) {
  GraphBuilder builder("dynamic");
  const ValueId x = builder.input("x", Type::tensor(DType::Float32, shape_of({5})));
  const std::vector<ValueId> numbers = builder.ops("DynamicQuantizeLinear", {x}, 3);
  Node node;
  node.op = "DequantizeLinear";
  node.inputs = numbers;
  node.outputs = {builder.value("y")};
  builder.output(node.outputs[0]);
  builder.add(std::move(node));
  const Feeds feeds{{"x", Tensor::of<float>({-3, 0, 1, 100, 255})},
                    {"d_y", Tensor::of<float>({1, 2, 3, 4, 5})}};
  EXPECT_EQ(gradients(model_of(std::move(builder)), {"x"}, feeds)[0].to_doubles(),
            (std::vector<double>{1, 2, 3, 4, 5}));
}

// With the rounding taken as the identity: what rounding added where nothing is cut, the end where it is.
TEST(GradientRules, ScaleOfAQuantization) {
  Feeds feeds;
  feeds["x"] = Tensor::of<float>({-7, -0.42f, 0.26f, 9});
  feeds["scale"] = Tensor::of<float>({0.05f}, {});
  feeds["d_y"] = Tensor::of<float>({1, 10, 100, 1000});
  const Tensor got = gradients(quantized_and_back({4}, feeds["scale"], Tensor::of<int8_t>({3}, {}), {}, true),
                               {"scale"}, feeds)[0];
  const double expected = -131 + 10 * (-8 + 8.4) + 100 * (5 - 5.2) + 1000 * 124;
  EXPECT_NEAR(got.data<float>()[0], expected, 1e-2);
}

// A scale for each row, and for blocks of an axis, the last of which is shorter.
TEST(GradientRules, ScalesOfAQuantization) {
  const std::vector<float> x = {-7, -0.42f, 0.26f, 9, 1.03f, -0.77f}, dy = {1, 2, 3, -4, 5, 7};
  const struct {
    Dims dims, scales;
    int64_t axis, block_size;
    std::vector<size_t> scale_of;  // by element
  } ways[] = {{{2, 3}, {2}, 0, 0, {0, 0, 0, 1, 1, 1}},
              {{2, 3}, {3}, -1, 0, {0, 1, 2, 0, 1, 2}},
              {{2, 3}, {2, 2}, 1, 2, {0, 0, 1, 2, 2, 3}},
              {{3, 2}, {2, 2}, -2, 2, {0, 1, 0, 1, 2, 3}}};
  for (const auto& way : ways) {
    SCOPED_TRACE(to_string(way.scales));
    Tensor scale(DType::Float32, way.scales), zero(DType::Int8, way.scales);
    std::vector<double> expected(static_cast<size_t>(scale.size()), 0);
    for (int64_t i = 0; i < scale.size(); ++i) {
      scale.mutable_data<float>()[i] = 0.05f + 0.01f * static_cast<float>(i);
      zero.mutable_data<int8_t>()[i] = static_cast<int8_t>(i - 1);
    }
    for (size_t i = 0; i < x.size(); ++i) {
      const double s = static_cast<double>(scale.data<float>()[way.scale_of[i]]),
                   z = zero.data<int8_t>()[way.scale_of[i]];
      const double steps = static_cast<double>(x[i]) / s, q = std::nearbyint(steps) + z;
      const double slope = q < -128 ? -128 - z : q > 127 ? 127 - z : q - z - steps;
      expected[way.scale_of[i]] += slope * static_cast<double>(dy[i]);
    }
    const Feeds feeds{{"x", Tensor::of(x, way.dims)}, {"scale", scale}, {"d_y", Tensor::of(dy, way.dims)}};
    const Attributes how = attributes({{"axis", way.axis}, {"block_size", way.block_size}});
    const Tensor got = gradients(quantized_and_back(way.dims, scale, zero, how, true), {"scale"}, feeds)[0];
    ASSERT_EQ(got.dims(), way.scales);
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(got.to_doubles()[i], expected[i], 1e-4);
  }
}

TEST(GradientRules, ScaleOfStoredNumbers) {
  const struct {
    Dims scales;
    int64_t block_size;
    std::vector<float> scale;
    std::vector<double> slopes;
  } ways[] = {{{}, 0, {0.5f}, {2 - 50 + 400 + 5000.0}},
              {{2}, 0, {0.5f, 2}, {2 - 50, 700 + 8000}},
              {{1, 2}, 2, {0.5f, 2}, {2 + 400, -20 + 8000}}};
  for (const auto& way : ways) {
    GraphBuilder builder("stored");
    const std::vector<int8_t> all_zeros = {1, -2};
    const std::vector<int8_t> zeros(all_zeros.begin(),
                                    all_zeros.begin() + static_cast<std::ptrdiff_t>(way.scale.size()));
    Node node;
    node.op = "DequantizeLinear";
    node.inputs = {builder.constant(Tensor::of<int8_t>({3, -4, 5, 6}, {2, 2})),
                   builder.input("scale", Type::tensor(DType::Float32, shape_of(way.scales))),
                   builder.constant(Tensor::of(zeros, way.scales))};
    node.attributes = attributes({{"axis", int64_t{0}}, {"block_size", way.block_size}});
    node.outputs = {builder.value("y")};
    builder.output(node.outputs[0]);
    builder.add(std::move(node));
    const Feeds feeds{{"scale", Tensor::of(way.scale, way.scales)},
                      {"d_y", Tensor::of<float>({1, 10, 100, 1000}, {2, 2})}};
    const Tensor got = gradients(model_of(std::move(builder)), {"scale"}, feeds)[0];
    EXPECT_EQ(got.dims(), way.scales);
    EXPECT_EQ(got.to_doubles(), way.slopes);
  }
}

// Linear in each input, so that a difference over a long step is exact but for rounding.
TEST(GradientRules, RotaryEmbedding) {
  for (const Case& c : case_table().all()) {
    if (c.op != "RotaryEmbedding") continue;
    SCOPED_TRACE(c.name());
    const Prepared prepared = make_model(c, 1);
    const std::vector<std::string> wrt{"x0", "x1", "x2"};
    std::mt19937_64 random(5);
    Session forward(prepared.model);
    const auto run = [&](const Feeds& feeds) { return forward.run(feeds).at(0).tensor(); };
    const Tensor dy = as_dtype(random_like(run(prepared.feeds), random), DType::Float32);
    Feeds all = prepared.feeds;
    all["d_y0"] = dy;
    const std::vector<Tensor> got = gradients(prepared.model, wrt, all);
    for (size_t k = 0; k < wrt.size(); ++k) {
      const Tensor& x = prepared.feeds.at(wrt[k]).tensor();
      ASSERT_EQ(got[k].dims(), x.dims());
      for (int64_t i = 0; i < x.size(); ++i) {
        Feeds at = prepared.feeds;
        Tensor moved = x.clone();
        moved.mutable_data<float>()[i] += 1;
        at[wrt[k]] = moved;
        const Tensor above = run(at), here = run(prepared.feeds);
        double expected = 0;
        for (int64_t j = 0; j < dy.size(); ++j)
          expected += static_cast<double>(dy.data<float>()[j]) *
                      static_cast<double>(above.data<float>()[j] - here.data<float>()[j]);
        EXPECT_NEAR(got[k].data<float>()[i], expected, 2e-5) << wrt[k] << " at " << i;
      }
    }
  }
}

// Between convolutions tensors are stored channels last.
TEST(GradientRules, BatchNormalizationBetweenConvolutions) {
  for (const int64_t size : {1, 5, 12})
    for (const bool backward : {false, true}) {
      GraphBuilder builder("norm");
      const int64_t n = 3, c = 20;
      Feeds feeds;
      std::mt19937_64 random(4);
      const auto input = [&](const char* name, Dims dims, double offset = 0) {
        Tensor tensor = as_dtype(random_like(Tensor(DType::Float64, dims), random), DType::Float32);
        for (int64_t i = 0; i < tensor.size(); ++i)
          tensor.mutable_data<float>()[i] += static_cast<float>(offset);
        feeds[name] = tensor;
        return builder.input(name, Type::tensor(DType::Float32, shape_of(dims)));
      };
      const ValueId x = builder.op("Conv", {input("x", {n, 8, size, size}), input("w", {c, 8, 1, 1})});
      const ValueId scale = input("scale", {c});
      std::vector<ValueId> made;
      if (backward) {
        const ValueId dy = builder.op("Conv", {input("dy", {n, 8, size, size}), input("v", {c, 8, 1, 1})});
        made = builder.ops("BatchNormalizationBackward", {dy, x, scale}, 3, {}, kOwnDomain);
      } else {
        // Far from zero, so that sums of squares about zero would lose the variance.
        const ValueId far = builder.op("Add", {x, input("far", {c, 1, 1}, 1000)});
        made = builder.ops("BatchNormalization",
                           {far, scale, input("bias", {c}), input("mean", {c}), input("variance", {c})}, 3,
                           attributes({{"training_mode", int64_t{1}}}));
      }
      made[0] = builder.op("Conv", {made[0], input("u", {4, c, 1, 1})});
      for (size_t i = 0; i < made.size(); ++i) {
        builder.info(made[i]).name = "y" + std::to_string(i);
        builder.output(made[i]);
      }
      const LoadedModel model = model_of(std::move(builder));
      SessionOptions plain;
      plain.prefer_kernel = "ref";
      plain.optimize = "none";
      Session fast(model), ref(model, plain);
      const std::vector<Value> got = fast.run(feeds), expected = ref.run(feeds);
      for (size_t i = 0; i < got.size(); ++i)
        EXPECT_LE(difference(got[i], expected[i]), backward ? 1e-4 : 2e-3)
            << "output " << i << " of size " << size << (backward ? " backward" : "");
    }
}

// The bodies of a FlexAttention, which read a value of the graph around them.
TEST(GradientRules, FlexAttentionWithBodies) {
  GraphBuilder builder("flex");
  const auto input = [&](const char* name, Dims dims) {
    return builder.input(name, Type::tensor(DType::Float64, shape_of(dims)));
  };
  const ValueId q = input("q", {1, 4, 3, 6}), k = input("k", {1, 2, 5, 6}), v = input("v", {1, 2, 5, 7}),
                bias = input("bias", {3, 5});
  const auto body = [](const char* op) {
    GraphBuilder inner(op);
    const ValueId x = inner.input("x", Type::tensor(DType::Float64, Shape(4)));
    const ValueId b = inner.capture(0, "bias", Type::tensor(DType::Float64, Shape(2)));
    inner.output(inner.op(op, {inner.op("Tanh", {x}), b}));
    return std::move(inner).build();
  };
  Node node;
  node.op = "FlexAttention";
  node.domain = "ai.onnx.preview";
  node.inputs = {q, k, v};
  node.captures = {bias};
  node.attributes = attributes({{"score_mod", body("Add")}, {"prob_mod", body("Mul")}});
  node.outputs = {builder.value("y")};
  builder.output(node.outputs[0]);
  builder.add(std::move(node));
  const LoadedModel model = model_of(std::move(builder));
  std::mt19937_64 random(2);
  Feeds feeds;
  Session session(model);
  for (const auto& [name, dims] : std::vector<std::pair<std::string, Dims>>{
           {"q", {1, 4, 3, 6}}, {"k", {1, 2, 5, 6}}, {"v", {1, 2, 5, 7}}, {"bias", {3, 5}}})
    feeds[name] = random_like(Tensor(DType::Float64, dims), random);
  EXPECT_LE(gradient_error(model, feeds, {.wrt = {"q", "k", "v", "bias"}}), 1e-6);
}

// The kernels for f32 and the rules in 16 bits, against the same gradient in f64.
struct Precision {
  DType dtype;
  double tolerance;
};

void expect_like_f64(const Case& c, const Precision& precision) {
  SCOPED_TRACE(c.name() + " in " + dtype_name(precision.dtype));
  const Prepared narrow = model_in(c, precision.dtype), wide = make_model(c, 1, DType::Float64);
  Feeds feeds = narrow.feeds, exact;
  std::vector<std::string> wrt;
  for (const auto& [name, value] : feeds) {
    exact[name] = as_dtype(value.tensor(), DType::Float64);
    if (is_float(value.tensor().dtype())) wrt.push_back(name);
  }
  Session forward(narrow.model);
  std::mt19937_64 random(11);
  const std::vector<Value> outputs = forward.run(feeds);
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!is_float(outputs[i].tensor().dtype())) continue;
    const std::string name = "d_" + forward.outputs()[i].name;
    const Tensor dy = as_dtype(random_like(outputs[i].tensor(), random), precision.dtype);
    feeds[name] = as_dtype(dy, outputs[i].tensor().dtype());
    exact[name] = as_dtype(dy, DType::Float64);
  }
  const std::vector<Tensor> got = gradients(narrow.model, wrt, feeds),
                            expected = gradients(wide.model, wrt, exact);
  for (size_t i = 0; i < wrt.size(); ++i) {
    EXPECT_EQ(got[i].dtype(), precision.dtype) << wrt[i];
    EXPECT_LE(difference(got[i], expected[i]), precision.tolerance) << wrt[i];
  }
}

TEST(GradientRules, OtherPrecisions) {
  const std::set<std::string> ops = {"Relu",
                                     "LeakyRelu",
                                     "PRelu",
                                     "Elu",
                                     "Celu",
                                     "Selu",
                                     "ThresholdedRelu",
                                     "HardSigmoid",
                                     "HardSwish",
                                     "Sigmoid",
                                     "Softplus",
                                     "Softsign",
                                     "Mish",
                                     "Gelu",
                                     "Swish",
                                     "SwiGLU",
                                     "Shrink",
                                     "Softmax",
                                     "LogSoftmax",
                                     "SoftmaxCrossEntropyLoss",
                                     "NegativeLogLikelihoodLoss",
                                     "BatchNormalization",
                                     "InstanceNormalization",
                                     "LayerNormalization",
                                     "RMSNormalization",
                                     "GroupNormalization",
                                     "LpNormalization",
                                     "LRN",
                                     "MeanVarianceNormalization",
                                     "Attention"};
  for (const Case& c : case_table().all()) {
    if (!ops.contains(c.op) || !c.f64) continue;
    for (const Precision& precision :
         {Precision{DType::Float32, 1e-4}, {DType::Float16, 2e-2}, {DType::BFloat16, 1e-1}})
      // ONNX's Shrink takes no bf16.
      if (c.op != "Shrink" || precision.dtype != DType::BFloat16) {
        try {
          expect_like_f64(c, precision);
        } catch (const Error& e) {
          ADD_FAILURE() << c.name() << ": " << e.what();
        }
      }
  }
}

}  // namespace

}  // namespace sardonyx::test
