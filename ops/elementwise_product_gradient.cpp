// Gradients of CumProd and Det.
#include <numeric>

#include "ops/elementwise.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

// Sums over the products that an element takes part in, divided by it; right for zeros too. Before the first
// zero of a line the products behind it vanish; the first zero gets the products with 1 in its place; what
// comes after it is a factor of zeros only.
void cumprod(Differentiate& d) {
  const auto a = d.attributes<CumulativeAttributes>();
  const DType dtype = d.dtype(0);
  const ValueId x = d.in(0), axis = d.in(1), zero = d.scalar(dtype, 0), one = d.scalar(dtype, 1);
  const Attributes same = attributes({{"exclusive", a.exclusive}, {"reverse", a.reverse}});
  const Attributes back = attributes({{"exclusive", a.exclusive}, {"reverse", int64_t{!a.reverse}}});
  const auto summed_back = [&](ValueId v) { return d.op("CumSum", {d.mul(d.cotangent(), v), axis}, back); };
  const ValueId is_zero = d.op("Equal", {x, zero});
  const ValueId zeros =
      d.op("CumSum", {d.cast(is_zero, DType::Int64), axis}, attributes({{"reverse", a.reverse}}));
  const ValueId none_yet = d.op("Equal", {zeros, d.scalar(DType::Int64, 0)});
  const ValueId is_first = d.op("And", {is_zero, d.op("Equal", {zeros, d.scalar(DType::Int64, 1)})});
  const ValueId before = d.div(summed_back(d.out()), d.where(is_zero, one, x));
  const ValueId at_zero = summed_back(d.op("CumProd", {d.where(is_first, one, x), axis}, same));
  d.give(0, d.where(none_yet, before, d.where(is_first, at_zero, zero)));
}

// DetBackward(dY, X): dY times the cofactors of X, written out by Faddeev and LeVerrier's recursion.
std::vector<ValueId> det_backward(Compose& c) {
  constexpr int64_t kMost = 16;
  const Type type = c.type(1);
  if (!type.shape || type.shape->size() < 2 || !type.shape->back().known()) return {};
  const int64_t n = type.shape->back().value;
  if (n < 1 || n > kMost) return {};
  const DType dtype = c.dtype(1);
  const ValueId square = c.op("Expand", {c.scalar(dtype, 0), c.ints({n, n})});
  const ValueId eye = c.op("EyeLike", {square});
  ValueId adjugate = eye;
  for (int64_t k = 1; k < n; ++k) {
    const ValueId product = c.op("MatMul", {c.in(1), adjugate});
    const ValueId trace = c.reduce_sum(c.mul(product, eye), {-2, -1});
    adjugate = c.sub(c.mul(eye, c.div(trace, c.scalar(dtype, static_cast<double>(k)))), product);
  }
  const ValueId dy = c.op("Unsqueeze", {c.in(0), c.ints({-2, -1})});
  if (n == 1) return {dy};
  std::vector<int64_t> perm(type.shape->size());
  std::iota(perm.begin(), perm.end(), int64_t{0});
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  return {c.mul(dy, c.transpose(adjugate, std::move(perm)))};
}

}  // namespace

void register_elementwise_product_gradient(OperatorRegistry& r) {
  r.op("CumProd").differentiates(cumprod);
  r.op("Det").differentiates([](Differentiate& d) {
    d.give(0, d.own("DetBackward", {d.cotangent(), d.in(0)}));
  });
  r.op("DetBackward", kOwnDomain).ports({{"dY"}, {"X"}}, {{"dX", 1, 1}}).decomposes(det_backward);
}

}  // namespace sardonyx
