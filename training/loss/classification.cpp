// Losses of classifiers: CrossEntropyLoss, NLLLoss, NLLLoss2d, BCELoss, BCEWithLogitsLoss, SoftMarginLoss,
// MultiLabelSoftMarginLoss, MultiMarginLoss, MultiLabelMarginLoss. Formulas are those of PyTorch's
// documentation.
#include "training/loss.h"

namespace sardonyx {

namespace {

ValueId sum_of(Compose& c, ValueId x) {
  return c.op("ReduceSum", {x}, attributes({{"keepdims", int64_t{0}}}));
}

// Inputs (C) and target () become (1, C) and (1).
struct Classes {
  ValueId input, target;
  bool batched;
  int64_t axis = 1;
};
Classes classes_of(LossBuild& b) {
  Compose& c = b.c;
  const bool batched = c.rank(0) > 1;
  const auto lead = [&](ValueId x) { return batched ? x : c.op("Unsqueeze", {x, c.ints({0})}); };
  return {lead(c.in(0)), lead(c.in(1)), batched};
}
ValueId unbatched(LossBuild& b, const Classes& k, ValueId loss) {
  return k.batched || b.reduction != "none" ? loss : b.c.op("Squeeze", {loss, b.c.ints({0})});
}

void expect_class_target(LossBuild& b) {
  if (b.c.rank(1) != b.c.rank(0) - 1)
    throw InputError("target", "rank " + std::to_string(b.c.rank(0) - 1) + ", one class for each place",
                     "rank " + std::to_string(b.c.rank(1)));
  if (b.c.dtype(1) != DType::Int64 && b.c.dtype(1) != DType::Int32)
    throw InputError("target", "int64 or int32 classes", dtype_name(b.c.dtype(1)));
}

ValueId nll_of(LossBuild& b, const std::string& op, const Classes& k, ValueId input, ValueId weight,
               int64_t ignore_index) {
  std::vector<ValueId> inputs = {input, k.target};
  if (weight != kNone) inputs.push_back(weight);
  const Attributes a = attributes({{"reduction", b.reduction}, {"ignore_index", ignore_index}});
  return b.c.op(op, std::move(inputs), a);
}

ValueId nll(LossBuild& b) {
  expect_class_target(b);
  const Classes k = classes_of(b);
  const ValueId weight = b.constant("weight");
  return unbatched(
      b, k,
      nll_of(b, "NegativeLogLikelihoodLoss", k, k.input, weight, b.arguments.integer("ignore_index", -100)));
}

// The weights (C) over axis 1 of the input.
ValueId over_classes(LossBuild& b, ValueId weight) {
  std::vector<int64_t> axes;
  for (int64_t i = 1; i < std::max(b.c.rank(0), 2) - 1; ++i) axes.push_back(i);
  return axes.empty() ? weight : b.c.op("Unsqueeze", {weight, b.c.ints(std::move(axes))});
}

ValueId cross_entropy_of_probabilities(LossBuild& b, double smoothing, ValueId weight) {
  Compose& c = b.c;
  const Classes k = classes_of(b);
  const ValueId shape = c.shape_of(k.input);
  const ValueId classes = c.cast(c.op("Gather", {shape, c.builder().constant(Tensor::scalar<int64_t>(1))},
                                      attributes({{"axis", int64_t{0}}})),
                                 b.dtype());
  ValueId target = k.target;
  if (smoothing != 0)
    target = c.add(c.mul(target, b.scalar(1 - smoothing)), c.div(b.scalar(smoothing), classes));
  ValueId terms = c.mul(c.op("LogSoftmax", {k.input}, attributes({{"axis", k.axis}})), target);
  if (weight != kNone) terms = c.mul(terms, over_classes(b, weight));
  const ValueId loss = c.neg(c.reduce_sum(terms, {k.axis}, false));
  // The mean is over the places, whatever the weights are.
  return unbatched(b, k, b.reduced(loss));
}

ValueId cross_entropy(LossBuild& b) {
  Compose& c = b.c;
  const double smoothing = b.arguments.number("label_smoothing", 0);
  if (!(smoothing >= 0 && smoothing <= 1))
    b.arguments.refuse("label_smoothing", "a number from 0 to 1", std::to_string(smoothing));
  const int64_t ignore = b.arguments.integer("ignore_index", -100);
  const ValueId weight = b.constant("weight");
  if (is_float(c.dtype(1))) return cross_entropy_of_probabilities(b, smoothing, weight);
  expect_class_target(b);
  const Classes k = classes_of(b);
  if (smoothing == 0)
    return unbatched(b, k, nll_of(b, "SoftmaxCrossEntropyLoss", k, k.input, weight, ignore));
  const ValueId logs = c.op("LogSoftmax", {k.input}, attributes({{"axis", k.axis}}));
  const ValueId smooth = b.scalar(smoothing);
  const ValueId classes =
      c.cast(c.op("Gather", {c.shape_of(k.input), c.builder().constant(Tensor::scalar<int64_t>(1))},
                  attributes({{"axis", int64_t{0}}})),
             b.dtype());
  const ValueId nll = nll_of(b, "NegativeLogLikelihoodLoss", k, logs, weight, ignore);
  // The part that every class has, for the places that count.
  ValueId spread = weight == kNone ? logs : c.mul(logs, over_classes(b, weight));
  spread = c.neg(c.reduce_sum(spread, {k.axis}, false));
  const ValueId ignored = c.op("Equal", {k.target, c.scalar(c.dtype(1), static_cast<double>(ignore))});
  spread = c.where(ignored, b.scalar(0), spread);
  if (b.reduction != "none") spread = sum_of(c, spread);
  if (b.reduction == "mean") {
    ValueId counted = c.where(ignored, b.scalar(0), b.scalar(1));
    if (weight != kNone) {
      const ValueId safe = c.where(ignored, c.scalar(c.dtype(1), 0), k.target);
      counted = c.mul(counted, c.op("Gather", {weight, safe}));
    }
    spread = c.div(spread, sum_of(c, counted));
  }
  const ValueId loss = c.add(c.mul(nll, c.sub(b.scalar(1), smooth)), c.mul(spread, c.div(smooth, classes)));
  return unbatched(b, k, loss);
}

ValueId weighted(LossBuild& b, ValueId loss) {
  const ValueId weight = b.constant("weight");
  return weight == kNone ? loss : b.c.mul(loss, weight);
}

// Logarithms are bounded below by -100, and the derivative by the input, (x - t) / (x (1 - x)), by a
// denominator of at least 1e-12: both stay finite at 0 and 1.
ValueId bce(LossBuild& b) {
  Compose& c = b.c;
  const ValueId x = c.in(0), t = c.in(1), one = b.scalar(1);
  const auto fixed = [&](ValueId v) { return c.own("StopGradient", {v}); };
  const ValueId at = fixed(x), rest = c.sub(one, at);
  const auto bounded_log = [&](ValueId v) { return c.op("Max", {c.op("Log", {v}), b.scalar(-100)}); };
  const ValueId value = c.neg(c.add(c.mul(t, bounded_log(at)), c.mul(c.sub(one, t), bounded_log(rest))));
  const ValueId slope =
      c.div(c.sub(at, t), c.op("Max", {c.mul(at, rest), b.scalar(static_cast<double>(1e-12f))}));
  const ValueId loss = c.add(value, c.mul(fixed(slope), c.sub(x, at)));
  return b.reduced(weighted(b, loss));
}

ValueId bce_with_logits(LossBuild& b) {
  Compose& c = b.c;
  const ValueId x = c.in(0), t = c.in(1), one = b.scalar(1);
  const ValueId positive = b.constant("pos_weight");
  ValueId tail = c.op("Softplus", {c.neg(x)});
  if (positive != kNone) tail = c.mul(tail, c.add(c.mul(c.sub(positive, one), t), one));
  return b.reduced(weighted(b, c.add(c.mul(c.sub(one, t), x), tail)));
}

ValueId soft_margin(LossBuild& b) {
  return b.reduced(b.c.op("Softplus", {b.c.neg(b.c.mul(b.c.in(1), b.c.in(0)))}));
}

ValueId mean_of_last(LossBuild& b, ValueId x) {
  return b.c.op("ReduceMean", {x, b.c.ints({-1})}, attributes({{"keepdims", int64_t{0}}}));
}

ValueId multi_label_soft_margin(LossBuild& b) {
  Compose& c = b.c;
  const ValueId x = c.in(0), t = c.in(1);
  const ValueId yes = c.mul(t, c.op("Softplus", {c.neg(x)}));
  const ValueId no = c.mul(c.sub(b.scalar(1), t), c.op("Softplus", {x}));
  return b.reduced(mean_of_last(b, weighted(b, c.add(yes, no))));
}

// [.., C] -> whether class i is the target, as numbers.
ValueId one_hot(LossBuild& b, ValueId target, ValueId like) {
  Compose& c = b.c;
  const ValueId count = c.op("Gather", {c.shape_of(like), c.ints({-1})}, attributes({{"axis", int64_t{0}}}));
  const ValueId values =
      c.op("Concat",
           {c.op("Unsqueeze", {b.scalar(0), c.ints({0})}), c.op("Unsqueeze", {b.scalar(1), c.ints({0})})},
           attributes({{"axis", int64_t{0}}}));
  return c.op("OneHot", {target, count, values}, attributes({{"axis", int64_t{-1}}}));
}

ValueId multi_margin(LossBuild& b) {
  Compose& c = b.c;
  expect_class_target(b);
  const int64_t p = b.arguments.integer("p", 1);
  if (p != 1 && p != 2) b.arguments.refuse("p", "1 or 2", std::to_string(p));
  const Classes k = classes_of(b);
  const ValueId x = k.input, weight = b.constant("weight");
  const ValueId hot = one_hot(b, k.target, x);
  const ValueId right = c.reduce_sum(c.mul(hot, x), {-1});
  ValueId margin = c.op("Relu", {c.add(c.sub(b.scalar(b.arguments.number("margin", 1)), right), x)});
  if (p == 2) margin = c.mul(margin, margin);
  if (weight != kNone) margin = c.mul(margin, c.reduce_sum(c.mul(hot, weight), {-1}));
  return unbatched(b, k, b.reduced(mean_of_last(b, c.mul(margin, c.sub(b.scalar(1), hot)))));
}

// The targets of a row are those before its first negative number.
ValueId multi_label_margin(LossBuild& b) {
  Compose& c = b.c;
  if (c.dtype(1) != DType::Int64 && c.dtype(1) != DType::Int32)
    throw InputError("target", "int64 or int32 classes", dtype_name(c.dtype(1)));
  const ValueId x = c.in(0), target = c.in(1), zero = c.scalar(c.dtype(1), 0);
  const ValueId axis = c.builder().constant(Tensor::scalar<int64_t>(-1));
  const ValueId ended = c.op("CumSum", {c.cast(c.op("Less", {target, zero}), DType::Int64), axis});
  const ValueId valid = c.op("Equal", {ended, c.scalar(DType::Int64, 0)});
  const ValueId place = c.where(valid, target, zero);
  const ValueId counted = c.cast(valid, b.dtype());
  const auto column = [&](ValueId v) { return c.op("Unsqueeze", {v, c.ints({-1})}); };
  const auto row = [&](ValueId v) { return c.op("Unsqueeze", {v, c.ints({-2})}); };
  // [.., target j, class i]
  const ValueId is_target = c.op("ReduceMax", {c.mul(one_hot(b, place, x), column(counted)), c.ints({-2})},
                                 attributes({{"keepdims", int64_t{1}}}));
  const ValueId right = c.op("GatherElements", {x, place}, attributes({{"axis", int64_t{c.rank(0) - 1}}}));
  const ValueId margin = c.op("Relu", {c.add(c.sub(b.scalar(1), column(right)), row(x))});
  const ValueId kept = c.mul(c.mul(margin, column(counted)), c.sub(b.scalar(1), is_target));
  return b.reduced(mean_of_last(b, c.reduce_sum(kept, {-2}, false)));
}

}  // namespace

void register_classification(std::vector<Loss>& losses) {
  const std::vector<LossPort> pair = {{"input"}, {"target", true}};
  const std::vector<LossPort> classes = {{"input"}, {"target", true, LossPort::Usual::Classes}};
  losses.push_back({"CrossEntropyLoss", classes, cross_entropy});
  losses.push_back({"NLLLoss", classes, nll});
  losses.push_back({"NLLLoss2d", classes, nll});
  losses.push_back({"BCELoss", pair, bce});
  losses.push_back({"BCEWithLogitsLoss", pair, bce_with_logits});
  losses.push_back({"SoftMarginLoss", pair, soft_margin});
  losses.push_back({"MultiLabelSoftMarginLoss", pair, multi_label_soft_margin});
  losses.push_back({"MultiMarginLoss", classes, multi_margin});
  losses.push_back({"MultiLabelMarginLoss", pair, multi_label_margin});
}

}  // namespace sardonyx
