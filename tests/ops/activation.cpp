#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_activation(CaseTable& t) {
  for (const char* op : {"Relu", "Sigmoid", "Elu", "Selu", "Celu", "Softplus", "Softsign", "HardSigmoid",
                         "HardSwish", "LeakyRelu", "ThresholdedRelu", "Mish", "Gelu", "Swish", "Shrink"})
    for (const Dims& dims : {Dims{}, Dims{9}, Dims{3, 5, 11}, Dims{0, 4}, Dims{67, 301}})
      t.add(op, {f32(dims)});
  t.add("Gelu", {f32({4, 33})}).text("approximate", "tanh");
  t.add("Elu", {f32({4, 33})}).number("alpha", 0.3f);
  t.add("LeakyRelu", {f32({4, 33})}).number("alpha", 0.3f);
  t.add("Celu", {f32({4, 33})}).number("alpha", 2);
  t.add("HardSigmoid", {f32({4, 33})}).number("alpha", 0.4f).number("beta", 0.3f);
  for (const char* op : {"Elu", "LeakyRelu", "Celu", "ThresholdedRelu", "Swish"})
    t.add(op, {f32({4, 33})}).number("alpha", -0.4f);
  t.add("ThresholdedRelu", {f32({4, 33})}).number("alpha", 0.4f);
  t.add("Swish", {f32({4, 33})}).number("alpha", 1.7f);
  t.add("Selu", {f32({4, 33})}).number("alpha", -0.7f).number("gamma", 1.2f);
  t.add("Selu", {f32({4, 33})}).number("alpha", 0.7f).number("gamma", -1.2f);
  t.add("Shrink", {f32({4, 33})}).number("bias", 0.3f).number("lambd", 0.4f);
  t.add("Shrink", {f32({4, 33})}).number("bias", 0.3f).number("lambd", -0.4f);
  t.add("SwiGLU", {f32({4, 33}), f32({4, 33})});
  t.add("SwiGLU", {f32({4, 33}), f32({4, 33})}).number("alpha", 0.6f);
  t.add("PRelu", {f32({2, 3, 4, 5}), f32({3, 1, 1})});
  t.add("PRelu", {f32({2, 3}), f32({})});
}

}  // namespace sardonyx::test
