// Gradients of the activations. Where one has a kink, the value is PyTorch's: that of the left side for the
// ReLUs, zero at the ends of HardSigmoid, one-sided at those of HardSwish.
#include "ops/activation.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

ValueId number(Compose& c, double v) { return c.scalar(c.dtype(0), v); }
ValueId one_minus(Compose& c, ValueId x) { return c.sub(number(c, 1), x); }

// ReluBackward(dY, Y).
std::vector<ValueId> relu_backward(Compose& c) {
  const ValueId zero = number(c, 0);
  return {c.where(c.op("LessOrEqual", {c.in(1), zero}), zero, c.in(0))};
}

// Where x is positive, which the output tells where it has the sign of x.
ValueId positive(Differentiate& d, bool output_has_sign) {
  return d.op("Greater", {output_has_sign ? d.out() : d.in(0), number(d, 0)});
}

void leaky_relu(Differentiate& d) {
  const double alpha = static_cast<double>(d.attributes<LeakyReluAttributes>().alpha);
  const ValueId dy = d.cotangent();
  d.give(0, d.where(positive(d, alpha >= 0), dy, d.mul(dy, number(d, alpha))));
}

void prelu(Differentiate& d) {
  const ValueId dy = d.cotangent(), x = d.in(0), zero = number(d, 0);
  const ValueId is_positive = d.op("Greater", {x, zero});
  if (d.needs(0)) d.give(0, d.where(is_positive, dy, d.mul(dy, d.in(1))));
  if (d.needs(1)) d.give_summed(1, d.where(is_positive, zero, d.mul(dy, x)));
}

// y = x where x is positive, elsewhere alpha (exp(x) - 1), whose derivative is y + alpha.
void elu(Differentiate& d) {
  const double alpha = static_cast<double>(d.attributes<AlphaAttributes>().alpha);
  const ValueId dy = d.cotangent();
  const ValueId slope = d.add(d.out(), number(d, alpha));
  d.give(0, d.where(positive(d, alpha >= 0), dy, d.mul(dy, slope)));
}

void celu(Differentiate& d) {
  const double alpha = static_cast<double>(d.attributes<AlphaAttributes>().alpha);
  const ValueId dy = d.cotangent();
  const ValueId slope = d.add(d.mul(d.out(), number(d, 1 / alpha)), number(d, 1));
  d.give(0, d.where(positive(d, true), dy, d.mul(dy, slope)));
}

void selu(Differentiate& d) {
  const auto a = d.attributes<SeluAttributes>();
  const double gamma = static_cast<double>(a.gamma), alpha = static_cast<double>(a.alpha);
  const ValueId slope = d.add(d.out(), number(d, gamma * alpha));
  const bool output_has_sign = gamma > 0 && alpha >= 0;
  d.give(0, d.mul(d.cotangent(), d.where(positive(d, output_has_sign), number(d, gamma), slope)));
}

void thresholded_relu(Differentiate& d) {
  const double alpha = static_cast<double>(d.attributes<AlphaAttributes>().alpha);
  const ValueId zero = number(d, 0);
  // At a threshold of zero or more, what comes through is positive.
  const ValueId stays =
      alpha >= 0 ? d.op("LessOrEqual", {d.out(), zero}) : d.op("LessOrEqual", {d.in(0), number(d, alpha)});
  d.give(0, d.where(stays, zero, d.cotangent()));
}

// SigmoidBackward(dY, Y).
std::vector<ValueId> sigmoid_backward(Compose& c) {
  const ValueId y = c.in(1);
  return {c.mul(c.in(0), c.mul(y, one_minus(c, y)))};
}

// TanhBackward(dY, Y).
std::vector<ValueId> tanh_backward(Compose& c) {
  return {c.mul(c.in(0), one_minus(c, c.mul(c.in(1), c.in(1))))};
}

// HardSigmoidBackward(dY, Y).
std::vector<ValueId> hard_sigmoid_backward(Compose& c) {
  const double alpha = static_cast<double>(c.attributes<HardSigmoidAttributes>().alpha);
  const ValueId y = c.in(1), zero = number(c, 0);
  const ValueId inside = c.op("And", {c.op("Greater", {y, zero}), c.op("Less", {y, number(c, 1)})});
  return {c.where(inside, c.mul(c.in(0), number(c, alpha)), zero)};
}

// HardSwishBackward(dY, X).
std::vector<ValueId> hard_swish_backward(Compose& c) {
  const ValueId dy = c.in(0), x = c.in(1);
  const ValueId slope = c.add(c.mul(x, number(c, 1.0 / 3)), number(c, 0.5));
  const ValueId right = c.where(c.op("Less", {x, number(c, 3)}), c.mul(dy, slope), dy);
  return {c.where(c.op("LessOrEqual", {x, number(c, -3)}), number(c, 0), right)};
}

void softplus(Differentiate& d) { d.give(0, d.mul(d.cotangent(), d.op("Sigmoid", {d.in(0)}))); }

void softsign(Differentiate& d) {
  const ValueId root = d.add(d.op("Abs", {d.in(0)}), number(d, 1));
  d.give(0, d.div(d.cotangent(), d.mul(root, root)));
}

// x tanh(s) with s = softplus(x): tanh(s) + x sigmoid(x) (1 - tanh(s)^2).
void mish(Differentiate& d) {
  const ValueId x = d.in(0);
  const ValueId t = d.op("Tanh", {d.op("Softplus", {x})});
  const ValueId rest = d.mul(d.mul(x, d.op("Sigmoid", {x})), one_minus(d, d.mul(t, t)));
  d.give(0, d.mul(d.cotangent(), d.add(t, rest)));
}

// The derivative of x sigmoid(u): s (1 + x u' (1 - s)), with s = sigmoid(u).
ValueId gated_slope(Compose& c, ValueId u, ValueId x_du) {
  const ValueId s = c.op("Sigmoid", {u});
  return c.mul(s, c.add(number(c, 1), c.mul(x_du, one_minus(c, s))));
}

// GeluBackward(dY, X).
std::vector<ValueId> gelu_backward(Compose& c) {
  const ValueId dy = c.in(0), x = c.in(1);
  const ValueId square = c.mul(x, x);
  if (c.attributes<GeluAttributes>().approximate == "tanh") {
    // y = x sigmoid(u), u = 2 sqrt(2 / pi) (x + 0.044715 x^3)
    const double k = 1.59576912160573071176, cubic = 0.044715;
    const ValueId u = c.mul(c.mul(x, number(c, k)), c.add(c.mul(square, number(c, cubic)), number(c, 1)));
    const ValueId du = c.add(c.mul(square, number(c, 3 * cubic * k)), number(c, k));
    return {c.mul(dy, gated_slope(c, u, c.mul(x, du)))};
  }
  const double root_half = 0.70710678118654752440, density_at_zero = 0.39894228040143267794;
  const ValueId area =
      c.add(c.mul(c.op("Erf", {c.mul(x, number(c, root_half))}), number(c, 0.5)), number(c, 0.5));
  const ValueId density = c.mul(c.op("Exp", {c.mul(square, number(c, -0.5))}), number(c, density_at_zero));
  return {c.mul(dy, c.add(area, c.mul(x, density)))};
}

ValueId swish_slope(Compose& c, ValueId x) {
  const double alpha = static_cast<double>(c.attributes<AlphaAttributes>().alpha);
  const ValueId u = alpha == 1 ? x : c.mul(x, number(c, alpha));
  return gated_slope(c, u, u);
}

// SwishBackward(dY, X).
std::vector<ValueId> swish_backward(Compose& c) { return {c.mul(c.in(0), swish_slope(c, c.in(1)))}; }

void swiglu(Differentiate& d) {
  const ValueId dy = d.cotangent(), gate = d.in(0);
  if (d.needs(0)) d.give(0, d.mul(d.mul(dy, d.in(1)), swish_slope(d, gate)));
  if (d.needs(1))
    d.give(1,
           d.mul(dy, d.op("Swish", {gate}, attributes({{"alpha", d.attributes<AlphaAttributes>().alpha}}))));
}

void shrink(Differentiate& d) {
  const double lambd = static_cast<double>(d.attributes<ShrinkAttributes>().lambd);
  const ValueId stays = d.op("LessOrEqual", {d.op("Abs", {d.in(0)}), number(d, lambd)});
  d.give(0, d.where(stays, number(d, 0), d.cotangent()));
}

// A scalar, whatever axes of size 1 it has.
ValueId as_scalar(Differentiate& d, size_t i) {
  return d.rank(i) == 0 ? d.in(i) : d.op("Reshape", {d.in(i), d.ints({})});
}

void dropout(Differentiate& d) {
  const Tensor* training = d.constant(2);
  if (!d.has(2) || (training && training->size() == 1 && !*training->data<bool>()))
    return d.give(0, d.cotangent());
  const ValueId one = d.scalar(DType::Float32, 1);
  const ValueId ratio = d.has(1) ? d.cast(as_scalar(d, 1), DType::Float32) : d.scalar(DType::Float32, 0.5);
  // Without training the mask is true throughout.
  const ValueId factor = d.where(as_scalar(d, 2), d.div(one, d.sub(one, ratio)), one);
  d.give(0, d.own("DropoutBackward", {d.cotangent(), d.out(1), d.cast(factor, d.dtype(0))}));
}

// DropoutBackward(dY, mask, factor), the factor a scalar.
std::vector<ValueId> dropout_backward(Compose& c) {
  return {c.where(c.in(1), c.mul(c.in(0), c.in(2)), number(c, 0))};
}

// By the operator `name`, which reads the output or the input, and all attributes.
Gradient backward_operator(const char* name, bool reads_output) {
  return [=](Differentiate& d) {
    const ValueId read = reads_output ? d.out() : d.in(0);
    d.give(0, d.own(name, {d.cotangent(), read}, d.node().attributes));
  };
}

// An operator of kOwnDomain with the ports (dY, `read`).
Operator& backward_port(OperatorRegistry& r, const char* name, const char* read, Decompose f) {
  return r.op(name, kOwnDomain)
      .ports({{"dY"}, {read}}, {{"dX", 1, 1}})
      .decomposes(std::move(f))
      .narrows(Narrow::Between)
      .elementwise();
}

}  // namespace

void register_activation_gradient(OperatorRegistry& r) {
  r.op("Relu").differentiates(backward_operator("ReluBackward", true));
  r.op("LeakyRelu").differentiates(leaky_relu);
  r.op("PRelu").differentiates(prelu);
  r.op("Elu").differentiates(elu);
  r.op("Celu").differentiates(celu);
  r.op("Selu").differentiates(selu);
  r.op("ThresholdedRelu").differentiates(thresholded_relu);
  r.op("HardSigmoid").differentiates(backward_operator("HardSigmoidBackward", true));
  r.op("HardSwish").differentiates(backward_operator("HardSwishBackward", false));
  r.op("Softplus").differentiates(softplus);
  r.op("Softsign").differentiates(softsign);
  r.op("Mish").differentiates(mish);
  r.op("Gelu").differentiates(backward_operator("GeluBackward", false));
  r.op("Swish").differentiates(backward_operator("SwishBackward", false));
  r.op("SwiGLU").differentiates(swiglu);
  r.op("Shrink").differentiates(shrink);
  r.op("Dropout").differentiates(dropout);
  r.op("DropoutBackward", kOwnDomain)
      .ports({{"dY"}, {"mask", "tensor(bool)"}, {"factor"}}, {{"dX", 0, 0}})
      .decomposes(dropout_backward);
  r.op("Sigmoid").differentiates(backward_operator("SigmoidBackward", true));
  r.op("Tanh").differentiates(backward_operator("TanhBackward", true));
  backward_port(r, "SigmoidBackward", "Y", sigmoid_backward);
  backward_port(r, "TanhBackward", "Y", tanh_backward);
  backward_port(r, "ReluBackward", "Y", relu_backward);
  backward_port(r, "HardSwishBackward", "X", hard_swish_backward);
  backward_port(r, "HardSigmoidBackward", "Y", hard_sigmoid_backward).attributes<HardSigmoidAttributes>();
  backward_port(r, "GeluBackward", "X", gelu_backward).attributes<GeluAttributes>();
  backward_port(r, "SwishBackward", "X", swish_backward).attributes<AlphaAttributes>();
}

}  // namespace sardonyx
