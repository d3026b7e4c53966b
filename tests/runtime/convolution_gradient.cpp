// Gradients in f32: CausalConvWithState, which has no f64 form, against central differences of its kernel
// with steps that rounding does not disturb; a small network, whose images are channels last, against plain
// loops.
#include <gtest/gtest.h>

#include "graph/builder.h"
#include "tests/support/cases.h"
#include "tests/support/gradient.h"

namespace sardonyx::test {

namespace {

double weighted_sum(const std::vector<Value>& outputs, const Feeds& weights) {
  double sum = 0;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Tensor &y = outputs[i].tensor(), &w = weights.at("d_y" + std::to_string(i)).tensor();
    for (int64_t k = 0; k < y.size(); ++k)
      sum += static_cast<double>(y.data<float>()[k] * w.data<float>()[k]);
  }
  return sum;
}

Tensor random_f32(const Dims& dims, std::mt19937& random, float scale = 1) {
  std::normal_distribution<float> normal;
  Tensor tensor(DType::Float32, dims);
  for (int64_t i = 0; i < tensor.size(); ++i) tensor.mutable_data<float>()[i] = scale * normal(random);
  return tensor;
}

}  // namespace

TEST(CausalConvWithState, GradientIsThatOfTheKernel) {
  for (const bool past : {false, true})
    for (const char* activation : {"none", "silu"}) {
      SCOPED_TRACE(std::string(activation) + (past ? " with" : " without") + " a past state");
      Case c;
      c.op = "CausalConvWithState";
      c.inputs = {f32({2, 3, 5}), f32({3, 1, 4}), f32({3}), past ? f32({2, 3, 3}) : none()};
      c.text("activation", activation).gives(2);
      const Prepared prepared = make_model(c, 1);
      std::vector<std::string> wrt = {"x0", "x1", "x2"};
      if (past) wrt.push_back("x3");
      Session forward(prepared.model), backward(gradient_of(prepared.model, wrt));
      std::mt19937 random(2);
      Feeds all = prepared.feeds,
            cotangents = {{"d_y0", random_f32({2, 3, 5}, random)}, {"d_y1", random_f32({2, 3, 3}, random)}};
      all.insert(cotangents.begin(), cotangents.end());
      const std::vector<Value> gradients = backward.run(all);
      for (size_t i = 0; i < wrt.size(); ++i) {
        const Tensor& x = prepared.feeds.at(wrt[i]).tensor();
        ASSERT_EQ(gradients[i].tensor().dims(), x.dims());
        for (int64_t k = 0; k < x.size(); ++k) {
          constexpr float kStep = 1e-2f;
          const auto at = [&](float step) {
            Feeds feeds = prepared.feeds;
            Tensor moved = x.clone();
            moved.mutable_data<float>()[k] += step;
            feeds[wrt[i]] = moved;
            return weighted_sum(forward.run(feeds), cotangents);
          };
          EXPECT_NEAR(gradients[i].tensor().data<float>()[k], (at(kStep) - at(-kStep)) / (2 * kStep), 3e-3)
              << wrt[i] << " " << k;
        }
      }
    }
}

// Relative, in the Euclidean norm.
double distance(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = a.to_doubles(), y = b.to_doubles();
  double apart = 0, size = 0;
  for (size_t i = 0; i < y.size(); ++i) apart += (x[i] - y[i]) * (x[i] - y[i]), size += y[i] * y[i];
  return std::sqrt(apart / size);
}

TEST(ConvolutionGradient, OfANetworkIsThatOfPlainLoops) {
  GraphBuilder builder("net");
  std::mt19937 random(3);
  Feeds feeds;
  std::vector<std::string> wrt;
  const auto input = [&](const std::string& name, const Dims& dims) {
    feeds[name] = random_f32(dims, random, 0.2f);
    wrt.push_back(name);
    return builder.input(name, Type::tensor(DType::Float32, shape_of(dims)));
  };
  const auto conv = [&](ValueId x, int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t group) {
    const std::string name = "w" + std::to_string(wrt.size());
    const ValueId w = input(name, {out, in / group, kernel, kernel}), b = input(name + "_bias", {out});
    const std::vector<int64_t> pads(4, kernel / 2), strides(2, stride);
    return builder.op("Conv", {x, w, b},
                      attributes({{"pads", pads}, {"strides", strides}, {"group", group}}));
  };
  const auto relu = [&](ValueId x) { return builder.op("Relu", {x}); };
  const std::vector<int64_t> two(2, 2), three(2, 3), ones(4, 1);
  const auto normalized = [&](ValueId x, int64_t channels) {
    const std::string name = "n" + std::to_string(wrt.size());
    const ValueId scale = input(name + "_scale", {channels}), shift = input(name + "_shift", {channels});
    const ValueId mean = builder.constant(Tensor::zeros(DType::Float32, {channels}));
    return builder.ops("BatchNormalization", {x, scale, shift, mean, mean}, 3,
                       attributes({{"training_mode", int64_t{1}}}))[0];
  };
  ValueId x = relu(normalized(conv(input("x", {2, 3, 21, 18}), 3, 24, 3, 1, 1), 24));
  x = builder.op("MaxPool", {x}, attributes({{"kernel_shape", three}, {"strides", two}, {"pads", ones}}));
  x = relu(builder.op("Add", {x, conv(relu(conv(x, 24, 16, 3, 1, 1)), 16, 24, 3, 1, 1)}));
  x = builder.op("Tanh", {conv(x, 24, 24, 5, 2, 24)});
  x = builder.op("AveragePool", {x}, attributes({{"kernel_shape", two}}));
  x = relu(normalized(conv(x, 24, 37, 1, 1, 1), 37));
  builder.output(builder.op("GlobalAveragePool", {x}));
  auto model = std::make_shared<Model>();
  model->graph = std::move(builder).build();
  model->ir_version = 10;
  const LoadedModel gradient = gradient_of(LoadedModel(model), wrt);
  feeds["d_" + model->graph->value(model->graph->outputs()[0]).name] = random_f32({2, 37, 1, 1}, random);
  SessionOptions plain, low;
  low.precision = "medium";
  plain.prefer_kernel = "ref";
  plain.optimize = "none";
  Session fast(gradient), slow(gradient, plain), medium(gradient, low);
  for (auto it = feeds.begin(); it != feeds.end();) {
    bool read = false;
    for (const auto& known : fast.inputs()) read = read || known.name == it->first;
    it = read ? std::next(it) : feeds.erase(it);
  }
  const std::vector<Value> got = fast.run(feeds), expected = slow.run(feeds), rounded = medium.run(feeds);
  for (size_t i = 0; i < wrt.size(); ++i) {
    // Before a normalization a bias changes nothing: its gradient is what rounding leaves.
    if (wrt[i] == "w1_bias" || wrt[i] == "w11_bias") continue;
    EXPECT_LE(difference(got[i], expected[i]), 2e-5) << wrt[i];
    // In bf16 some maxima and signs turn over: the gradients as a whole are near.
    EXPECT_LE(distance(rounded[i].tensor(), expected[i].tensor()), 0.3) << wrt[i];
  }
}

}  // namespace sardonyx::test
