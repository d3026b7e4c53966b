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

// ONNX's optimizers: R T, then lists of n tensors each: values, gradients, states. The outputs are the next
// values and states, list by list.
class Lists {
 public:
  Lists(Compose& c, size_t groups) : c_(c), groups_(groups), n_((c.node().inputs.size() - 2) / groups) {
    if (n_ == 0 || c.node().inputs.size() != 2 + groups * n_)
      throw ModelError("inputs after 'R' and 'T'", "a multiple of " + std::to_string(groups),
                       std::to_string(c.node().inputs.size() - 2));
  }
  // R and T, f64 scalars.
  ValueId rate() { return scalar(0); }
  ValueId step() { return scalar(1); }
  ValueId if_stepped(double then, double otherwise) {
    return c_.where(stepped(), number(then), number(otherwise));
  }
  ValueId stepped() { return c_.op("Greater", {step(), number(0)}); }
  ValueId number(double v) { return c_.scalar(DType::Float64, v); }

  // update(gradient, values): `values` are a tensor and its states, and become the next. The gradient has
  // `norm` times the tensor added.
  std::vector<ValueId> each(float norm, const std::function<void(ValueId, std::vector<ValueId>&)>& update) {
    std::vector<ValueId> outputs((groups_ - 1) * n_);
    for (size_t i = 0; i < n_; ++i) {
      const auto in = [&](size_t group) { return c_.in(2 + group * n_ + i); };
      std::vector<ValueId> values = {in(0)};
      for (size_t g = 2; g < groups_; ++g) values.push_back(in(g));
      update(c_.add(times(in(0), norm), in(1)), values);
      for (size_t k = 0; k < values.size(); ++k) outputs[k * n_ + i] = values[k];
    }
    outputs.resize(c_.node().outputs.size(), kNone);
    return outputs;
  }
  // By a number that the kernels round to the tensors' type.
  ValueId times(ValueId x, double factor) { return c_.mul(x, c_.scalar(c_.dtype(2), factor)); }
  ValueId times(ValueId x, ValueId factor) { return c_.mul(x, c_.cast(factor, c_.dtype(2))); }
  ValueId divided(ValueId x, ValueId square, float epsilon) {
    return c_.div(x, c_.add(c_.op("Sqrt", {square}), c_.scalar(c_.dtype(2), static_cast<double>(epsilon))));
  }

 private:
  ValueId scalar(size_t input) {
    return c_.op("Reshape", {c_.cast(c_.in(input), DType::Float64), c_.ints({})});
  }
  Compose& c_;
  const size_t groups_, n_;
};

std::vector<ValueId> adagrad(Compose& c) {
  const auto a = c.attributes<AdagradAttributes>();
  Lists lists(c, 3);
  const ValueId one = lists.number(1), decay = lists.number(static_cast<double>(a.decay_factor));
  const ValueId rate = c.div(lists.rate(), c.add(one, c.mul(lists.step(), decay)));
  return lists.each(a.norm_coefficient, [&](ValueId g, std::vector<ValueId>& v) {
    v[1] = c.add(v[1], c.mul(g, g));
    v[0] = c.sub(v[0], lists.divided(lists.times(g, rate), v[1], a.epsilon));
  });
}

std::vector<ValueId> adam(Compose& c) {
  const auto a = c.attributes<AdamAttributes>();
  const double alpha = static_cast<double>(a.alpha), beta = static_cast<double>(a.beta);
  Lists lists(c, 4);
  // Before the first step nothing is corrected, and nothing divided by.
  const ValueId step = c.op("Max", {lists.step(), lists.number(1)});
  const auto correction = [&](double by) {
    return c.sub(lists.number(1), c.op("Pow", {lists.number(by), step}));
  };
  const ValueId corrected = c.div(c.op("Sqrt", {correction(beta)}), correction(alpha));
  const ValueId rate = c.mul(lists.rate(), c.where(lists.stepped(), corrected, lists.number(1)));
  return lists.each(a.norm_coefficient, [&](ValueId g, std::vector<ValueId>& v) {
    v[1] = c.add(lists.times(v[1], alpha), lists.times(g, 1 - alpha));
    v[2] = c.add(lists.times(v[2], beta), lists.times(c.mul(g, g), 1 - beta));
    v[0] = lists.times(c.sub(v[0], lists.divided(lists.times(v[1], rate), v[2], a.epsilon)),
                       1 - static_cast<double>(a.norm_coefficient_post));
  });
}

std::vector<ValueId> momentum(Compose& c) {
  const auto a = c.attributes<MomentumAttributes>();
  if (!a.norm_coefficient || !a.alpha || !a.beta || !a.mode)
    throw ModelError("attributes 'alpha', 'beta', 'mode' and 'norm_coefficient'", "all of them");
  Lists lists(c, 3);
  const double alpha = static_cast<double>(*a.alpha);
  const ValueId rate = lists.rate(), beta = lists.if_stepped(static_cast<double>(*a.beta), 1);
  return lists.each(*a.norm_coefficient, [&](ValueId g, std::vector<ValueId>& v) {
    v[1] = c.add(lists.times(v[1], alpha), lists.times(g, beta));
    const ValueId along = *a.mode == "nesterov" ? c.add(g, lists.times(v[1], alpha)) : v[1];
    v[0] = c.sub(v[0], lists.times(along, rate));
  });
}

}  // namespace

void register_optimizer(OperatorRegistry& registry) {
  const auto op = [&registry](const char* name) -> Operator& {
    return registry.op(name, "ai.onnx.preview.training");
  };
  op("Adagrad").attributes<AdagradAttributes>().decomposes(adagrad);
  op("Adam").attributes<AdamAttributes>().decomposes(adam);
  op("Momentum").attributes<MomentumAttributes>().decomposes(momentum);

  const std::string number = "tensor(double)";
  registry.op("SGDStep", kOwnDomain)
      .attributes<SgdStepAttributes>()
      .ports({{"X"}, {"G"}, {"hyper", number}, {"scale", number}, {"momentum_buffer", "T", true}},
             {{"X_new", 0, 0}, {"momentum_buffer_new", 0, 0}})
      .decomposes(sgd_step);
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
      .decomposes(adamw_step);
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
