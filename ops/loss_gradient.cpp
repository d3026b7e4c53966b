// Gradients of the losses over classes.
#include <numeric>

#include "ops/loss.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

// The parts of a loss over scores [N, C, ...] and labels [N, ...].
struct Classes {
  ValueId hit;      // [N, C, ...]: whether the label is this class, and not ignored
  ValueId weights;  // [C, 1, ...], or the number 1
  ValueId share;    // the cotangent of each label's weighted loss: [N, 1, ...] or a number
};

// The axes of a tensor of rank `rank` but one.
std::vector<int64_t> all_but(int rank, int64_t axis) {
  std::vector<int64_t> axes;
  for (int64_t i = 0; i < rank; ++i)
    if (i != axis) axes.push_back(i);
  return axes;
}

// [C] as [C, 1, ...], along the classes of the scores.
ValueId along_classes(Differentiate& d, ValueId x) {
  std::vector<int64_t> axes(static_cast<size_t>(std::max(d.need_rank(0) - 2, 0)));
  std::iota(axes.begin(), axes.end(), int64_t{1});
  return axes.empty() ? x : d.op("Unsqueeze", {x, d.ints(std::move(axes))});
}

Classes classes_of(Differentiate& d) {
  const auto a = d.attributes<LossAttributes>();
  const DType dtype = d.dtype(0), label_dtype = d.dtype(1);
  const ValueId zero = d.scalar(dtype, 0), one = d.scalar(dtype, 1), axis = d.ints({1});
  ValueId labels = d.in(1);
  if (a.ignore_index)
    labels = d.where(d.op("Equal", {labels, d.scalar(label_dtype, static_cast<double>(*a.ignore_index))}),
                     d.scalar(label_dtype, -1), labels);
  const ValueId count = d.op("Shape", {d.in(0)}, attributes({{"start", int64_t{1}}, {"end", int64_t{2}}}));
  ValueId numbers =
      d.op("Range", {d.scalar(DType::Int64, 0), d.op("Squeeze", {count}), d.scalar(DType::Int64, 1)});
  if (label_dtype != DType::Int64) numbers = d.cast(numbers, label_dtype);
  Classes c;
  c.hit = d.op("Equal", {d.op("Unsqueeze", {labels, axis}), along_classes(d, numbers)});
  c.weights = d.has(2) ? along_classes(d, d.in(2)) : one;
  c.share = d.cotangent();
  if (c.share == kNone)
    c.share = zero;
  else if (a.reduction == "none")
    c.share = d.op("Unsqueeze", {c.share, axis});
  else if (a.reduction == "mean") {
    std::vector<int64_t> all(static_cast<size_t>(d.need_rank(0)));
    std::iota(all.begin(), all.end(), int64_t{0});
    c.share = d.div(c.share, d.reduce_sum(d.where(c.hit, c.weights, zero), std::move(all), false));
  }
  return c;
}

// The cotangent of the log-probabilities by way of the loss. What is ignored counts as zero, also where
// nothing else is left and the loss is NaN.
ValueId of_log_prob(Differentiate& d, const Classes& c) {
  return d.where(c.hit, d.neg(d.mul(c.share, c.weights)), d.scalar(d.dtype(0), 0));
}

// A class counts by the losses that have its label; in a mean also by the sum of weights below.
void give_weights(Differentiate& d, const Classes& c, ValueId log_prob) {
  if (!d.needs(2) || d.cotangent() == kNone) return;
  ValueId term = d.neg(log_prob);
  if (d.attributes<LossAttributes>().reduction == "mean") term = d.sub(term, d.out());
  const ValueId terms = d.where(c.hit, d.mul(term, c.share), d.scalar(d.dtype(0), 0));
  d.give(2, d.reduce_sum(terms, all_but(d.need_rank(0), 1), false));
}

void negative_log_likelihood(Differentiate& d) {
  const Classes c = classes_of(d);
  if (d.needs(0)) d.give(0, of_log_prob(d, c));
  give_weights(d, c, d.in(0));
}

void softmax_cross_entropy(Differentiate& d) {
  const Classes c = classes_of(d);
  const ValueId log_prob = d.out(1);
  give_weights(d, c, log_prob);
  if (!d.needs(0)) return;
  ValueId dlog = d.cotangent(0) == kNone ? kNone : of_log_prob(d, c);
  if (d.cotangent(1) != kNone) dlog = dlog == kNone ? d.cotangent(1) : d.add(dlog, d.cotangent(1));
  d.give(0, d.own("LogSoftmaxBackward", {dlog, log_prob}, attributes({{"axis", int64_t{1}}})));
}

}  // namespace

void register_loss_gradient(OperatorRegistry& r) {
  r.op("NegativeLogLikelihoodLoss").differentiates(negative_log_likelihood);
  r.op("SoftmaxCrossEntropyLoss").differentiates(softmax_cross_entropy);
}

}  // namespace sardonyx
