// CTCLoss(log_probs [T, N, C], targets, input_lengths [N], target_lengths [N]): the connectionist temporal
// classification loss of each of N sequences. targets are [N, S], or [sum of target_lengths]. Its gradient,
// CTCLossBackward, is the derivative by what log_softmax was taken of to give log_probs: exp(log_probs) less
// the probability that a path of the target is at the class.
#include <cmath>
#include <limits>

#include "ops/loss.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The algorithm in ONNX, all sequences side by side: [N, L] are the L = 2 S + 1 positions of the labels with
// a blank before, between and after them. Logarithms of probabilities, f32 at least.
class Ctc {
 public:
  Ctc(Compose& c, size_t first)
      : c_(c),
        a_(c.attributes<CtcAttributes>()),
        dtype_(c.dtype(first) == DType::Float64 ? DType::Float64 : DType::Float32),
        given_(c.dtype(first)),
        scores_(wide(c.in(first))),
        counts_(c.in(first + 3)) {
    steps_ = size(scores_, 0), batch_ = size(scores_, 1);
    const ValueId labels = c.need_rank(first + 1) == 1 ? padded(c.in(first + 1)) : c.in(first + 1);
    classes_ = with_blanks(labels);
    const ValueId before =
        c.op("Slice", {pad(classes_, 2, 0, DType::Int64), c.ints({0}), c.ints({-2}), c.ints({1})});
    // Added to what comes from two positions before: nothing does past a blank or between equal labels.
    skip_ = c.where(c.op("Equal", {classes_, before}), number(-kInfinity), number(0));
    const ValueId wide_classes = c.op("Expand", {row(classes_), joined({steps_, c.ints({1}), c.ints({1})})});
    emitted_classes_ = wide_classes;
    emitted_ = c.op("GatherElements", {scores_, wide_classes}, attributes({{"axis", int64_t{2}}}));
    const ValueId time = c.op("Unsqueeze", {range(steps_), c.ints({1})});
    alive_ = c.op("Unsqueeze",
                  {c.op("Less", {time, c.op("Unsqueeze", {c.in(first + 2), c.ints({0})})}), c.ints({2})});
  }

  // The sums after the last step of each sequence, and after every step [T, N, L].
  struct Begins {
    ValueId last, all;
  };
  Begins begins() {
    const auto scan = scanned(at_position(c_.ints({0})), false);
    return {scan[0], scan[1]};
  }
  // Before the scores of each step are added.
  ValueId ends() { return scanned(at_position(last_position()), true)[1]; }

  ValueId losses(ValueId last) {
    const ValueId end = last_position(),
                  positions = c_.op("Unsqueeze", {range(size(classes_, 1)), c_.ints({0})});
    const ValueId is_end =
        c_.op("Or", {c_.op("Equal", {positions, end}),
                     c_.op("Equal", {positions, c_.sub(end, c_.scalar(DType::Int64, 1))})});
    return c_.neg(log_sum_exp(c_, dtype_, c_.where(is_end, last, number(-kInfinity))));
  }
  ValueId is_infinite(ValueId loss) { return c_.op("Equal", {loss, number(kInfinity)}); }

  std::vector<ValueId> forward() {
    ValueId loss = losses(begins().last);
    if (a_.zero_infinity != 0) loss = c_.where(is_infinite(loss), number(0), loss);
    return {narrow(loss)};
  }

  std::vector<ValueId> backward(ValueId cotangent) {
    const Begins from = begins();
    const ValueId loss = losses(from.last);
    const auto of_sequence = [&](ValueId x) { return c_.op("Unsqueeze", {x, c_.ints({0, 2})}); };
    const ValueId path = c_.op("Exp", {c_.add(c_.add(from.all, ends()), of_sequence(loss))});
    ValueId dx = c_.op("ScatterElements", {c_.op("Exp", {scores_}), emitted_classes_, c_.neg(path)},
                       attributes({{"axis", int64_t{2}}, {"reduction", std::string("add")}}));
    dx = c_.mul(dx, of_sequence(wide(cotangent)));
    const double filler = a_.zero_infinity != 0 ? 0 : std::numeric_limits<double>::quiet_NaN();
    dx = c_.where(of_sequence(is_infinite(loss)), number(filler), dx);
    return {narrow(c_.where(alive_, dx, number(0)))};
  }

 private:
  ValueId wide(ValueId x) { return given_ == dtype_ ? x : c_.cast(x, dtype_); }
  ValueId narrow(ValueId x) { return given_ == dtype_ ? x : c_.cast(x, given_); }
  ValueId number(double v) { return c_.scalar(dtype_, v); }
  ValueId size(ValueId x, int64_t axis) {
    return c_.op("Shape", {x}, attributes({{"start", axis}, {"end", axis + 1}}));
  }
  ValueId joined(std::vector<ValueId> parts, int64_t axis = 0) {
    return c_.op("Concat", std::move(parts), attributes({{"axis", axis}}));
  }
  ValueId row(ValueId x) { return c_.op("Unsqueeze", {x, c_.ints({0})}); }
  ValueId column(ValueId x) { return c_.op("Unsqueeze", {x, c_.ints({1})}); }
  // 0, 1, ... below a number [1].
  ValueId range(ValueId count) {
    return c_.op("Range",
                 {c_.scalar(DType::Int64, 0), c_.op("Squeeze", {count}), c_.scalar(DType::Int64, 1)});
  }
  // `front` columns before x [N, L] and `back` ones after it: zeros, or for floats minus infinity.
  static ValueId pad(Compose& c, ValueId x, int64_t front, int64_t back, DType dtype) {
    const ValueId value = c.scalar(dtype, dtype == DType::Int64 ? 0 : -kInfinity);
    return c.op("Pad", {x, c.ints({0, front, 0, back}), value});
  }
  ValueId pad(ValueId x, int64_t front, int64_t back, DType dtype) { return pad(c_, x, front, back, dtype); }

  // Labels [sum of counts] as [N, the largest count].
  ValueId padded(ValueId labels) {
    const ValueId zero = c_.scalar(DType::Int64, 0);
    const ValueId first = c_.sub(c_.op("CumSum", {counts_, zero}), counts_);
    const ValueId longest = c_.op("ReduceMax", {joined({c_.ints({0}), counts_}), c_.ints({0})},
                                  attributes({{"keepdims", int64_t{1}}}));
    // What lies behind a target is one more label, which nobody looks at.
    const ValueId places =
        c_.op("Min", {c_.add(column(first), row(range(longest))), c_.op("Size", {labels})});
    return c_.op("Gather", {joined({labels, c_.ints({a_.blank})}), places});
  }

  // Labels [N, S] with blanks around them, and in the place of those behind a target.
  ValueId with_blanks(ValueId labels) {
    const ValueId blank = c_.scalar(DType::Int64, static_cast<double>(a_.blank)), width = size(labels, 1);
    const ValueId valid = c_.op("Less", {row(range(width)), column(counts_)});
    const ValueId own = c_.where(valid, labels, blank);
    const ValueId pairs = joined({c_.op("Expand", {blank, joined({batch_, width, c_.ints({1})})}),
                                  c_.op("Unsqueeze", {own, c_.ints({2})})},
                                 2);
    const ValueId flat = c_.op("Reshape", {pairs, joined({batch_, c_.mul(width, c_.ints({2}))})},
                               attributes({{"allowzero", int64_t{1}}}));
    return joined({flat, c_.op("Expand", {blank, joined({batch_, c_.ints({1})})})}, 1);
  }

  ValueId last_position() { return column(c_.mul(counts_, c_.scalar(DType::Int64, 2))); }
  // 0 at a position, minus infinity at all others.
  ValueId at_position(ValueId position) {
    const ValueId here = c_.op("Equal", {row(range(size(classes_, 1))), position});
    return c_.op("Expand", {c_.where(here, number(0), number(-kInfinity)), c_.shape_of(classes_)});
  }

  // Over the last axis; minus infinity of nothing but minus infinities.
  static ValueId log_sum_exp(Compose& c, DType dtype, ValueId x, bool keepdims = false) {
    const ValueId axis = c.ints({-1});
    const ValueId largest = c.op("ReduceMax", {x, axis}, attributes({{"keepdims", int64_t{1}}}));
    const ValueId none = c.op("Equal", {largest, c.scalar(dtype, -kInfinity)});
    const ValueId shift = c.where(none, c.scalar(dtype, 0), largest);
    const ValueId sum = c.reduce_sum(c.op("Exp", {c.sub(x, shift)}), {-1}, true);
    const ValueId result = c.add(c.op("Log", {sum}), shift);
    return keepdims ? result : c.op("Squeeze", {result, axis});
  }

  // One step from `state` [N, L] with scores [N, L] and whether the sequence still lasts [N, 1]; gives the
  // next state, and what a step of the results is.
  GraphPtr step(bool backwards) {
    GraphBuilder body("CTC step");
    const Node none;
    Compose c(body, none);
    const ValueId state = body.input("state", Type::tensor(dtype_, Shape(2)));
    const ValueId score = body.input("score", Type::tensor(dtype_, Shape(2)));
    const ValueId alive = body.input("alive", Type::tensor(DType::Bool, Shape(2)));
    const ValueId skip = body.capture(0, "skip", Type::tensor(dtype_, Shape(2)));
    const auto shifted = [&](ValueId x, int64_t by) {
      const int64_t front = backwards ? 0 : by, back = backwards ? by : 0;
      const ValueId wide = pad(c, x, front, back, dtype_);
      return backwards ? c.op("Slice", {wide, c.ints({by}), c.ints({std::numeric_limits<int64_t>::max()}),
                                        c.ints({1})})
                       : c.op("Slice", {wide, c.ints({0}), c.ints({-by}), c.ints({1})});
    };
    const ValueId two = backwards ? shifted(c.add(state, skip), 2) : c.add(shifted(state, 2), skip);
    const auto wide = [&](ValueId x) { return c.op("Unsqueeze", {x, c.ints({2})}); };
    const ValueId choices =
        c.op("Concat", {wide(state), wide(shifted(state, 1)), wide(two)}, attributes({{"axis", int64_t{2}}}));
    const ValueId sum = log_sum_exp(c, dtype_, choices);
    const ValueId next = c.where(alive, c.add(sum, score), state);
    body.output(next);
    body.output(backwards ? c.op("Identity", {sum}) : c.op("Identity", {next}));
    return std::move(body).build();
  }

  std::vector<ValueId> scanned(ValueId initial, bool backwards) {
    Node node;
    node.op = "Scan";
    node.inputs = {initial, emitted_, alive_};
    node.captures = {skip_};
    const int64_t back = backwards;
    node.attributes = attributes({{"num_scan_inputs", int64_t{2}},
                                  {"scan_input_directions", std::vector<int64_t>{back, back}},
                                  {"scan_output_directions", std::vector<int64_t>{back}},
                                  {"body", step(backwards)}});
    node.outputs = {c_.builder().value("Scan"), c_.builder().value("Scan")};
    const std::vector<ValueId> results = node.outputs;
    c_.builder().add(std::move(node));
    // No steps give no dims either.
    const ValueId all =
        c_.op("Reshape", {results[1], c_.shape_of(emitted_)}, attributes({{"allowzero", int64_t{1}}}));
    return {results[0], all};
  }

  Compose& c_;
  const CtcAttributes a_;
  const DType dtype_, given_;
  ValueId scores_, counts_, steps_, batch_;
  ValueId classes_;          // [N, L]
  ValueId skip_;             // [N, L]
  ValueId emitted_classes_;  // [T, N, L]
  ValueId emitted_;          // [T, N, L], the scores of the classes
  ValueId alive_;            // [T, N, 1]
};

std::vector<ValueId> ctc_loss(Compose& c) { return Ctc(c, 0).forward(); }
std::vector<ValueId> ctc_loss_backward(Compose& c) { return Ctc(c, 1).backward(c.in(0)); }

void ctc_gradient(Differentiate& d) {
  if (d.cotangent() == kNone) return;
  d.give(0,
         d.own("CTCLossBackward", {d.cotangent(), d.in(0), d.in(1), d.in(2), d.in(3)}, d.node().attributes));
}

// One loss for each sequence.
std::optional<Shape> loss_dims(const OwnInference& inference) {
  const Type& scores = inference.inputs.at(0);
  if (!scores.shape || scores.shape->size() != 3) return std::nullopt;
  return Shape{(*scores.shape)[1]};
}

}  // namespace

void register_loss_ctc(OperatorRegistry& r) {
  const OwnInput targets{"targets", "tensor(int64)"}, steps{"input_lengths", "tensor(int64)"},
      counts{"target_lengths", "tensor(int64)"};
  r.op("CTCLoss", kOwnDomain)
      .attributes<CtcAttributes>()
      .ports({{"log_probs"}, targets, steps, counts}, {{"loss", 0, -1, -1, loss_dims}})
      .decomposes(ctc_loss)
      .differentiates(ctc_gradient);
  r.op("CTCLossBackward", kOwnDomain)
      .attributes<CtcAttributes>()
      .ports({{"dY"}, {"log_probs"}, targets, steps, counts}, {{"dlog_probs", 1, 1}})
      .decomposes(ctc_loss_backward);
}

}  // namespace sardonyx
