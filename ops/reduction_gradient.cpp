// Gradients of the reductions, and SumTo, which undoes a broadcast.
#include <numeric>

#include "ops/reduction.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

// SumTo(x, shape): x, whose dims those of `shape` were broadcast to, summed back.
std::vector<ValueId> sum_to(Compose& c) {
  const ValueId x = c.in(0), shape = c.in(1);
  const ValueId from = c.shape_of(x);
  const ValueId lead = c.sub(c.shape_of(from), c.shape_of(shape));
  const ValueId ones =
      c.op("ConstantOfShape", {lead}, attributes({{"value", Value(Tensor::of<int64_t>({1}))}}));
  const ValueId wide = c.op("Concat", {ones, shape}, attributes({{"axis", int64_t{0}}}));
  const ValueId axes = c.op("NonZero", {c.op("Not", {c.op("Equal", {from, wide})})});
  const ValueId sum = c.op("ReduceSum", {x, c.op("Reshape", {axes, c.ints({-1})})},
                           attributes({{"keepdims", int64_t{1}}, {"noop_with_empty_axes", int64_t{1}}}));
  return {c.op("Reshape", {sum, shape}, attributes({{"allowzero", int64_t{1}}}))};
}

bool reduces_nothing(Differentiate& d, const ReduceAttributes& a) {
  const Tensor* axes = d.constant(1);
  return a.noop_with_empty_axes != 0 && (!d.has(1) || (axes && axes->size() == 0));
}

// A value of the output's shape with the reduced axes back, of size 1.
ValueId kept(Differentiate& d, ValueId y, const ReduceAttributes& a) {
  if (a.keepdims != 0 || reduces_nothing(d, a)) return y;
  const Tensor* axes = d.constant(1);
  if (d.has(1) && !(axes && axes->size() == 0)) return d.op("Unsqueeze", {y, d.in(1)});
  std::vector<int64_t> all(static_cast<size_t>(d.need_rank(0)));
  std::iota(all.begin(), all.end(), int64_t{0});
  return all.empty() ? y : d.op("Unsqueeze", {y, d.ints(std::move(all))});
}

ValueId like_input(Differentiate& d, ValueId g) { return d.op("Expand", {g, d.shape_of(d.in(0))}); }

// dX from dY and Y, both with the reduced axes of size 1; broadcasts against the input.
using Rule = ValueId (*)(Differentiate& d, ValueId dy, ValueId y, ValueId x);

Gradient reduction(Rule rule) {
  return [rule](Differentiate& d) {
    const auto a = d.attributes<ReduceAttributes>();
    const ValueId dy = kept(d, d.cotangent(), a);
    d.give(0, rule(d, dy, kept(d, d.out(), a), d.in(0)));
  };
}

// The number of elements that each sum has.
ValueId count(Differentiate& d, ValueId y, ValueId x) {
  return d.div(d.cast(d.op("Size", {x}), d.dtype(0)), d.cast(d.op("Size", {y}), d.dtype(0)));
}

// Every element that is the extreme gets an equal share, as in PyTorch's amax.
ValueId extreme(Differentiate& d, ValueId dy, ValueId y, ValueId x) {
  const ValueId hit = d.number(d.op("Equal", {x, y}), d.dtype(0));
  // The shares are summed over the axes that were reduced: those that y was broadcast along.
  const ValueId shares = d.own("SumTo", {hit, d.shape_of(y)});
  return d.mul(hit, d.div(dy, shares));
}

// The axes of the node, where they are known.
std::optional<std::vector<int64_t>> known_axes(Differentiate& d) {
  if (const Tensor* axes = d.constant(1); d.has(1) && !axes)
    return std::nullopt;
  else if (axes && axes->size() != 0)
    return axes->to_int64s();
  if (d.rank(0) < 0) return std::nullopt;
  std::vector<int64_t> all(static_cast<size_t>(d.rank(0)));
  std::iota(all.begin(), all.end(), int64_t{0});
  return all;
}

// The product of the others along all axes, one after the other: of those before and behind an element, and
// of what the elements of the axes before come to. Nothing is divided, so that zeros are right in every
// order.
ValueId product_of_others(Differentiate& d, ValueId x, const std::vector<int64_t>& axes) {
  ValueId others = kNone;
  for (size_t i = 0; i < axes.size(); ++i) {
    const ValueId axis = d.scalar(DType::Int64, static_cast<double>(axes[i]));
    const auto passed = [&](int64_t reverse) {
      return d.op("CumProd", {x, axis}, attributes({{"exclusive", int64_t{1}}, {"reverse", reverse}}));
    };
    const ValueId here = d.mul(passed(0), passed(1));
    others = others == kNone ? here : d.mul(others, here);
    if (i + 1 < axes.size()) x = d.op("ReduceProd", {x, d.ints({axes[i]})});
  }
  return others;
}

// dY times the product of the others. Of axes that are not known: an element that is zero gets the product of
// the rest, which division cannot give; it counts only where it is the single zero.
ValueId product(Differentiate& d, ValueId dy, ValueId y, ValueId x) {
  if (reduces_nothing(d, d.attributes<ReduceAttributes>())) return dy;
  if (const auto axes = known_axes(d)) return axes->empty() ? dy : d.mul(dy, product_of_others(d, x, *axes));
  const ValueId zero = d.scalar(d.dtype(0), 0), one = d.scalar(d.dtype(0), 1);
  const ValueId is_zero = d.op("Equal", {x, zero});
  const ValueId safe = d.where(is_zero, one, x);
  const auto a = d.attributes<ReduceAttributes>();
  std::vector<ValueId> operands = {safe};
  if (d.has(1)) operands.push_back(d.in(1));
  const ValueId rest =
      kept(d,
           d.op("ReduceProd", operands,
                attributes({{"keepdims", a.keepdims}, {"noop_with_empty_axes", a.noop_with_empty_axes}})),
           a);
  const ValueId zeros = d.own("SumTo", {d.number(is_zero, d.dtype(0)), d.shape_of(y)});
  const ValueId single = d.op("Equal", {zeros, one});
  const ValueId at_zero = d.where(single, rest, zero);
  const ValueId elsewhere = d.div(y, safe);
  return d.mul(dy, d.where(is_zero, at_zero, elsewhere));
}

}  // namespace

void register_reduction_gradient(OperatorRegistry& r) {
  r.op("SumTo", kOwnDomain)
      .ports({{"X"}, {"shape", "tensor(int64)"}}, {{"Y", 0, -1, 1}})
      .shape_operands({1})
      .decomposes(sum_to)
      .differentiates([](Differentiate& d) { d.give(0, like_input(d, d.cotangent())); });
  const std::pair<const char*, Rule> rules[] = {
      {"ReduceSum", [](auto& d, auto dy, auto, auto) { return like_input(d, dy); }},
      {"ReduceMean",
       [](auto& d, auto dy, auto y, auto x) { return like_input(d, d.div(dy, count(d, y, x))); }},
      {"ReduceSumSquare",
       [](auto& d, auto dy, auto, auto x) { return d.mul(d.mul(dy, d.scalar(d.dtype(0), 2)), x); }},
      {"ReduceL1", [](auto& d, auto dy, auto, auto x) { return d.mul(dy, d.op("Sign", {x})); }},
      {"ReduceL2",
       [](auto& d, auto dy, auto y, auto x) {
         const ValueId zero = d.scalar(d.dtype(0), 0);
         return d.where(d.op("Equal", {y, zero}), zero, d.mul(d.div(dy, y), x));
       }},
      {"ReduceLogSum",
       [](auto& d, auto dy, auto y, auto) { return like_input(d, d.div(dy, d.op("Exp", {y}))); }},
      {"ReduceLogSumExp",
       [](auto& d, auto dy, auto y, auto x) { return d.mul(dy, d.op("Exp", {d.sub(x, y)})); }},
      {"ReduceMax", extreme},
      {"ReduceMin", extreme},
      {"ReduceProd", product},
  };
  for (const auto& [name, rule] : rules) r.op(name).differentiates(reduction(rule));
}

}  // namespace sardonyx
