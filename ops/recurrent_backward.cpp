// Gradients of the common forms of RNN, GRU and LSTM. All gates are computed once more, of all steps
// together: the states before them are in Y. What has to go from step to step is an operator of its own for
// each cell (LSTMBackward, GRUBackward, RNNBackward: one direction, without the axis of directions), and the
// gradients of inputs and weights are products over all steps again.
#include "ops/recurrent_backward.h"

#include <map>

#include "ops/recurrent_gradient.h"
#include "ops/registry/body_gradient.h"

namespace sardonyx {

namespace {

bool is_common(Differentiate& d, const RecurrentForm& form) {
  if (d.has(4) || d.has(7) || form.attributes.clip || form.input_forget || form.batch_first) return false;
  if (form.gates == 3 && !form.linear_before_reset) return false;
  static const std::vector<std::string> defaults[] = {
      {"tanh"}, {"sigmoid", "tanh"}, {"sigmoid", "tanh", "tanh"}};
  const auto& expected = defaults[form.gates == 1 ? 0 : form.gates - 2];
  for (size_t i = 0; i < form.functions.size(); ++i)
    if (form.functions[i].name != expected[i % expected.size()]) return false;
  return true;
}

Attributes along(int64_t axis) { return attributes({{"axis", axis}}); }

class Batched {
 public:
  Batched(Differentiate& d, const RecurrentForm& form) : d_(d), form_(form) {}

  void run() {
    for (size_t i = 0; i < form_.directions; ++i) direction(i);
    if (d_.needs(0)) d_.give(0, d_x_.size() == 1 ? d_x_[0] : d_.add(d_x_[0], d_x_[1]));
    for (const auto& [input, parts] : parts_)
      d_.give(input, parts.size() == 1 ? parts[0] : d_.op("Concat", parts, along(0)));
  }

 private:
  ValueId at(ValueId x, size_t i, int64_t axis) {
    if (x == kNone) return kNone;
    if (form_.directions == 1) return d_.op("Squeeze", {x, d_.ints({axis})});
    return d_.op("Gather", {x, d_.scalar(DType::Int64, static_cast<double>(i))}, along(axis));
  }
  ValueId rows(ValueId x) { return d_.op("Flatten", {x}, along(2)); }
  void keep(size_t input, ValueId part) {
    if (d_.needs(input)) parts_[input].push_back(d_.op("Unsqueeze", {part, d_.ints({0})}));
  }
  // A state of one direction before its first step.
  ValueId initial(size_t input, size_t i) {
    if (d_.has(input)) return at(d_.in(input), i, 0);
    const ValueId batch = d_.op("Gather", {d_.shape_of(d_.in(0)), d_.ints({1})});
    const ValueId hidden = d_.op("Gather", {d_.shape_of(d_.in(2)), d_.ints({2})});
    return d_.op("Expand", {d_.scalar(d_.dtype(0), 0), d_.op("Concat", {batch, hidden}, along(0))});
  }

  void direction(size_t i) {
    const int64_t backwards = form_.attributes.direction == "reverse" || i == 1;
    const Attributes attributes = sardonyx::attributes({{"reverse", backwards}});
    const ValueId x = d_.in(0), w = at(d_.in(1), i, 0), r = at(d_.in(2), i, 0), y = at(d_.out(0), i, 1);
    const ValueId dy = at(d_.cotangent(0), i, 1), dy_h = at(d_.cotangent(1), i, 0);
    const ValueId zero = d_.ints({0}), one = d_.ints({1}), last = d_.ints({-1});
    // The state before each step.
    const ValueId first = d_.op("Unsqueeze", {initial(5, i), zero});
    const ValueId before =
        backwards ? d_.op("Concat", {d_.op("Slice", {y, one, d_.ints({INT64_MAX}), zero}), first}, along(0))
                  : d_.op("Concat", {first, d_.op("Slice", {y, zero, last, zero})}, along(0));
    std::vector<ValueId> biases(2, kNone);
    if (d_.has(3))
      biases = d_.ops("Split", {at(d_.in(3), i, 0)}, 2,
                      sardonyx::attributes({{"axis", int64_t{0}}, {"num_outputs", int64_t{2}}}));
    const ValueId shape = d_.op("Concat",
                                {d_.op("Shape", {x}, sardonyx::attributes({{"end", int64_t{2}}})),
                                 d_.op("Shape", {w}, sardonyx::attributes({{"end", int64_t{1}}}))},
                                along(0));
    // Of all steps: a * weights, plus a bias or other rows.
    const auto product = [&](ValueId a, ValueId weights, ValueId more) {
      std::vector<ValueId> operands = {rows(a), weights};
      if (more != kNone) operands.push_back(more);
      return d_.op("Gemm", operands, sardonyx::attributes({{"transB", int64_t{1}}}));
    };
    const auto stepped = [&](ValueId all) {
      return d_.op("Reshape", {all, shape}, sardonyx::attributes({{"allowzero", int64_t{1}}}));
    };
    // What the products of X and of the state lead to, and the gradient of the first state.
    ValueId d_gates = kNone, d_recurrent = kNone, d_first = kNone;
    if (form_.gates == 4) {
      const ValueId bias = biases[0] == kNone ? kNone : d_.add(biases[0], biases[1]);
      const ValueId gates = stepped(product(before, r, product(x, w, bias)));
      const ValueId dy_c = at(d_.cotangent(2), i, 0);
      const auto back = d_.builder().ops("LSTMBackward", {gates, r, initial(6, i), dy, dy_h, dy_c}, 3,
                                         attributes, kOwnDomain);
      d_gates = d_recurrent = back[0], d_first = back[1];
      keep(6, back[2]);
    } else if (form_.gates == 3) {
      const auto back = d_.builder().ops(
          "GRUBackward",
          {stepped(product(x, w, biases[0])), stepped(product(before, r, biases[1])), before, r, dy, dy_h}, 3,
          attributes, kOwnDomain);
      d_gates = back[0], d_recurrent = back[1], d_first = back[2];
    } else {
      const auto back = d_.builder().ops("RNNBackward", {y, r, dy, dy_h}, 2, attributes, kOwnDomain);
      d_gates = d_recurrent = back[0], d_first = back[1];
    }
    keep(5, d_first);
    if (d_.needs(0)) d_x_.push_back(d_.op("MatMul", {d_gates, w}));
    const ValueId flat = rows(d_gates), flat_recurrent = d_recurrent == d_gates ? flat : rows(d_recurrent);
    const Attributes transposed = sardonyx::attributes({{"transA", int64_t{1}}});
    if (d_.needs(1)) keep(1, d_.op("Gemm", {flat, rows(x)}, transposed));
    if (d_.needs(2)) keep(2, d_.op("Gemm", {flat_recurrent, rows(before)}, transposed));
    if (!d_.needs(3)) return;
    const ValueId sum = d_.reduce_sum(flat, {0}, false);
    const ValueId second = d_recurrent == d_gates ? sum : d_.reduce_sum(flat_recurrent, {0}, false);
    keep(3, d_.op("Concat", {sum, second}, along(0)));
  }

  Differentiate& d_;
  const RecurrentForm& form_;
  std::vector<ValueId> d_x_;
  std::map<size_t, std::vector<ValueId>> parts_;
};

// A Scan over the first axis of one direction, whose body is written with operators of the operands' type.
class Steps {
 public:
  Steps(Compose& c, bool backwards)
      : body_("step"),
        in_(body_, c.node()),
        c_(c),
        dtype_(c.dtype(0)),
        backwards_(backwards),
        ports_(body_, {}) {}

  Compose& in() { return in_; }
  ValueId state(ValueId first) {
    firsts_.push_back(first);
    return ports_.new_input("state", Type::tensor(dtype_));
  }
  // After all states; kNone stays kNone.
  ValueId scanned(ValueId all) {
    if (all == kNone) return kNone;
    scanned_.push_back(all);
    return ports_.new_input("item", Type::tensor(dtype_));
  }
  ValueId outer(ValueId id) {
    outer_.push_back(id);
    return ports_.new_capture("outer", Type::tensor(dtype_), outer_.size() - 1);
  }
  ValueId number(double v) { return in_.scalar(dtype_, v); }
  ValueId one_minus(ValueId x) { return in_.sub(number(1), x); }
  // x * (1 - x), of a sigmoid.
  ValueId slope(ValueId s) { return in_.mul(s, one_minus(s)); }
  ValueId tanh_slope(ValueId t) { return one_minus(in_.mul(t, t)); }
  std::vector<ValueId> split(ValueId x, size_t parts) {
    return in_.ops("Split", {x}, parts,
                   attributes({{"axis", int64_t{-1}}, {"num_outputs", static_cast<int64_t>(parts)}}));
  }
  ValueId joined(std::vector<ValueId> parts) { return in_.op("Concat", std::move(parts), along(-1)); }
  ValueId plus(ValueId x, ValueId y) { return y == kNone ? x : in_.add(x, y); }

  // The last states, and what each step gives.
  std::vector<ValueId> run(const std::vector<ValueId>& outputs) {
    Node node;
    node.op = "Scan";
    node.inputs = firsts_;
    node.inputs.insert(node.inputs.end(), scanned_.begin(), scanned_.end());
    node.captures = outer_;
    const std::vector<int64_t> directions(scanned_.size(), backwards_);
    node.attributes = attributes(
        {{"num_scan_inputs", static_cast<int64_t>(scanned_.size())},
         {"scan_input_directions", directions},
         {"scan_output_directions", std::vector<int64_t>(outputs.size() - firsts_.size(), backwards_)},
         {"body", ports_.finish(outputs)}});
    for (size_t i = 0; i < outputs.size(); ++i) node.outputs.push_back(c_.builder().value("Scan"));
    const std::vector<ValueId> results = node.outputs;
    c_.builder().add(std::move(node));
    return results;
  }

 private:
  GraphBuilder body_;
  Compose in_;
  Compose& c_;
  DType dtype_;
  bool backwards_;
  BodyPorts ports_;
  std::vector<ValueId> firsts_, scanned_, outer_;
};

bool goes_backwards(Compose& c) { return c.attributes<RecurrentBackwardAttributes>().reverse != 0; }

// Input i, or zeros of this shape.
ValueId or_zeros(Compose& c, size_t i, ValueId shape) {
  return c.has(i) ? c.in(i) : c.op("Expand", {c.scalar(c.dtype(0), 0), shape});
}

// Of one step of a state: [batch, hidden], from a tensor with steps in front and R.
ValueId state_shape(Compose& c, ValueId steps, ValueId r) {
  return c.op(
      "Concat",
      {c.op("Gather", {c.shape_of(steps), c.ints({1})}), c.op("Gather", {c.shape_of(r), c.ints({1})})},
      along(0));
}

std::vector<ValueId> lstm_backward(Compose& c) {
  const bool reverse = goes_backwards(c);
  const ValueId gates = c.in(0), r = c.in(1), shape = state_shape(c, gates, r);
  Steps forward(c, reverse);
  const ValueId cell = forward.state(c.in(2));
  const auto f = forward.split(forward.scanned(gates), 4);
  const ValueId next =
      forward.in().add(forward.in().mul(forward.in().op("Sigmoid", {f[2]}), cell),
                       forward.in().mul(forward.in().op("Sigmoid", {f[0]}), forward.in().op("Tanh", {f[3]})));
  const ValueId cells = forward.run({next, cell})[1];

  Steps back(c, !reverse);
  Compose& in = back.in();
  const ValueId dh = back.state(or_zeros(c, 4, shape)), dc_after = back.state(or_zeros(c, 5, shape));
  const auto g = back.split(back.scanned(gates), 4);
  const ValueId before = back.scanned(cells), dy = back.scanned(c.in(3));
  const ValueId i = in.op("Sigmoid", {g[0]}), o = in.op("Sigmoid", {g[1]}), keep = in.op("Sigmoid", {g[2]}),
                fresh = in.op("Tanh", {g[3]});
  const ValueId t = in.op("Tanh", {in.add(in.mul(keep, before), in.mul(i, fresh))});
  const ValueId d = back.plus(dh, dy);
  const ValueId dc = in.add(dc_after, in.mul(in.mul(d, o), back.tanh_slope(t)));
  const ValueId d_gates = back.joined(
      {in.mul(in.mul(dc, fresh), back.slope(i)), in.mul(in.mul(d, t), back.slope(o)),
       in.mul(in.mul(dc, before), back.slope(keep)), in.mul(in.mul(dc, i), back.tanh_slope(fresh))});
  const auto made = back.run({in.op("MatMul", {d_gates, back.outer(r)}), in.mul(dc, keep), d_gates});
  return {made[2], made[0], made[1]};
}

std::vector<ValueId> gru_backward(Compose& c) {
  const ValueId r = c.in(3);
  Steps back(c, !goes_backwards(c));
  Compose& in = back.in();
  const ValueId dh = back.state(or_zeros(c, 5, state_shape(c, c.in(0), r)));
  const auto x = back.split(back.scanned(c.in(0)), 3), h = back.split(back.scanned(c.in(1)), 3);
  const ValueId before = back.scanned(c.in(2)), dy = back.scanned(c.in(4));
  const ValueId z = in.op("Sigmoid", {in.add(x[0], h[0])}), reset = in.op("Sigmoid", {in.add(x[1], h[1])});
  const ValueId fresh = in.op("Tanh", {in.add(x[2], in.mul(reset, h[2]))});
  const ValueId d = back.plus(dh, dy);
  const ValueId d_z = in.mul(in.mul(d, in.sub(before, fresh)), back.slope(z));
  const ValueId d_fresh = in.mul(in.mul(d, back.one_minus(z)), back.tanh_slope(fresh));
  const ValueId d_r = in.mul(in.mul(d_fresh, h[2]), back.slope(reset));
  const ValueId d_x = back.joined({d_z, d_r, d_fresh}), d_h = back.joined({d_z, d_r, in.mul(d_fresh, reset)});
  const auto made = back.run({in.add(in.mul(d, z), in.op("MatMul", {d_h, back.outer(r)})), d_x, d_h});
  return {made[1], made[2], made[0]};
}

std::vector<ValueId> rnn_backward(Compose& c) {
  const ValueId r = c.in(1);
  Steps back(c, !goes_backwards(c));
  const ValueId dh = back.state(or_zeros(c, 3, state_shape(c, c.in(0), r)));
  const ValueId y = back.scanned(c.in(0)), dy = back.scanned(c.in(2));
  const ValueId d_gates = back.in().mul(back.plus(dh, dy), back.tanh_slope(y));
  const auto made = back.run({back.in().op("MatMul", {d_gates, back.outer(r)}), d_gates});
  return {made[1], made[0]};
}

}  // namespace

bool differentiate_batched(Differentiate& d, const RecurrentForm& form) {
  if (!is_common(d, form)) return false;
  Batched(d, form).run();
  return true;
}

void register_recurrent_backward(OperatorRegistry& r) {
  const auto own = [&r](const char* name) -> Operator& {
    return r.op(name, kOwnDomain).attributes<RecurrentBackwardAttributes>();
  };
  own("LSTMBackward")
      .ports({{"gates"}, {"R"}, {"initial_c"}, {"dY", "T", true}, {"dY_h", "T", true}, {"dY_c", "T", true}},
             {{"d_gates", 0, 0}, {"d_initial_h", 0, 2}, {"d_initial_c", 0, 2}})
      .decomposes(lstm_backward);
  own("GRUBackward")
      .ports({{"x_gates"}, {"h_gates"}, {"h_before"}, {"R"}, {"dY", "T", true}, {"dY_h", "T", true}},
             {{"dx_gates", 0, 0}, {"dh_gates", 0, 1}, {"d_initial_h"}})
      .decomposes(gru_backward);
  own("RNNBackward")
      .ports({{"Y"}, {"R"}, {"dY", "T", true}, {"dY_h", "T", true}}, {{"d_gates", 0, 0}, {"d_initial_h"}})
      .decomposes(rnn_backward);
}

}  // namespace sardonyx
