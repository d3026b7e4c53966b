#include <cmath>

#include "onnx_import/upgrade/rules.h"

namespace sardonyx::upgrade {

namespace {

// The exponent, which was a float; exporters also wrote integers.
double exponent(Rewrite& r) {
  double p = 2;
  if (const Attribute* found = r.node.attributes.find("p")) {
    if (const auto* integer = std::get_if<int64_t>(found))
      p = static_cast<double>(*integer);
    else
      p = r.node.attributes.at<float>("p");
  }
  if (!(p > 0) || std::isinf(p)) throw ModelError("attribute 'p'", "a positive number", std::to_string(p));
  return p;
}

bool is_whole(double p) { return p == std::floor(p) && p <= 1e9; }

ValueId absolute_power(Rewrite& r, double p) {
  const ValueId x = r.in(0);
  return r.op("Pow", {r.op("Abs", {x}), r.scalar_like(p, x)});
}

void lp_pool_2(Rewrite& r) {
  const double p = exponent(r);
  const std::vector<int64_t> kernel = r.node.attributes.at<std::vector<int64_t>>("kernel_shape");
  if (is_whole(p)) {
    r.node.attributes.set("p", static_cast<int64_t>(p));
    return;
  }
  int64_t window = 1;
  for (const int64_t size : kernel) window = checked_mul(window, size, "kernel_shape");
  Attributes average = r.node.attributes;
  average.erase("p");
  average.set("count_include_pad", int64_t{1});
  const ValueId mean = r.op("AveragePool", {absolute_power(r, p)}, std::move(average));
  const ValueId sum = r.op("Mul", {mean, r.scalar_like(static_cast<double>(window), r.in(0))});
  r.become("Pow", {sum, r.scalar_like(1 / p, r.in(0))});
}

void global_lp_pool_2(Rewrite& r) {
  const double p = exponent(r);
  if (is_whole(p)) {
    r.node.attributes.set("p", static_cast<int64_t>(p));
    return;
  }
  const ValueId last = r.reshape(r.rank_of(r.in(0)), r.ints({}));
  const ValueId axes =
      r.op("Range", {r.constant(Tensor::scalar<int64_t>(2)), last, r.constant(Tensor::scalar<int64_t>(1))});
  const ValueId sum = r.op("ReduceSum", {absolute_power(r, p), axes},
                           attributes({{"keepdims", int64_t{1}}, {"noop_with_empty_axes", int64_t{1}}}));
  r.become("Pow", {sum, r.scalar_like(1 / p, r.in(0))});
}

}  // namespace

std::vector<Step> pooling_steps() {
  return {{"LpPool", 2, lp_pool_2, ""}, {"GlobalLpPool", 2, global_lp_pool_2, ""}};
}

}  // namespace sardonyx::upgrade
