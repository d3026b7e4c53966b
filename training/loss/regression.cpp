// Losses between numbers: L1Loss, MSELoss, HuberLoss, SmoothL1Loss, PoissonNLLLoss, GaussianNLLLoss,
// KLDivLoss. Formulas are those of PyTorch's documentation.
#include <cmath>
#include <numbers>

#include "training/loss.h"

namespace sardonyx {

namespace {

ValueId difference(LossBuild& b) { return b.c.sub(b.c.in(0), b.c.in(1)); }

ValueId l1(LossBuild& b) { return b.reduced(b.c.op("Abs", {difference(b)})); }

ValueId mse(LossBuild& b) {
  const ValueId d = difference(b);
  return b.reduced(b.c.mul(d, d));
}

// Quadratic up to `bound`, linear beyond, with `slope` there.
ValueId huber_like(LossBuild& b, double bound, double quadratic, double slope, double offset) {
  Compose& c = b.c;
  const ValueId d = difference(b), size = c.op("Abs", {d});
  const ValueId near = c.mul(c.mul(d, d), b.scalar(quadratic));
  const ValueId far = c.mul(c.sub(size, b.scalar(offset)), b.scalar(slope));
  return b.reduced(c.where(c.op("Less", {size, b.scalar(bound)}), near, far));
}

ValueId huber(LossBuild& b) {
  const double delta = b.arguments.number("delta", 1);
  if (!(delta > 0)) b.arguments.refuse("delta", "a number above 0", std::to_string(delta));
  return huber_like(b, delta, 0.5, delta, 0.5 * delta);
}

ValueId smooth_l1(LossBuild& b) {
  const double beta = b.arguments.number("beta", 1);
  if (!(beta >= 0)) b.arguments.refuse("beta", "a number of at least 0", std::to_string(beta));
  return beta == 0 ? l1(b) : huber_like(b, beta, 0.5 / beta, 1, 0.5 * beta);
}

ValueId poisson_nll(LossBuild& b) {
  Compose& c = b.c;
  const ValueId x = c.in(0), target = c.in(1);
  const double eps = b.arguments.number("eps", 1e-8);
  ValueId loss = b.arguments.flag("log_input", true)
                     ? c.sub(c.op("Exp", {x}), c.mul(target, x))
                     : c.sub(x, c.mul(target, c.op("Log", {c.add(x, b.scalar(eps))})));
  if (b.arguments.flag("full", false)) {
    // Stirling's approximation of log(target!), for targets above 1.
    const ValueId above = c.op("Greater", {target, b.scalar(1)});
    const ValueId safe = c.where(above, target, b.scalar(1));
    const ValueId stirling =
        c.add(c.sub(c.mul(safe, c.op("Log", {safe})), safe),
              c.mul(c.op("Log", {c.mul(safe, b.scalar(2 * std::numbers::pi))}), b.scalar(0.5)));
    loss = c.add(loss, c.where(above, stirling, b.scalar(0)));
  }
  return b.reduced(loss);
}

ValueId gaussian_nll(LossBuild& b) {
  Compose& c = b.c;
  ValueId variance = c.in(2);
  if (c.rank(2) == c.rank(0) - 1) variance = c.op("Unsqueeze", {variance, c.ints({-1})});
  // The bound takes no part in the gradient.
  const double eps = b.arguments.number("eps", 1e-6);
  if (!(eps > 0)) b.arguments.refuse("eps", "a number above 0", std::to_string(eps));
  const ValueId shortfall = c.own("StopGradient", {c.sub(c.op("Max", {variance, b.scalar(eps)}), variance)});
  variance = c.add(variance, shortfall);
  const ValueId d = difference(b);
  ValueId loss = c.mul(c.add(c.op("Log", {variance}), c.div(c.mul(d, d), variance)), b.scalar(0.5));
  if (b.arguments.flag("full", false)) loss = c.add(loss, b.scalar(0.5 * std::log(2 * std::numbers::pi)));
  return b.reduced(loss);
}

ValueId kl_div(LossBuild& b) {
  Compose& c = b.c;
  const ValueId x = c.in(0), target = c.in(1);
  ValueId loss;
  if (b.arguments.flag("log_target", false)) {
    loss = c.mul(c.op("Exp", {target}), c.sub(target, x));
  } else {
    // 0 log 0 is 0.
    const ValueId above = c.op("Greater", {target, b.scalar(0)});
    const ValueId entropy = c.mul(target, c.op("Log", {c.where(above, target, b.scalar(1))}));
    loss = c.sub(entropy, c.mul(target, x));
  }
  if (b.reduction != "batchmean") return b.reduced(loss);
  const ValueId batch = c.op("Gather", {c.shape_of(x), c.ints({0})}, attributes({{"axis", int64_t{0}}}));
  const ValueId sum = c.op("ReduceSum", {loss}, attributes({{"keepdims", int64_t{0}}}));
  return c.div(sum, c.op("Squeeze", {c.cast(batch, b.dtype()), c.ints({0})}));
}

}  // namespace

void register_regression(std::vector<Loss>& losses) {
  const std::vector<LossPort> pair = {{"input"}, {"target", true}};
  losses.push_back({"L1Loss", pair, l1});
  losses.push_back({"MSELoss", pair, mse});
  losses.push_back({"HuberLoss", pair, huber});
  losses.push_back({"SmoothL1Loss", pair, smooth_l1});
  losses.push_back({"PoissonNLLLoss", pair, poisson_nll});
  losses.push_back({"GaussianNLLLoss", {{"input"}, {"target", true}, {"var"}}, gaussian_nll});
  losses.push_back({"KLDivLoss", pair, kl_div, {"none", "mean", "sum", "batchmean"}});
}

}  // namespace sardonyx
