// Gradients of CumProd and Det, and what they are made of.
#include <limits>
#include <numeric>

#include "ops/elementwise.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

// An element's share of all products that it is in: the product of those before it, times the sum over the
// outputs behind it of their cotangents and the elements between. Nothing is divided, so that zeros are
// right, and the gradient of this as well.
void cumprod(Differentiate& d) {
  const auto a = d.attributes<CumulativeAttributes>();
  const ValueId x = d.in(0), dy = d.cotangent();
  const ValueId axis = d.dtype(1) == DType::Int64 ? d.in(1) : d.cast(d.in(1), DType::Int64);
  const Attributes back = attributes({{"reverse", int64_t{!a.reverse}}});
  const auto behind = [&](ValueId terms) { return d.own("LinearScan", {x, terms, axis}, back); };
  if (a.exclusive != 0) {
    d.give(0, d.mul(d.out(), behind(dy)));
    return;
  }
  const ValueId before =
      d.op("CumProd", {x, axis}, attributes({{"exclusive", int64_t{1}}, {"reverse", a.reverse}}));
  d.give(0, d.mul(before, d.add(dy, behind(d.mul(x, dy)))));
}

// LinearScan(A, B, axis): along the axis, y = 0 at the first element and a y + b at the next.
std::vector<ValueId> linear_scan(Compose& c) {
  const auto a = c.attributes<LinearScanAttributes>();
  const DType given = c.dtype(0), dtype = given == DType::Float64 ? given : DType::Float32;
  const ValueId dims = c.shape_of(c.in(0)), axis = c.op("Reshape", {c.in(2), c.ints({1})}),
                zero = c.ints({0});
  const ValueId from_front = c.where(c.op("Less", {axis, zero}), c.add(axis, c.op("Size", {dims})), axis);
  const ValueId behind = c.add(from_front, c.ints({1}));
  // As [outer, length, inner].
  const auto product = [&](ValueId begin, ValueId end) {
    return c.op("ReduceProd", {c.op("Slice", {dims, begin, end, zero})});
  };
  const ValueId folded = c.op("Concat",
                              {product(zero, from_front), c.op("Gather", {dims, from_front}),
                               product(behind, c.ints({std::numeric_limits<int64_t>::max()}))},
                              attributes({{"axis", int64_t{0}}}));
  const Attributes as_is = attributes({{"allowzero", int64_t{1}}});
  const auto lines = [&](ValueId x) {
    return c.op("Reshape", {given == dtype ? x : c.cast(x, dtype), folded}, as_is);
  };
  GraphBuilder body("linear scan");
  const Type line = Type::tensor(dtype, Shape(2));
  const ValueId y = body.input("y", line), factor = body.input("a", line), term = body.input("b", line);
  body.output(body.op("Add", {body.op("Mul", {factor, y}), term}));
  body.output(body.op("Identity", {y}));
  const std::vector<int64_t> middle = {1, 1}, direction(2, a.reverse != 0);
  const ValueId first = c.op("Expand", {c.scalar(dtype, 0), c.op("Gather", {folded, c.ints({0, 2})})});
  const ValueId made = c.ops("Scan", {first, lines(c.in(0)), lines(c.in(1))}, 2,
                             attributes({{"num_scan_inputs", int64_t{2}},
                                         {"scan_input_axes", middle},
                                         {"scan_input_directions", direction},
                                         {"scan_output_axes", std::vector<int64_t>{1}},
                                         {"scan_output_directions", std::vector<int64_t>{direction[0]}},
                                         {"body", std::move(body).build()}}))[1];
  const ValueId all = c.op("Reshape", {made, dims}, as_is);
  return {given == dtype ? all : c.cast(all, given)};
}

// What the outputs behind an element take from it is such a scan as well.
void linear_scan_gradient(Differentiate& d) {
  const auto a = d.attributes<LinearScanAttributes>();
  const ValueId behind =
      d.own("LinearScan", {d.in(0), d.cotangent(), d.in(2)}, attributes({{"reverse", int64_t{!a.reverse}}}));
  d.give(1, behind);
  if (d.needs(0)) d.give(0, d.mul(behind, d.out()));
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
  r.op("LinearScan", kOwnDomain)
      .ports({{"A"}, {"B"}, {"axis", "tensor(int64)"}}, {{"Y", 0, 0}})
      .attributes<LinearScanAttributes>()
      .decomposes(linear_scan)
      .differentiates(linear_scan_gradient);
  r.op("Det").differentiates([](Differentiate& d) {
    d.give(0, d.own("DetBackward", {d.cotangent(), d.in(0)}));
  });
  r.op("DetBackward", kOwnDomain).ports({{"dY"}, {"X"}}, {{"dX", 1, 1}}).decomposes(det_backward);
}

}  // namespace sardonyx
