// Adagrad, Adam, Momentum of ONNX; and this project's own SGDStep and AdamWStep: the updates of torch.optim
// with every number a run-time input, so that a schedule changes no plan. Their inputs are the parameter, its
// gradient, `hyper` (the numbers, in the order of SgdHyper and AdamWHyper; Step counts from 1), `scale` (of
// the gradient; NaN: nothing changes), then the states; their outputs the next parameter and states.
#include "ops/optimizer.h"

#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

class StepParts {
 public:
  explicit StepParts(Compose& c) : c_(c), type_(c.dtype(0)) {}
  template <typename Hyper>
  ValueId hyper(Hyper which) {
    return c_.op("Gather", {c_.in(2), c_.builder().constant(Tensor::scalar(static_cast<int64_t>(which)))});
  }
  ValueId as_type(ValueId number) { return c_.cast(number, type_); }
  ValueId one_minus(ValueId x) { return c_.sub(c_.scalar(DType::Float64, 1), x); }
  ValueId gradient(bool maximize) {
    const ValueId g = c_.mul(c_.in(1), as_type(c_.in(3)));
    return maximize ? c_.neg(g) : g;
  }
  ValueId unless_skipped(ValueId next, size_t before) {
    return c_.where(c_.op("IsNaN", {c_.in(3)}), c_.in(before), next);
  }

 private:
  Compose& c_;
  DType type_;
};

std::vector<ValueId> sgd_step(Compose& c) {
  const auto a = c.attributes<SgdStepAttributes>();
  StepParts s(c);
  const ValueId x = c.in(0);
  ValueId g = c.add(s.gradient(a.maximize != 0), c.mul(x, s.as_type(s.hyper(SgdHyper::WeightDecay))));
  std::vector<ValueId> outputs(c.node().outputs.size(), kNone);
  if (c.has(4)) {
    const ValueId momentum = s.as_type(s.hyper(SgdHyper::Momentum));
    const ValueId damped = c.mul(g, s.as_type(s.one_minus(s.hyper(SgdHyper::Dampening))));
    const ValueId first = c.op("LessOrEqual", {s.hyper(SgdHyper::Step), c.scalar(DType::Float64, 1)});
    const ValueId buffer = c.where(first, g, c.add(c.mul(c.in(4), momentum), damped));
    if (c.wants(1)) outputs[1] = s.unless_skipped(buffer, 4);
    g = a.nesterov != 0 ? c.add(g, c.mul(buffer, momentum)) : buffer;
  }
  outputs[0] = s.unless_skipped(c.sub(x, c.mul(g, s.as_type(s.hyper(SgdHyper::Rate)))), 0);
  return outputs;
}

std::vector<ValueId> adamw_step(Compose& c) {
  const auto a = c.attributes<AdamWStepAttributes>();
  StepParts s(c);
  const ValueId g = s.gradient(a.maximize != 0), rate = s.hyper(AdamWHyper::Rate);
  const auto average = [&](size_t state, ValueId beta, ValueId next) {
    return c.add(c.mul(c.in(state), s.as_type(beta)), c.mul(next, s.as_type(s.one_minus(beta))));
  };
  const auto correction = [&](ValueId beta) {
    return s.one_minus(c.op("Pow", {beta, s.hyper(AdamWHyper::Step)}));
  };
  const ValueId beta1 = s.hyper(AdamWHyper::Beta1), beta2 = s.hyper(AdamWHyper::Beta2);
  const ValueId m = average(4, beta1, g), v = average(5, beta2, c.mul(g, g));
  const ValueId largest = a.amsgrad != 0 ? c.op("Max", {c.in(6), v}) : v;
  const ValueId root = c.op("Sqrt", {largest});
  const ValueId below = c.add(c.div(root, s.as_type(c.op("Sqrt", {correction(beta2)}))),
                              s.as_type(s.hyper(AdamWHyper::Epsilon)));
  const ValueId kept = s.as_type(s.one_minus(c.mul(rate, s.hyper(AdamWHyper::WeightDecay))));
  const ValueId step = c.mul(c.div(m, below), s.as_type(c.div(rate, correction(beta1))));
  std::vector<ValueId> outputs(c.node().outputs.size(), kNone);
  outputs[0] = s.unless_skipped(c.sub(c.mul(c.in(0), kept), step), 0);
  if (c.wants(1)) outputs[1] = s.unless_skipped(m, 4);
  if (c.wants(2)) outputs[2] = s.unless_skipped(v, 5);
  if (c.wants(3)) outputs[3] = s.unless_skipped(largest, 6);
  return outputs;
}

}  // namespace

void register_optimizer(OperatorRegistry& registry) {
  for (const char* name : {"Adagrad", "Adam", "Momentum"})
    registry.op(name, "ai.onnx.preview.training").non_differentiable("it is a step of an optimizer");
  registry.op("Adagrad", "ai.onnx.preview.training").attributes<AdagradAttributes>();
  registry.op("Adam", "ai.onnx.preview.training").attributes<AdamAttributes>();
  registry.op("Momentum", "ai.onnx.preview.training").attributes<MomentumAttributes>();

  const std::string number = "tensor(double)";
  registry.op("SGDStep", kOwnDomain)
      .attributes<SgdStepAttributes>()
      .ports({{"X"}, {"G"}, {"hyper", number}, {"scale", number}, {"momentum_buffer", "T", true}},
             {{"X_new", 0, 0}, {"momentum_buffer_new", 0, 0}})
      .decomposes(sgd_step)
      .non_differentiable("it is a step of an optimizer");
  registry.op("AdamWStep", kOwnDomain)
      .attributes<AdamWStepAttributes>()
      .ports({{"X"},
              {"G"},
              {"hyper", number},
              {"scale", number},
              {"exp_avg"},
              {"exp_avg_sq"},
              {"max_exp_avg_sq", "T", true}},
             {{"X_new", 0, 0}, {"exp_avg_new", 0, 0}, {"exp_avg_sq_new", 0, 0}, {"max_exp_avg_sq_new", 0, 0}})
      .decomposes(adamw_step)
      .non_differentiable("it is a step of an optimizer");
  // The sum of gradients over several batches.
  registry.op("Accumulate", kOwnDomain)
      .ports({{"A"}, {"G"}}, {{"A_new", 0, 0}})
      .decomposes([](Compose& c) { return std::vector<ValueId>{c.add(c.in(0), c.in(1))}; })
      .differentiates([](Differentiate& d) {
        d.give(0, d.cotangent());
        d.give(1, d.cotangent());
      });
}

}  // namespace sardonyx
