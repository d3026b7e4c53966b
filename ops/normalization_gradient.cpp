// Gradients of the normalizations. f16 and bf16 are computed in f32, as the operators themselves are.
#include <cmath>

#include "ops/normalization.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

// What a rule computes in: f64 if an input is, else f32.
DType compute_type(Compose& c) {
  for (size_t i = 0; i < c.node().inputs.size(); ++i)
    if (c.has(i) && c.dtype(i) == DType::Float64) return DType::Float64;
  return DType::Float32;
}

// A rule's operands in the type it computes in, and its results back in the types of the inputs.
class Wide {
 public:
  explicit Wide(Differentiate& d) : d_(d), dtype(compute_type(d)) {}
  ValueId in(size_t i) { return d_.dtype(i) == dtype ? d_.in(i) : d_.cast(d_.in(i), dtype); }
  ValueId cotangent(size_t i = 0) {
    const ValueId dy = d_.cotangent(i);
    return dy == kNone || d_.out_type(i).dtype == dtype ? dy : d_.cast(dy, dtype);
  }
  ValueId out() { return d_.out_type().dtype == dtype ? d_.out() : d_.cast(d_.out(), dtype); }
  ValueId number(double v) { return d_.scalar(dtype, v); }
  void give(size_t i, ValueId v) {
    if (d_.needs(i)) d_.give(i, d_.dtype(i) == dtype ? v : d_.cast(v, d_.dtype(i)));
  }

 private:
  Differentiate& d_;

 public:
  const DType dtype;
};

std::vector<int64_t> axes_from(int64_t axis, int64_t end) {
  std::vector<int64_t> axes;
  for (int64_t i = axis; i < end; ++i) axes.push_back(i);
  return axes;
}
std::vector<int64_t> all_but_channels(int rank) {
  std::vector<int64_t> axes;
  for (int64_t i = 0; i < rank; ++i)
    if (i != 1) axes.push_back(i);
  return axes;
}

ValueId mean(Compose& c, ValueId x, const std::vector<int64_t>& axes) {
  return c.op("ReduceMean", {x, c.ints(axes)});
}

// x less its mean, and one over its standard deviation.
struct Standardized {
  ValueId centred, inverse;
};
Standardized standardized(Compose& c, ValueId x, const std::vector<int64_t>& axes, ValueId epsilon,
                          bool centres = true) {
  const ValueId centred = centres ? c.sub(x, mean(c, x, axes)) : x;
  const ValueId variance = mean(c, c.mul(centred, centred), axes);
  return {centred, c.op("Reciprocal", {c.op("Sqrt", {c.add(variance, epsilon)})})};
}

// How many elements of x each of `parts` stands for.
ValueId elements_for_each(Compose& c, ValueId x, ValueId parts, DType dtype) {
  return c.div(c.cast(c.op("Size", {x}), dtype), c.cast(c.op("Size", {parts}), dtype));
}

std::vector<int64_t> layer_axes(Compose& c, int64_t axis) {
  return axes_from(axis, axis < 0 ? 0 : c.need_rank(0));
}

// LayerNormalizationBackward(X, Scale, B, dY): dX, dScale, dB; of B only the shape matters.
std::vector<ValueId> layer_backward(Compose& c) {
  const auto a = c.attributes<LayerNormalizationBackwardAttributes>();
  const std::vector<int64_t> axes = layer_axes(c, a.axis);
  const ValueId dy = c.in(3), epsilon = c.scalar(c.dtype(0), static_cast<double>(a.epsilon));
  const Standardized s = standardized(c, c.in(0), axes, epsilon, a.centred != 0);
  const ValueId x = c.mul(s.centred, s.inverse);
  std::vector<ValueId> results(3, kNone);
  if (c.wants(0)) {
    const ValueId g = c.mul(dy, c.in(1));
    ValueId rest = c.mul(x, mean(c, c.mul(g, x), axes));
    if (a.centred != 0) rest = c.add(rest, mean(c, g, axes));
    results[0] = c.mul(c.sub(g, rest), s.inverse);
  }
  if (c.wants(1)) results[1] = c.own("SumTo", {c.mul(dy, x), c.shape_of(c.in(1))});
  if (c.wants(2)) results[2] = c.own("SumTo", {dy, c.shape_of(c.in(2))});
  return results;
}

// What Mean and InvStdDev add to the cotangent of x.
void give_statistics(Differentiate& d, Wide& w, double epsilon, const std::vector<int64_t>& axes) {
  if (!d.needs(0) || (d.cotangent(1) == kNone && d.cotangent(2) == kNone)) return;
  const Standardized s = standardized(d, w.in(0), axes, w.number(epsilon));
  const ValueId count = elements_for_each(d, d.in(0), s.inverse, w.dtype);
  const ValueId like = d.shape_of(d.in(0));
  if (d.cotangent(1) != kNone) w.give(0, d.op("Expand", {d.div(w.cotangent(1), count), like}));
  if (d.cotangent(2) == kNone) return;
  const ValueId cube = d.mul(s.inverse, d.mul(s.inverse, s.inverse));
  w.give(0, d.neg(d.mul(s.centred, d.div(d.mul(w.cotangent(2), cube), count))));
}

Gradient layer_normalization(bool centred) {
  return [centred](Differentiate& d) {
    const auto a = d.attributes<LayerNormalizationAttributes>();
    Wide w(d);
    if (d.cotangent() != kNone) {
      const ValueId bias = d.has(2) ? w.in(2) : kNone;
      const std::vector<ValueId> back = d.builder().ops(
          "LayerNormalizationBackward", {w.in(0), w.in(1), bias, w.cotangent()}, d.has(2) ? 3 : 2,
          attributes({{"axis", a.axis}, {"centred", int64_t{centred}}, {"epsilon", a.epsilon}}), kOwnDomain);
      for (size_t i = 0; i < back.size(); ++i) w.give(i, back[i]);
    }
    if (centred) give_statistics(d, w, static_cast<double>(a.epsilon), layer_axes(d, a.axis));
  };
}

// A vector with one element for each channel, along axis 1 of a tensor of `rank`.
ValueId along_channels(Compose& c, ValueId x, int rank) {
  return rank <= 2 ? x : c.op("Unsqueeze", {x, c.ints(axes_from(1, rank - 1))});
}

// BatchNormalizationBackward(dY, X, scale): dX, dScale, dB, with the statistics of X.
std::vector<ValueId> batch_backward(Compose& c) {
  const int rank = c.need_rank(1);
  const std::vector<int64_t> axes = all_but_channels(rank);
  const ValueId dy = c.in(0), x = c.in(1), scale = along_channels(c, c.in(2), rank);
  const DType dtype = c.dtype(1);
  const ValueId epsilon =
      c.scalar(dtype, static_cast<double>(c.attributes<BatchNormalizationBackwardAttributes>().epsilon));
  const Standardized s = standardized(c, x, axes, epsilon);
  const ValueId sum = c.reduce_sum(dy, axes), product = c.reduce_sum(c.mul(dy, s.centred), axes);
  const ValueId to_scale = c.mul(product, s.inverse);
  const ValueId shape = c.shape_of(c.in(2));
  std::vector<ValueId> results(3, kNone);
  if (c.wants(0)) {
    const ValueId factor = c.mul(scale, s.inverse);
    const ValueId share = c.div(factor, elements_for_each(c, x, s.inverse, dtype));
    const ValueId slope = c.mul(share, c.mul(to_scale, s.inverse));
    const ValueId rest = c.add(c.mul(s.centred, slope), c.mul(sum, share));
    results[0] = c.sub(c.mul(dy, factor), rest);
  }
  if (c.wants(1)) results[1] = c.op("Reshape", {to_scale, shape});
  if (c.wants(2)) results[2] = c.op("Reshape", {sum, shape});
  return results;
}

void batch_training(Differentiate& d, Wide& w, const BatchNormalizationAttributes& a) {
  if (d.cotangent() != kNone) {
    const std::vector<ValueId> back =
        d.builder().ops("BatchNormalizationBackward", {w.cotangent(), w.in(0), w.in(1)}, 3,
                        attributes({{"epsilon", a.epsilon}}), kOwnDomain);
    for (size_t i = 0; i < back.size(); ++i) w.give(i, back[i]);
  }
  // The running statistics: momentum times the old ones and (1 - momentum) times those of x.
  const double keep = static_cast<double>(a.momentum);
  for (size_t i : {1, 2}) {
    const ValueId running = w.cotangent(i);
    if (running == kNone) continue;
    if (d.needs(2 + i)) w.give(2 + i, d.mul(running, w.number(keep)));
    if (!d.needs(0)) continue;
    const int rank = d.need_rank(0);
    const std::vector<int64_t> axes = all_but_channels(rank);
    const ValueId x = w.in(0), average = mean(d, x, axes);
    const ValueId count = elements_for_each(d, x, average, w.dtype);
    const ValueId share =
        d.div(d.mul(along_channels(d, running, rank), w.number((1 - keep) * (i == 1 ? 1 : 2))), count);
    w.give(0, i == 1 ? d.op("Expand", {share, d.shape_of(x)}) : d.mul(d.sub(x, average), share));
  }
}

void batch_inference(Differentiate& d, Wide& w, double epsilon) {
  const int rank = d.need_rank(0);
  const std::vector<int64_t> axes = all_but_channels(rank);
  const ValueId dy = w.cotangent(), scale = w.in(1);
  const ValueId inverse = d.op("Reciprocal", {d.op("Sqrt", {d.add(w.in(4), w.number(epsilon))})});
  const ValueId factor = d.mul(scale, inverse);
  if (d.needs(0)) w.give(0, d.mul(dy, along_channels(d, factor, rank)));
  if (d.needs(2) || d.needs(3)) {
    const ValueId sum = d.reduce_sum(dy, axes, false);
    const ValueId channels = rank == 1 ? d.op("Reshape", {sum, d.ints({1})}) : sum;
    w.give(2, channels);
    if (d.needs(3)) w.give(3, d.neg(d.mul(channels, factor)));
  }
  if (d.needs(1) || d.needs(4)) {
    const ValueId centred = d.sub(w.in(0), along_channels(d, w.in(3), rank));
    const ValueId sum = d.op("Reshape", {d.reduce_sum(d.mul(dy, centred), axes), d.shape_of(scale)});
    const ValueId to_scale = d.mul(sum, inverse);
    w.give(1, to_scale);
    if (d.needs(4)) w.give(4, d.mul(d.mul(to_scale, factor), d.mul(inverse, w.number(-0.5))));
  }
}

void batch_normalization(Differentiate& d) {
  const auto a = d.attributes<BatchNormalizationAttributes>();
  Wide w(d);
  if (a.training_mode != 0) return batch_training(d, w, a);
  batch_inference(d, w, static_cast<double>(a.epsilon));
}

// Instance and group normalization, over x as [batch, groups, channels of a group, inner].
void group_backward(Differentiate& d, ValueId groups, double epsilon) {
  Wide w(d);
  const ValueId shape = d.shape_of(d.in(0));
  const auto part = [&](int64_t start, int64_t end) {
    return d.op("Shape", {d.in(0)}, attributes({{"start", start}, {"end", end}}));
  };
  const ValueId inner =
      d.op("ReduceProd", {d.op("Shape", {d.in(0)}, attributes({{"start", int64_t{2}}})), d.ints({0})});
  const ValueId channels = d.div(part(1, 2), groups);
  const auto joined = [&](std::vector<ValueId> dims) {
    return d.op("Concat", std::move(dims), attributes({{"axis", int64_t{0}}}));
  };
  const auto reshaped = [&](ValueId x, ValueId to) {
    return d.op("Reshape", {x, to}, attributes({{"allowzero", int64_t{1}}}));
  };
  const ValueId view = joined({part(0, 1), groups, channels, inner});
  const ValueId dy = reshaped(w.cotangent(), view);
  const ValueId scale = reshaped(w.in(1), joined({groups, channels, d.ints({1})}));
  const Standardized s = standardized(d, reshaped(w.in(0), view), {2, 3}, w.number(epsilon));
  const ValueId sum = d.reduce_sum(dy, {3}),
                product = d.mul(d.reduce_sum(d.mul(dy, s.centred), {3}), s.inverse);
  const ValueId by_channel = d.shape_of(d.in(1));
  if (d.needs(1)) w.give(1, reshaped(d.reduce_sum(product, {0}), by_channel));
  if (d.needs(2)) w.give(2, reshaped(d.reduce_sum(sum, {0}), by_channel));
  if (!d.needs(0)) return;
  const ValueId share = d.div(s.inverse, d.cast(inner, w.dtype));
  const ValueId shift = d.mul(share, mean(d, d.mul(scale, sum), {2}));
  const ValueId slope = d.mul(d.mul(share, s.inverse), mean(d, d.mul(scale, product), {2}));
  const ValueId rest = d.add(d.mul(s.centred, slope), shift);
  w.give(0, reshaped(d.sub(d.mul(dy, d.mul(scale, s.inverse)), rest), shape));
}

void instance_normalization(Differentiate& d) {
  group_backward(d, d.op("Shape", {d.in(0)}, attributes({{"start", int64_t{1}}, {"end", int64_t{2}}})),
                 static_cast<double>(d.attributes<InstanceNormalizationAttributes>().epsilon));
}

void group_normalization(Differentiate& d) {
  const auto a = d.attributes<GroupNormalizationAttributes>();
  group_backward(d, d.ints({a.num_groups.value_or(1)}), static_cast<double>(a.epsilon));
}

// y = x / n with n = sum |x|^p to the power of 1 / p; where n is zero, y is zero and nothing flows.
void lp_normalization(Differentiate& d) {
  const auto a = d.attributes<LpNormalizationAttributes>();
  Wide w(d);
  const ValueId dy = w.cotangent(), x = w.in(0), y = w.out(), axis = d.ints({a.axis});
  const ValueId norm = d.op(a.p == 1 ? "ReduceL1" : "ReduceL2", {x, axis});
  const ValueId along = d.reduce_sum(d.mul(dy, y), {a.axis});
  const ValueId rest = d.mul(a.p == 1 ? d.op("Sign", {x}) : y, along);
  const ValueId is_zero = d.op("Equal", {norm, w.number(0)});
  const ValueId inverse =
      d.where(is_zero, w.number(0), d.op("Reciprocal", {d.where(is_zero, w.number(1), norm)}));
  w.give(0, d.mul(d.sub(dy, rest), inverse));
}

// y = x s^-beta with s = bias + alpha / size B x^2, where B has ones at the channels of each region.
void local_response(Differentiate& d) {
  const auto a = d.attributes<LrnAttributes>();
  const int64_t size = a.size.value_or(1), before = (size - 1) / 2, after = size - 1 - before;
  Wide w(d);
  const ValueId shape = d.shape_of(d.in(0));
  const ValueId count = d.op("Shape", {d.in(0)}, attributes({{"start", int64_t{1}}, {"end", int64_t{2}}}));
  const ValueId numbers =
      d.op("Range", {d.scalar(DType::Int64, 0), d.op("Squeeze", {count}), d.scalar(DType::Int64, 1)});
  const ValueId apart = d.sub(numbers, d.op("Unsqueeze", {numbers, d.ints({1})}));
  const auto within = [&](int64_t low, int64_t high) {
    const ValueId inside =
        d.op("And", {d.op("GreaterOrEqual", {apart, d.scalar(DType::Int64, static_cast<double>(low))}),
                     d.op("LessOrEqual", {apart, d.scalar(DType::Int64, static_cast<double>(high))})});
    return d.cast(inside, w.dtype);
  };
  const ValueId inner =
      d.op("ReduceProd", {d.op("Shape", {d.in(0)}, attributes({{"start", int64_t{2}}})), d.ints({0})});
  const ValueId batch = d.op("Shape", {d.in(0)}, attributes({{"start", int64_t{0}}, {"end", int64_t{1}}}));
  const ValueId view = d.op("Concat", {batch, count, inner}, attributes({{"axis", int64_t{0}}}));
  const auto reshaped = [&](ValueId v, ValueId to) {
    return d.op("Reshape", {v, to}, attributes({{"allowzero", int64_t{1}}}));
  };
  const ValueId x = reshaped(w.in(0), view), dy = reshaped(w.cotangent(), view);
  const double alpha = static_cast<double>(a.alpha) / static_cast<double>(size),
               beta = static_cast<double>(a.beta);
  const ValueId sums = d.op("MatMul", {within(-before, after), d.mul(x, x)});
  const ValueId base = d.add(d.mul(sums, w.number(alpha)), w.number(static_cast<double>(a.bias)));
  const ValueId direct = d.mul(dy, d.op("Pow", {base, w.number(-beta)}));
  // Each output reads its region: what reads an element is the region turned around.
  const ValueId back = d.op("MatMul", {within(-after, before), d.div(d.mul(direct, x), base)});
  const ValueId rest = d.mul(d.mul(x, w.number(2 * alpha * beta)), back);
  w.give(0, reshaped(d.sub(direct, rest), shape));
}

// y = (x - mean) / (deviation + epsilon); where the deviation is zero, the division does not change.
void mean_variance(Differentiate& d) {
  const double epsilon = 1e-9;  // by its definition
  std::vector<int64_t> axes = d.attributes<MeanVarianceNormalizationAttributes>().axes;
  Wide w(d);
  if (axes.empty()) axes = axes_from(0, d.need_rank(0));
  const ValueId dy = w.cotangent(), x = w.in(0), y = w.out(), zero = w.number(0);
  const ValueId centred = d.sub(x, mean(d, x, axes));
  const ValueId variance = mean(d, d.mul(centred, centred), axes);
  const ValueId is_zero = d.op("Equal", {variance, zero});
  const ValueId deviation = d.op("Sqrt", {d.where(is_zero, w.number(1), variance)});
  const ValueId divisor = d.where(is_zero, w.number(epsilon), d.add(deviation, w.number(epsilon)));
  const ValueId slope = d.where(is_zero, zero, d.div(mean(d, d.mul(dy, y), axes), deviation));
  w.give(0, d.sub(d.div(d.sub(dy, mean(d, dy, axes)), divisor), d.mul(y, slope)));
}

}  // namespace

void register_normalization_gradient(OperatorRegistry& r) {
  r.op("LayerNormalization").differentiates(layer_normalization(true));
  r.op("RMSNormalization").differentiates(layer_normalization(false));
  r.op("BatchNormalization").differentiates(batch_normalization);
  r.op("InstanceNormalization").differentiates(instance_normalization);
  r.op("GroupNormalization").differentiates(group_normalization);
  r.op("LpNormalization").differentiates(lp_normalization);
  r.op("LRN").differentiates(local_response);
  r.op("MeanVarianceNormalization").differentiates(mean_variance);
  r.op("LayerNormalizationBackward", kOwnDomain)
      .ports({{"X"}, {"Scale"}, {"B", "T", true}, {"dY"}}, {{"dX", 0, 0}, {"dScale", 1, 1}, {"dB", 1, 2}})
      .attributes<LayerNormalizationBackwardAttributes>()
      .decomposes(layer_backward);
  r.op("BatchNormalizationBackward", kOwnDomain)
      .ports({{"dY"}, {"X"}, {"scale"}}, {{"dX", 1, 1}, {"dScale", 2, 2}, {"dB", 2, 2}})
      .attributes<BatchNormalizationBackwardAttributes>()
      .narrows(Narrow::Between, {0, 1}, {0})
      .decomposes(batch_backward);
}

}  // namespace sardonyx
