#include "training/optimizer.h"

namespace sardonyx {

namespace {

double at_least_zero(ArgumentReader& a, const std::string& name, double initial) {
  const double value = a.number(name, initial);
  if (!(value >= 0)) a.refuse(name, "a number of at least 0", std::to_string(value));
  return value;
}

double fraction(ArgumentReader& a, const std::string& name, double initial) {
  const double value = a.number(name, initial);
  if (!(value >= 0 && value < 1)) a.refuse(name, "a number from 0 to below 1", std::to_string(value));
  return value;
}

OptimizerRule sgd(ArgumentReader& a) {
  OptimizerRule rule;
  rule.op = "SGDStep";
  const double momentum = at_least_zero(a, "momentum", 0), dampening = a.number("dampening", 0);
  const bool nesterov = a.flag("nesterov", false);
  if (nesterov && (momentum == 0 || dampening != 0))
    a.refuse("nesterov", "momentum above 0 and no dampening", "another combination");
  rule.attributes =
      attributes({{"nesterov", int64_t{nesterov}}, {"maximize", int64_t{a.flag("maximize", false)}}});
  if (momentum != 0) rule.states = {"momentum_buffer"};
  rule.hyper = {{"lr", at_least_zero(a, "lr", 1e-3)},
                {"momentum", momentum},
                {"dampening", dampening},
                {"weight_decay", at_least_zero(a, "weight_decay", 0)}};
  return rule;
}

OptimizerRule adamw(ArgumentReader& a) {
  OptimizerRule rule;
  rule.op = "AdamWStep";
  const bool amsgrad = a.flag("amsgrad", false);
  rule.attributes =
      attributes({{"amsgrad", int64_t{amsgrad}}, {"maximize", int64_t{a.flag("maximize", false)}}});
  rule.states = {"exp_avg", "exp_avg_sq"};
  if (amsgrad) rule.states.push_back("max_exp_avg_sq");
  rule.hyper = {{"lr", at_least_zero(a, "lr", 1e-3)},
                {"beta1", fraction(a, "beta1", 0.9)},
                {"beta2", fraction(a, "beta2", 0.999)},
                {"eps", at_least_zero(a, "eps", 1e-8)},
                {"weight_decay", at_least_zero(a, "weight_decay", 1e-2)}};
  return rule;
}

}  // namespace

const std::vector<Optimizer>& all_optimizers() {
  static const std::vector<Optimizer> all = {{"SGD", sgd}, {"AdamW", adamw}};
  return all;
}

const Optimizer& find_optimizer(const std::string& name) {
  std::vector<std::string> names;
  for (const Optimizer& o : all_optimizers()) names.push_back(o.name);
  const std::string canonical = canonical_name("optimizer", name, names);
  for (const Optimizer& o : all_optimizers())
    if (o.name == canonical) return o;
  throw InputError("optimizer", "a known name", "'" + name + "'");
}

OptimizerRule optimizer_rule(const Optimizer& optimizer, const Arguments& given) {
  ArgumentReader arguments(optimizer.name, given);
  OptimizerRule rule = optimizer.rule(arguments);
  arguments.done();
  rule.hyper.emplace_back("step", 0);
  return rule;
}

}  // namespace sardonyx
