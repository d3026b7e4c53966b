// The gradient of LinearAttention, which has no f64 form, against central differences of its recurrence
// written out in f64.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/support/cases.h"
#include "tests/support/gradient.h"

namespace sardonyx::test {

namespace {

constexpr int64_t kBatch = 2, kLength = 4, kHeads = 2, kQueries = 4, kKey = 3, kValue = 5;
using Doubles = std::vector<double>;

struct Problem {
  bool gated, delta;
  int64_t decay_width, beta_heads;
  // query key value past_state decay beta
  std::vector<Dims> dims() const {
    return {{kBatch, kLength, kQueries * kKey}, {kBatch, kLength, kHeads * kKey},
            {kBatch, kLength, kHeads * kValue}, {kBatch, kHeads, kKey, kValue},
            {kBatch, kLength, decay_width},     {kBatch, kLength, beta_heads}};
  }
};

// The output and the last state, one after the other.
Doubles recurrence(const Problem& p, const std::vector<Doubles>& x) {
  Doubles y(kBatch * kLength * kQueries * kValue), states;
  for (int64_t b = 0; b < kBatch; ++b)
    for (int64_t h = 0; h < kHeads; ++h) {
      double s[kKey][kValue];
      for (int64_t i = 0; i < kKey * kValue; ++i)
        s[i / kValue][i % kValue] = x[3][static_cast<size_t>((b * kHeads + h) * kKey * kValue + i)];
      for (int64_t t = 0; t < kLength; ++t) {
        const int64_t row = b * kLength + t;
        const auto at = [&](size_t input, int64_t width, int64_t i) {
          return x[input][static_cast<size_t>(row * width + i)];
        };
        if (p.gated)
          for (int64_t i = 0; i < kKey; ++i)
            for (double& v : s[i])
              v *= std::exp(at(4, p.decay_width, p.decay_width == kHeads ? h : h * kKey + i));
        for (int64_t j = 0; j < kValue; ++j) {
          double u = at(2, kHeads * kValue, h * kValue + j);
          if (p.delta) {
            for (int64_t i = 0; i < kKey; ++i) u -= at(1, kHeads * kKey, h * kKey + i) * s[i][j];
            u *= at(5, p.beta_heads, p.beta_heads == 1 ? 0 : h);
          }
          for (int64_t i = 0; i < kKey; ++i) s[i][j] += at(1, kHeads * kKey, h * kKey + i) * u;
        }
        for (int64_t g = 0; g < kQueries / kHeads; ++g)
          for (int64_t j = 0; j < kValue; ++j) {
            const int64_t head = h * kQueries / kHeads + g;
            double sum = 0;
            for (int64_t i = 0; i < kKey; ++i) sum += at(0, kQueries * kKey, head * kKey + i) * s[i][j];
            y[static_cast<size_t>((row * kQueries + head) * kValue + j)] = sum / std::sqrt(double{kKey});
          }
      }
      for (const auto& line : s) states.insert(states.end(), line, line + kValue);
    }
  y.insert(y.end(), states.begin(), states.end());
  return y;
}

TEST(GradientRules, LinearAttention) {
  for (const auto& [rule, width, betas] :
       std::vector<std::tuple<std::string, int64_t, int64_t>>{{"linear", 0, 0},
                                                              {"gated", kHeads, 0},
                                                              {"gated", kHeads * kKey, 0},
                                                              {"delta", 0, 1},
                                                              {"gated_delta", kHeads, kHeads},
                                                              {"gated_delta", kHeads * kKey, 1}}) {
    SCOPED_TRACE(rule);
    const Problem p{rule.starts_with("gated"), rule.ends_with("delta"), width, betas};
    const std::vector<Dims> dims = p.dims();
    Case c;
    c.op = "LinearAttention";
    for (size_t i = 0; i < 6; ++i) {
      const bool there = i < 4 || (i == 4 ? p.gated : p.delta);
      c.inputs.push_back(there ? f32(dims[i], Fill::Unit) : none());
    }
    c.integer("q_num_heads", kQueries).integer("kv_num_heads", kHeads).text("update_rule", rule).gives(2);
    const Prepared prepared = make_model(c, 1);
    std::vector<std::string> wrt;
    std::vector<Doubles> x(6);
    for (const auto& [name, value] : prepared.feeds) {
      wrt.push_back(name);
      x[static_cast<size_t>(name[1] - '0')] = value.tensor().to_doubles();
    }
    Feeds feeds = prepared.feeds;
    std::mt19937_64 random(9);
    std::normal_distribution<float> normal;
    Doubles cotangent;
    for (const auto& [name, shape] : std::vector<std::pair<std::string, Dims>>{
             {"d_y0", {kBatch, kLength, kQueries * kValue}}, {"d_y1", {kBatch, kHeads, kKey, kValue}}}) {
      Tensor dy(DType::Float32, shape);
      for (int64_t i = 0; i < dy.size(); ++i)
        cotangent.push_back(dy.mutable_data<float>()[i] = normal(random));
      feeds[name] = dy;
    }
    Session session(gradient_of(prepared.model, wrt));
    Feeds read;
    for (const auto& input : session.inputs()) read[input.name] = feeds.at(input.name);
    const std::vector<Value> got = session.run(read);
    const auto loss = [&] {
      const Doubles y = recurrence(p, x);
      double sum = 0;
      for (size_t i = 0; i < y.size(); ++i) sum += y[i] * cotangent[i];
      return sum;
    };
    for (size_t k = 0; k < wrt.size(); ++k) {
      Doubles& values = x[static_cast<size_t>(wrt[k][1] - '0')];
      const Doubles gradient = got[k].tensor().to_doubles();
      ASSERT_EQ(gradient.size(), values.size());
      for (size_t i = 0; i < values.size(); ++i) {
        const double before = values[i], step = 1e-5;
        values[i] = before + step;
        const double above = loss();
        values[i] = before - step;
        const double slope = (above - loss()) / (2 * step);
        values[i] = before;
        EXPECT_NEAR(gradient[i], slope, 1e-4 * std::max(1.0, std::abs(slope))) << wrt[k] << " at " << i;
      }
    }
  }
}

}  // namespace

}  // namespace sardonyx::test
