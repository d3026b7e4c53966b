// The gradient of CausalConvWithState, which has no f64 form: in f32 against central differences of its
// kernel, with steps that rounding does not disturb.
#include <gtest/gtest.h>

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

Tensor random_f32(const Dims& dims, std::mt19937& random) {
  std::normal_distribution<float> normal;
  Tensor tensor(DType::Float32, dims);
  for (int64_t i = 0; i < tensor.size(); ++i) tensor.mutable_data<float>()[i] = normal(random);
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

}  // namespace sardonyx::test
