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
  t.add("PRelu", {f32({2, 3, 4, 5}), f32({3, 1, 1})});
  t.add("PRelu", {f32({2, 3}), f32({})});
}

}  // namespace sardonyx::test
