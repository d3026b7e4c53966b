// Gradients of the elementwise operators. Where a function has a kink, the value is PyTorch's: zero for Abs
// and Relu, equal shares for Max and Min of equal numbers, all of it at the ends of Clip.
#include "ops/elementwise.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

// dX from dY; x and y are input and output.
using Unary = ValueId (*)(Differentiate& d, ValueId dy, ValueId x);

Gradient unary(Unary f) {
  return [f](Differentiate& d) { d.give(0, f(d, d.cotangent(), d.in(0))); };
}
ValueId square(Differentiate& d, ValueId x) { return d.mul(x, x); }
ValueId number(Differentiate& d, double v) { return d.scalar(d.dtype(0), v); }

void add(Differentiate& d) {
  for (size_t i = 0; i < d.node().inputs.size(); ++i) d.give_summed(i, d.cotangent());
}

void sub(Differentiate& d) {
  d.give_summed(0, d.cotangent());
  if (d.needs(1)) d.give_summed(1, d.neg(d.cotangent()));
}

void mul(Differentiate& d) {
  if (d.needs(0)) d.give_summed(0, d.mul(d.cotangent(), d.in(1)));
  if (d.needs(1)) d.give_summed(1, d.mul(d.cotangent(), d.in(0)));
}

void div(Differentiate& d) {
  const ValueId share = d.div(d.cotangent(), d.in(1));
  d.give_summed(0, share);
  if (d.needs(1)) d.give_summed(1, d.neg(d.mul(share, d.out())));
}

void pow(Differentiate& d) {
  const ValueId dy = d.cotangent(), x = d.in(0), e = d.in(1);
  const DType type = d.dtype(0);
  const ValueId power = d.dtype(1) == type ? e : d.cast(e, type);
  const ValueId zero = number(d, 0), one = number(d, 1);
  if (d.needs(0)) {
    // x^0 is 1 everywhere, also at 0, where the formula would multiply 0 by infinity.
    const ValueId slope = d.mul(power, d.op("Pow", {x, d.sub(power, one)}));
    d.give_summed(0, d.mul(dy, d.where(d.op("Equal", {power, zero}), zero, slope)));
  }
  if (d.needs(1)) {
    const ValueId at_zero = d.op("And", {d.op("Equal", {x, zero}), d.op("GreaterOrEqual", {power, zero})});
    const ValueId slope = d.mul(d.out(), d.op("Log", {d.where(at_zero, one, x)}));
    d.give_summed(1, d.cast(d.mul(dy, d.where(at_zero, zero, slope)), d.dtype(1)));
  }
}

void mod(Differentiate& d) {
  d.give_summed(0, d.cotangent());
  if (!d.needs(1)) return;
  const ValueId quotient = d.div(d.sub(d.in(0), d.out()), d.in(1));
  d.give_summed(1, d.neg(d.mul(d.cotangent(), d.op("Round", {quotient}))));
}

// Every input that is the extreme gets an equal share.
void extreme(Differentiate& d) {
  const size_t count = d.node().inputs.size();
  if (count == 1) return d.give(0, d.cotangent());
  std::vector<ValueId> is_extreme;
  for (size_t i = 0; i < count; ++i)
    is_extreme.push_back(d.number(d.op("Equal", {d.in(i), d.out()}), d.dtype(0)));
  const ValueId share = d.div(d.cotangent(), d.op("Sum", is_extreme));
  for (size_t i = 0; i < count; ++i)
    if (d.needs(i)) d.give_summed(i, d.mul(share, is_extreme[i]));
}

void mean(Differentiate& d) {
  const size_t count = d.node().inputs.size();
  const ValueId share = d.mul(d.cotangent(), number(d, 1.0 / static_cast<double>(count)));
  for (size_t i = 0; i < count; ++i) d.give_summed(i, share);
}

void where(Differentiate& d) {
  const ValueId dy = d.cotangent(), zero = d.scalar(d.dtype(1), 0);
  if (d.needs(1)) d.give_summed(1, d.where(d.in(0), dy, zero));
  if (d.needs(2)) d.give_summed(2, d.where(d.in(0), zero, dy));
}

void clip(Differentiate& d) {
  const ValueId dy = d.cotangent(), zero = number(d, 0);
  ValueId inside = dy;
  if (d.has(1)) inside = d.where(d.op("Less", {d.in(0), d.in(1)}), zero, inside);
  if (d.has(2)) inside = d.where(d.op("Greater", {d.in(0), d.in(2)}), zero, inside);
  d.give(0, inside);
  // The upper bound wins where the bounds cross.
  if (d.needs(2)) {
    const ValueId lower = d.has(1) ? d.op("Max", {d.in(0), d.in(1)}) : d.in(0);
    d.give_summed(2, d.where(d.op("Greater", {lower, d.in(2)}), dy, zero));
  }
  if (d.needs(1)) {
    ValueId low = d.where(d.op("Less", {d.in(0), d.in(1)}), dy, zero);
    if (d.has(2)) low = d.where(d.op("Greater", {d.in(1), d.in(2)}), zero, low);
    d.give_summed(1, low);
  }
}

void cast(Differentiate& d) { d.give(0, d.cast(d.cotangent(), d.dtype(0))); }

// The transpose of a running sum runs the other way.
void cumsum(Differentiate& d) {
  const auto a = d.attributes<CumulativeAttributes>();
  d.give(0, d.op("CumSum", {d.cotangent(), d.in(1)},
                 attributes({{"exclusive", a.exclusive}, {"reverse", int64_t{!a.reverse}}})));
}

}  // namespace

void register_elementwise_gradient(OperatorRegistry& r) {
  r.op("Identity").differentiates([](Differentiate& d) { d.give(0, d.cotangent()); });
  r.op("Add").differentiates(add);
  r.op("Sum").differentiates(add);
  r.op("Sub").differentiates(sub);
  r.op("Mul").differentiates(mul);
  r.op("Div").differentiates(div);
  r.op("Pow").differentiates(pow);
  r.op("Mod").differentiates(mod);
  r.op("Max").differentiates(extreme);
  r.op("Min").differentiates(extreme);
  r.op("Mean").differentiates(mean);
  r.op("Where").differentiates(where);
  r.op("Clip").differentiates(clip);
  r.op("Cast").differentiates(cast);
  r.op("CumSum").differentiates(cumsum);
  r.op("BitCast").non_differentiable("it reads the bits of a number as another number");
  for (const char* name : {"Ceil", "Floor", "Round", "Sign"}) r.op(name).gradient_is_zero();

  const std::pair<const char*, Unary> functions[] = {
      {"Neg", [](auto& d, auto dy, auto) { return d.neg(dy); }},
      {"Abs", [](auto& d, auto dy, auto x) { return d.mul(dy, d.op("Sign", {x})); }},
      {"Exp", [](auto& d, auto dy, auto) { return d.mul(dy, d.out()); }},
      {"Log", [](auto& d, auto dy, auto x) { return d.div(dy, x); }},
      {"Sqrt", [](auto& d, auto dy, auto) { return d.div(d.mul(dy, number(d, 0.5)), d.out()); }},
      {"Reciprocal", [](auto& d, auto dy, auto) { return d.neg(d.mul(dy, square(d, d.out()))); }},
      {"Sin", [](auto& d, auto dy, auto x) { return d.mul(dy, d.op("Cos", {x})); }},
      {"Cos", [](auto& d, auto dy, auto x) { return d.neg(d.mul(dy, d.op("Sin", {x}))); }},
      {"Tan", [](auto& d, auto dy, auto) { return d.mul(dy, d.add(number(d, 1), square(d, d.out()))); }},
      {"Asin",
       [](auto& d, auto dy, auto x) { return d.div(dy, d.op("Sqrt", {d.sub(number(d, 1), square(d, x))})); }},
      {"Acos", [](auto& d, auto dy,
                  auto x) { return d.neg(d.div(dy, d.op("Sqrt", {d.sub(number(d, 1), square(d, x))}))); }},
      {"Atan", [](auto& d, auto dy, auto x) { return d.div(dy, d.add(number(d, 1), square(d, x))); }},
      {"Sinh", [](auto& d, auto dy, auto x) { return d.mul(dy, d.op("Cosh", {x})); }},
      {"Cosh", [](auto& d, auto dy, auto x) { return d.mul(dy, d.op("Sinh", {x})); }},
      {"Asinh",
       [](auto& d, auto dy, auto x) { return d.div(dy, d.op("Sqrt", {d.add(square(d, x), number(d, 1))})); }},
      {"Acosh",
       [](auto& d, auto dy, auto x) {
         return d.div(dy, d.op("Sqrt", {d.mul(d.sub(x, number(d, 1)), d.add(x, number(d, 1)))}));
       }},
      {"Atanh", [](auto& d, auto dy, auto x) { return d.div(dy, d.sub(number(d, 1), square(d, x))); }},
      {"Erf",
       [](auto& d, auto dy, auto x) {
         const double two_over_root_pi = 1.12837916709551257390;
         return d.mul(d.mul(dy, number(d, two_over_root_pi)), d.op("Exp", {d.neg(square(d, x))}));
       }},
  };
  for (const auto& [name, f] : functions) r.op(name).differentiates(unary(f));
}

}  // namespace sardonyx
