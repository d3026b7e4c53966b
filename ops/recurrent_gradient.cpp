// The gradients of RNN, GRU and LSTM: of the common forms by ops/recurrent_backward.cpp; of all others each
// direction is written out as a Scan, which is differentiated.
#include <algorithm>
#include <cctype>
#include <map>

#include "ops/recurrent_gradient.h"
#include "ops/registry/body_gradient.h"
#include "ops/registry/schema.h"

namespace sardonyx {

namespace {

using Function = GateFunctionName;
using Recurrent = RecurrentForm;

// Names for one direction serve both; parameters are taken in order by the functions that have some.
std::vector<Function> functions_of(std::vector<std::string> names, const RecurrentAttributes& a, size_t each,
                                   size_t directions) {
  struct Defaults {
    bool alpha, beta;
    float default_alpha, default_beta;
  };
  static const std::map<std::string, Defaults> with_parameters = {{"affine", {true, true, 1, 0}},
                                                                  {"leakyrelu", {true, false, 0.01f, 0}},
                                                                  {"thresholdedrelu", {true, false, 1, 0}},
                                                                  {"scaledtanh", {true, true, 1, 1}},
                                                                  {"hardsigmoid", {true, true, 0.2f, 0.5f}},
                                                                  {"elu", {true, false, 1, 0}}};
  static const std::vector<std::string> defaults[] = {
      {"tanh"}, {"sigmoid", "tanh"}, {"sigmoid", "tanh", "tanh"}};
  if (names.empty()) names = defaults[each - 1];
  const bool shared = names.size() == each && directions == 2;
  const size_t wanted = shared ? each : each * directions;
  if (names.size() < wanted)
    throw ModelError("attribute 'activations'", std::to_string(wanted) + " names",
                     std::to_string(names.size()));
  const std::vector<float> alphas = a.activation_alpha.value_or(std::vector<float>()),
                           betas = a.activation_beta.value_or(std::vector<float>());
  size_t next_alpha = 0, next_beta = 0;
  std::vector<Function> functions;
  for (size_t i = 0; i < wanted; ++i) {
    Function f;
    for (const char c : names[i]) f.name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (const auto found = with_parameters.find(f.name); found != with_parameters.end()) {
      f.alpha = found->second.default_alpha, f.beta = found->second.default_beta;
      if (found->second.alpha && next_alpha < alphas.size()) f.alpha = alphas[next_alpha++];
      if (found->second.beta && next_beta < betas.size()) f.beta = betas[next_beta++];
    }
    functions.push_back(std::move(f));
  }
  for (size_t i = 0; shared && i < each; ++i) functions.push_back(Function(functions[i]));
  return functions;
}

Recurrent describe(const Node& node) {
  Recurrent r;
  std::vector<std::string> names;
  size_t each = 1;
  if (node.op == "RNN") {
    const auto a = parse_attributes<RnnAttributes>(node.attributes);
    r.attributes = a, names = a.activations;
  } else if (node.op == "GRU") {
    const auto a = parse_attributes<GruAttributes>(node.attributes);
    r.attributes = a, names = a.activations.value_or(names);
    r.linear_before_reset = a.linear_before_reset != 0;
    r.gates = 3, each = 2;
  } else {
    const auto a = parse_attributes<LstmAttributes>(node.attributes);
    r.attributes = a, names = a.activations.value_or(names);
    r.input_forget = a.input_forget != 0;
    r.gates = 4, each = 3;
  }
  r.directions = r.attributes.direction == "bidirectional" ? 2 : 1;
  r.batch_first = r.attributes.layout != 0;
  r.functions = functions_of(std::move(names), r.attributes, each, r.directions);
  return r;
}

ValueId activate(Compose& c, const Function& f, ValueId x, DType dtype) {
  const auto number = [&](double v) { return c.scalar(dtype, v); };
  static const std::map<std::string, const char*> plain = {{"relu", "Relu"},
                                                           {"tanh", "Tanh"},
                                                           {"sigmoid", "Sigmoid"},
                                                           {"softsign", "Softsign"},
                                                           {"softplus", "Softplus"}};
  if (const auto found = plain.find(f.name); found != plain.end()) return c.op(found->second, {x});
  if (f.name == "affine") return c.add(c.mul(x, number(f.alpha)), number(f.beta));
  if (f.name == "scaledtanh") return c.mul(c.op("Tanh", {c.mul(x, number(f.beta))}), number(f.alpha));
  if (f.name == "hardsigmoid")
    return c.op("HardSigmoid", {x}, attributes({{"alpha", f.alpha}, {"beta", f.beta}}));
  const Attributes alpha = attributes({{"alpha", f.alpha}});
  if (f.name == "leakyrelu") return c.op("LeakyRelu", {x}, alpha);
  if (f.name == "thresholdedrelu") return c.op("ThresholdedRelu", {x}, alpha);
  if (f.name == "elu") return c.op("Elu", {x}, alpha);
  throw ModelError("attribute 'activations'", "the name of an activation function", "'" + f.name + "'");
}

std::vector<ValueId> split(Compose& c, ValueId x, size_t parts) {
  return c.ops("Split", {x}, parts,
               attributes({{"axis", int64_t{-1}}, {"num_outputs", static_cast<int64_t>(parts)}}));
}

// One direction of the operator at hand.
class Direction {
 public:
  Direction(Compose& c, const Recurrent& r, size_t index)
      : c_(c),
        r_(r),
        index_(index),
        dtype_(c.dtype(0)),
        body_("step"),
        in_(body_, c.node()),
        ports_(body_, {}) {}

  // Y without the axis of directions, and the last states without it.
  std::vector<ValueId> run() {
    const bool lstm = r_.gates == 4;
    const int64_t time = r_.batch_first ? 1 : 0;
    const bool backwards = r_.attributes.direction == "reverse" || index_ == 1;
    const ValueId weights = c_.transpose(of_direction(1, 0), {1, 0});
    recurrent_ = c_.transpose(of_direction(2, 0), {1, 0});
    ValueId projected = c_.op("MatMul", {c_.in(0), weights});
    if (c_.has(3)) {
      const auto biases = split(c_, of_direction(3, 0), 2);
      projected = c_.add(projected, biases[0]);
      bias_ = biases[1];
    }
    if (c_.has(7)) peepholes_ = split(c_, of_direction(7, 0), 3);

    const Type state = Type::tensor(dtype_);
    h_ = ports_.new_input("h", state);
    if (lstm) cell_ = ports_.new_input("c", state);
    const ValueId x = ports_.new_input("x", state);
    const ValueId alive = c_.has(4) ? ports_.new_input("alive", Type::tensor(DType::Bool)) : kNone;
    ValueId next_c = kNone;
    ValueId next_h = lstm ? lstm_step(x, next_c) : r_.gates == 3 ? gru_step(x) : rnn_step(x);
    ValueId y = next_h;
    if (alive != kNone) {
      y = in_.where(alive, next_h, number(0));
      next_h = in_.where(alive, next_h, h_);
      if (lstm) next_c = in_.where(alive, next_c, cell_);
    }
    std::vector<ValueId> outputs = {next_h};
    if (lstm) outputs.push_back(next_c);
    outputs.push_back(y);

    Node node;
    node.op = "Scan";
    node.inputs = {initial(5)};
    if (lstm) node.inputs.push_back(initial(6));
    node.inputs.push_back(projected);
    if (alive != kNone) node.inputs.push_back(mask(time));
    const size_t scanned = alive != kNone ? 2 : 1;
    node.attributes = attributes({{"num_scan_inputs", static_cast<int64_t>(scanned)},
                                  {"scan_input_axes", std::vector<int64_t>(scanned, time)},
                                  {"scan_input_directions", std::vector<int64_t>(scanned, backwards)},
                                  {"scan_output_axes", std::vector<int64_t>{time}},
                                  {"scan_output_directions", std::vector<int64_t>{backwards}},
                                  {"body", ports_.finish(outputs)}});
    node.captures = outer_;
    for (size_t i = 0; i < outputs.size(); ++i) node.outputs.push_back(c_.builder().value("Scan"));
    const std::vector<ValueId> results = node.outputs;
    c_.builder().add(std::move(node));
    return results;
  }

 private:
  ValueId of_direction(size_t input, int64_t axis) {
    return c_.op("Gather", {c_.in(input), c_.scalar(DType::Int64, static_cast<double>(index_))},
                 attributes({{"axis", axis}}));
  }
  ValueId number(double v) { return in_.scalar(dtype_, v); }
  // A value of the outer graph inside the body.
  ValueId outer(ValueId id) {
    outer_.push_back(id);
    return ports_.new_capture("outer", Type::tensor(dtype_), outer_.size() - 1);
  }
  ValueId initial(size_t input) {
    const int64_t axis = r_.batch_first ? 1 : 0;
    if (c_.has(input)) return of_direction(input, axis);
    const ValueId batch = c_.op("Gather", {c_.shape_of(c_.in(0)), c_.ints({1 - axis})});
    const ValueId hidden = c_.op("Gather", {c_.shape_of(c_.in(2)), c_.ints({2})});
    return c_.op("Expand", {c_.scalar(dtype_, 0),
                            c_.op("Concat", {batch, hidden}, attributes({{"axis", int64_t{0}}}))});
  }
  // Which steps lie within their sequences.
  ValueId mask(int64_t time) {
    const ValueId steps =
        c_.op("Gather", {c_.shape_of(c_.in(0)), c_.scalar(DType::Int64, static_cast<double>(time))});
    const ValueId range = c_.op("Range", {c_.scalar(DType::Int64, 0), steps, c_.scalar(DType::Int64, 1)});
    const ValueId lengths = c_.cast(c_.in(4), DType::Int64);
    const std::vector<int64_t> first = {-1, 1, 1}, second = {1, -1, 1};
    return c_.op("Less", {c_.op("Reshape", {range, c_.ints(time == 0 ? first : second)}),
                          c_.op("Reshape", {lengths, c_.ints(time == 0 ? second : first)})});
  }

  ValueId function(size_t which, ValueId x, bool clipped = true) {
    const size_t each = r_.functions.size() / r_.directions;
    if (clipped && r_.attributes.clip)
      x = in_.op("Clip", {x, number(-*r_.attributes.clip), number(*r_.attributes.clip)});
    return activate(in_, r_.functions[index_ * each + which], x, dtype_);
  }
  // The state times R, with R's biases.
  ValueId recur(ValueId state, ValueId weights, ValueId bias) {
    const ValueId product = in_.op("MatMul", {state, outer(weights)});
    return bias == kNone ? product : in_.add(product, outer(bias));
  }

  ValueId rnn_step(ValueId x) { return function(0, in_.add(x, recur(h_, recurrent_, bias_))); }

  ValueId gru_step(ValueId x) {
    const auto xs = split(in_, x, 3);
    ValueId z, reset, inner;
    if (r_.linear_before_reset) {
      const auto all = split(in_, recur(h_, recurrent_, bias_), 3);
      z = function(0, in_.add(xs[0], all[0]));
      reset = function(0, in_.add(xs[1], all[1]));
      inner = in_.mul(reset, all[2]);
    } else {
      const auto weights = split(c_, recurrent_, 3);
      const auto biases = bias_ == kNone ? std::vector<ValueId>(3, kNone) : split(c_, bias_, 3);
      z = function(0, in_.add(xs[0], recur(h_, weights[0], biases[0])));
      reset = function(0, in_.add(xs[1], recur(h_, weights[1], biases[1])));
      inner = recur(in_.mul(reset, h_), weights[2], biases[2]);
    }
    const ValueId candidate = function(1, in_.add(xs[2], inner));
    return in_.add(candidate, in_.mul(z, in_.sub(h_, candidate)));
  }

  ValueId lstm_step(ValueId x, ValueId& next_c) {
    const auto gates = split(in_, in_.add(x, recur(h_, recurrent_, bias_)), 4);  // i o f c
    const auto peeped = [&](size_t gate, size_t peephole, ValueId cell) {
      return peepholes_.empty() ? gates[gate]
                                : in_.add(gates[gate], in_.mul(outer(peepholes_[peephole]), cell));
    };
    const ValueId input = function(0, peeped(0, 0, cell_));
    const ValueId forget = r_.input_forget ? in_.sub(number(1), input) : function(0, peeped(2, 2, cell_));
    next_c = in_.add(in_.mul(forget, cell_), in_.mul(input, function(1, gates[3])));
    return in_.mul(function(0, peeped(1, 1, next_c)), function(2, next_c, false));
  }

  Compose& c_;
  const Recurrent& r_;
  size_t index_;
  DType dtype_;
  GraphBuilder body_;
  Compose in_;
  BodyPorts ports_;
  std::vector<ValueId> outer_, peepholes_;
  ValueId recurrent_ = kNone, bias_ = kNone, h_ = kNone, cell_ = kNone;
};

// Y, Y_h and Y_c written out.
std::vector<ValueId> written_out(Compose& c) {
  const Recurrent r = describe(c.node());
  const int64_t y_axis = r.batch_first ? 2 : 1, state_axis = r.batch_first ? 1 : 0;
  std::vector<std::vector<ValueId>> parts(3);
  for (size_t i = 0; i < r.directions; ++i) {
    const std::vector<ValueId> made = Direction(c, r, i).run();
    const auto with_axis = [&](ValueId x, int64_t axis) { return c.op("Unsqueeze", {x, c.ints({axis})}); };
    parts[0].push_back(with_axis(made.back(), y_axis));
    for (size_t k = 0; k + 1 < made.size(); ++k) parts[k + 1].push_back(with_axis(made[k], state_axis));
  }
  std::vector<ValueId> outputs;
  for (size_t k = 0; k < parts.size() && !parts[k].empty(); ++k)
    outputs.push_back(parts[k].size() == 1
                          ? parts[k][0]
                          : c.op("Concat", parts[k], attributes({{"axis", k == 0 ? y_axis : state_axis}})));
  return outputs;
}

// The node written out, in a graph of its own, and differentiated there.
void through_scan(Differentiate& d) {
  GraphBuilder written("written out");
  Node node = d.node();
  std::vector<ValueId> operands;
  for (ValueId& id : node.inputs)
    if (id != kNone) {
      operands.push_back(id);
      const ValueInfo& info = d.builder().graph().value(id);
      id = written.input(info.name, info.type);
    }
  Compose compose(written, node);
  const std::vector<ValueId> outputs = written_out(compose);
  std::vector<size_t> asked;
  for (size_t i = 0; i < outputs.size(); ++i)
    if (d.cotangent(i) != kNone) {
      asked.push_back(i);
      written.output(outputs[i]);
    }
  const GraphPtr typed = infer_types(std::move(written).build_pruned(), nullptr);
  GraphBuilder gradient(*typed);
  std::vector<ValueId> cotangents, wanted;
  std::vector<size_t> inputs;
  for (size_t i = 0; i < asked.size(); ++i) {
    cotangents.push_back(gradient.input("d_y", typed->value(typed->outputs()[i]).type));
    operands.push_back(d.cotangent(asked[i]));
  }
  for (size_t i = 0, at = 0; i < d.node().inputs.size(); ++i) {
    if (!d.has(i)) continue;
    if (d.needs(i)) {
      inputs.push_back(i);
      wanted.push_back(typed->inputs()[at]);
    }
    ++at;
  }
  std::vector<ValueId> results = d.backward()(gradient, typed->outputs(), cotangents, wanted);
  for (size_t i = results.size(); i-- > 0;)
    if (results[i] == kNone) {
      results.erase(results.begin() + static_cast<std::ptrdiff_t>(i));
      inputs.erase(inputs.begin() + static_cast<std::ptrdiff_t>(i));
    }
  gradient.set_outputs(std::move(results));
  const GraphPtr whole = std::move(gradient).build_pruned();
  const auto given = d.builder().inline_body(*whole, operands, {});
  for (size_t i = 0; i < given.size(); ++i) d.give(inputs[i], given[i]);
}

}  // namespace

void register_recurrent_gradient(OperatorRegistry& r) {
  for (const char* name : {"RNN", "GRU", "LSTM"})
    r.op(name).differentiates([](Differentiate& d) {
      if (!differentiate_batched(d, describe(d.node()))) through_scan(d);
    });
}

}  // namespace sardonyx
