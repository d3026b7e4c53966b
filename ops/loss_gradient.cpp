// Gradients of the losses over classes.
#include <numeric>

#include "ops/loss.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

std::vector<int64_t> numbered(int64_t first, int64_t end) {
  std::vector<int64_t> axes(static_cast<size_t>(std::max<int64_t>(end - first, 0)));
  std::iota(axes.begin(), axes.end(), first);
  return axes;
}

// Where scores [N, C, ...] belong to the class of their label [N, ...].
ValueId hits(Compose& c, ValueId scores, ValueId labels, int rank) {
  const ValueId count = c.op("Shape", {scores}, attributes({{"start", int64_t{1}}, {"end", int64_t{2}}}));
  const ValueId zero = c.scalar(DType::Int64, 0), one = c.scalar(DType::Int64, 1);
  ValueId classes = c.op("Range", {zero, c.op("Squeeze", {count}), one});
  if (rank > 2) classes = c.op("Unsqueeze", {classes, c.ints(numbered(1, rank - 1))});
  return c.op("Equal", {c.op("Unsqueeze", {labels, c.ints({1})}), classes});
}

// The cotangent of log-probabilities whose labels have these shares of the cotangent of the loss.
ValueId picked(Compose& c, ValueId scores, ValueId labels, ValueId share, int rank, DType dtype) {
  const ValueId wide = c.op("Unsqueeze", {c.neg(share), c.ints({1})});
  return c.where(hits(c, scores, labels, rank), wide, c.scalar(dtype, 0));
}

// CrossEntropyBackward(log_prob, labels, share): (exp(log_prob) - [class is label]) share, zeros where a
// label is no class.
std::vector<ValueId> cross_entropy_backward(Compose& c) {
  const ValueId dlog = picked(c, c.in(0), c.in(1), c.in(2), c.need_rank(0), c.dtype(0));
  return {c.own("LogSoftmaxBackward", {dlog, c.in(0)}, attributes({{"axis", int64_t{1}}}))};
}

// What the gradients of both losses are made of.
struct Parts {
  ValueId labels;             // int64, -1 where they are ignored
  ValueId cotangent = kNone;  // of each label's weighted loss: [N, ...], or a number
  ValueId share = kNone;      // that times the weight: [N, ...]
};

Parts parts_of(Differentiate& d) {
  const auto a = d.attributes<LossAttributes>();
  const DType dtype = d.dtype(0);
  const ValueId zero = d.scalar(dtype, 0);
  Parts p;
  p.labels = d.dtype(1) == DType::Int64 ? d.in(1) : d.cast(d.in(1), DType::Int64);
  ValueId ignored = kNone, weight = kNone;
  if (a.ignore_index) {
    ignored = d.op("Equal", {p.labels, d.builder().constant(Tensor::of<int64_t>({*a.ignore_index}, {}))});
    p.labels = d.where(ignored, d.scalar(DType::Int64, -1), p.labels);
  }
  if (d.cotangent() == kNone) return p;
  if (d.has(2)) weight = d.op("Gather", {d.in(2), d.op("Max", {p.labels, d.scalar(DType::Int64, 0)})});
  if (ignored != kNone) weight = d.where(ignored, zero, weight == kNone ? d.scalar(dtype, 1) : weight);
  p.cotangent = d.cotangent();
  if (a.reduction == "mean") {
    const ValueId total = weight == kNone ? d.cast(d.op("Size", {p.labels}), dtype)
                                          : d.reduce_sum(weight, numbered(0, d.need_rank(0) - 1), false);
    p.cotangent = d.div(p.cotangent, total);
  }
  p.share = weight == kNone ? p.cotangent : d.mul(p.cotangent, weight);
  if (weight == kNone && a.reduction != "none") p.share = d.op("Expand", {p.share, d.shape_of(p.labels)});
  // Also where nothing else is left and the mean is 0 / 0.
  if (ignored != kNone) p.share = d.where(ignored, zero, p.share);
  return p;
}

// A class's weight counts by the losses that have its label; in a mean also by the sum of weights below.
void give_weights(Differentiate& d, const Parts& p, ValueId log_prob) {
  if (!d.needs(2) || p.share == kNone) return;
  const auto reduction = d.attributes<LossAttributes>().reduction;
  const int rank = d.need_rank(0);
  ValueId term = d.neg(log_prob);
  if (reduction == "mean") term = d.sub(term, d.out());
  const ValueId by_label = reduction == "none" ? d.op("Unsqueeze", {p.cotangent, d.ints({1})}) : p.cotangent;
  const ValueId terms =
      d.where(hits(d, log_prob, p.labels, rank), d.mul(term, by_label), d.scalar(d.dtype(0), 0));
  std::vector<int64_t> axes = numbered(1, rank);
  axes[0] = 0;
  d.give(2, d.reduce_sum(terms, std::move(axes), false));
}

void negative_log_likelihood(Differentiate& d) {
  const Parts p = parts_of(d);
  if (d.needs(0)) d.give(0, picked(d, d.in(0), p.labels, p.share, d.need_rank(0), d.dtype(0)));
  give_weights(d, p, d.in(0));
}

void softmax_cross_entropy(Differentiate& d) {
  const Parts p = parts_of(d);
  const ValueId log_prob = d.out(1);
  if (d.needs(0) && p.share != kNone) d.give(0, d.own("CrossEntropyBackward", {log_prob, p.labels, p.share}));
  if (d.needs(0) && d.cotangent(1) != kNone)
    d.give(0, d.own("LogSoftmaxBackward", {d.cotangent(1), log_prob}, attributes({{"axis", int64_t{1}}})));
  give_weights(d, p, log_prob);
}

}  // namespace

void register_loss_gradient(OperatorRegistry& r) {
  r.op("NegativeLogLikelihoodLoss").differentiates(negative_log_likelihood);
  r.op("SoftmaxCrossEntropyLoss").differentiates(softmax_cross_entropy);
  r.op("CrossEntropyBackward", kOwnDomain)
      .ports({{"log_prob"}, {"labels", "tensor(int64)"}, {"share"}}, {{"dX", 0, 0}})
      .decomposes(cross_entropy_backward);
}

}  // namespace sardonyx
