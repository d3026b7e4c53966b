// Gradients of the operators that run bodies. The body is split (ops/registry/body_gradient.h): the node of
// the forward graph keeps the values that its gradient reads as further outputs, and the gradient is a node
// of the same kind that goes through them in the opposite order.
#include <algorithm>

#include "ops/control_flow.h"
#include "ops/registry/body_gradient.h"
#include "ops/registry/schema.h"

namespace sardonyx {

namespace {

std::vector<size_t> needed_captures(Differentiate& d) {
  std::vector<size_t> needed;
  for (size_t i = 0; i < d.node().captures.size(); ++i)
    if (d.needs_capture(i)) needed.push_back(i);
  return needed;
}

// An output more of the node in the forward graph.
ValueId widen(Differentiate& d, size_t position, const Type& type) {
  const ValueId id = d.builder().value("saved", type);
  auto& outputs = d.forward().outputs;
  outputs.insert(outputs.begin() + static_cast<std::ptrdiff_t>(position), id);
  return id;
}

// The cotangent of the last value of a state, output i; its type is that of the first, an input.
ValueId last_cotangent(Differentiate& d, size_t i, size_t input) {
  if (d.cotangent(i) != kNone) return d.cotangent(i);
  const Type type = d.type(input);
  return zero_cotangent(d.builder(), d.out(i), type);
}

// Something of the type of a value that the branch at hand does not compute.
ValueId nothing_of(GraphBuilder& body, const Type& type) {
  const bool sequence = type.kind == Type::Kind::Sequence;
  const DType dtype = sequence ? type.element->dtype : type.dtype;
  if (sequence) return body.op("SequenceEmpty", {}, attributes({{"dtype", static_cast<int64_t>(dtype)}}));
  if (!type.is_tensor())
    throw UnsupportedError("the gradient of If", "values that are tensors or sequences", type.to_string());
  return body.constant(Tensor(dtype, {0}));
}

// A type without its dims, where another branch gives other ones.
Type without_dims(Type type) {
  type.shape.reset();
  return type;
}

void if_gradient(Differentiate& d) {
  BodyQuestion question;
  question.captures = needed_captures(d);
  question.capture_zeros = question.saves_sequences = true;
  for (size_t i = 0; i < d.node().outputs.size(); ++i)
    if (d.cotangent(i) != kNone) question.outputs.push_back(i);
  const char* names[] = {"then_branch", "else_branch"};
  std::vector<BodyGradient> branches;
  for (const char* name : names)
    branches.push_back(differentiate_body(d, *d.node().attributes.at<GraphPtr>(name), question));

  std::vector<ValueId> outer = d.node().captures;
  const size_t first_cotangent = outer.size();
  for (const size_t i : question.outputs) outer.push_back(d.cotangent(i));
  const size_t first_saved = outer.size();
  for (const BodyGradient& branch : branches)
    for (size_t i = 0; i < branch.restored.size(); ++i)
      outer.push_back(widen(d, d.forward().outputs.size(), without_dims(branch.saved[i])));
  std::vector<GraphPtr> bodies;
  Attributes attributes;
  for (size_t b = 0; b < 2; ++b) {
    // The forward branch: nothing for what the other one saves.
    GraphBuilder forward(*branches[b].forward);
    std::vector<ValueId> outputs = forward.graph().outputs();
    const BodyGradient& other = branches[1 - b];
    std::vector<ValueId> made;
    for (size_t i = 0; i < other.restored.size(); ++i) made.push_back(nothing_of(forward, other.saved[i]));
    const auto place =
        b == 0 ? outputs.end() : outputs.begin() + static_cast<std::ptrdiff_t>(d.node().outputs.size());
    outputs.insert(place, made.begin(), made.end());
    BodyPorts forward_ports(forward, branches[b].forward->captures());
    d.forward().attributes.set(names[b], forward_ports.finish(std::move(outputs)));

    BodyPorts ports(branches[b].backward, branches[b].captures);
    for (size_t i = 0; i < question.outputs.size(); ++i)
      ports.capture(branches[b].cotangents[i], first_cotangent + i);
    const size_t saved = first_saved + (b == 0 ? 0 : branches[0].restored.size());
    for (size_t i = 0; i < branches[b].restored.size(); ++i)
      ports.capture(branches[b].restored[i], saved + i);
    bodies.push_back(ports.finish(branches[b].of_captures));
    attributes.set(names[b], bodies.back());
  }
  const auto results = d.ops("If", {d.in(0)}, question.captures.size(), std::move(attributes));
  d.builder().node(static_cast<NodeId>(d.builder().graph().nodes().size() - 1)).captures =
      used_captures(std::move(outer), bodies);
  for (size_t i = 0; i < results.size(); ++i) d.give_capture(question.captures[i], results[i]);
}

// Of a Loop or Scan: which states a derivative goes through. States are the `states` inputs of the body from
// `first_in` on, and its outputs from `first_out` on.
std::vector<size_t> active_states(Differentiate& d, const Graph& body, size_t states, size_t first_in,
                                  size_t first_out, const BodyQuestion& question, size_t node_input) {
  std::vector<ValueId> sources;
  for (const size_t i : question.captures)
    if (i < body.captures().size()) sources.push_back(body.captures()[i]);
  for (const size_t i : question.fed)
    if (d.needs(i - first_in + node_input)) sources.push_back(body.inputs()[i]);
  std::vector<char> from(states, 0), to(states, 0);
  for (size_t i = 0; i < states; ++i) {
    from[i] = d.needs(node_input + i);
    to[i] = d.cotangent(i) != kNone;
  }
  std::vector<std::vector<char>> flows;
  for (size_t i = 0; i < states; ++i) flows.push_back(reached_values(body, {body.inputs()[first_in + i]}));
  const std::vector<char> known = reached_values(body, sources);
  const auto out = [&](size_t i) { return static_cast<size_t>(body.outputs()[first_out + i]); };
  for (size_t i = 0; i < states; ++i) from[i] = from[i] || known[out(i)];
  for (size_t i = 0; i < states; ++i)
    for (const size_t o : question.outputs) to[i] = to[i] || flows[i][static_cast<size_t>(body.outputs()[o])];
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = 0; i < states; ++i)
      for (size_t k = 0; k < states; ++k) {
        if (!flows[i][out(k)]) continue;
        if (from[i] && !from[k]) from[k] = 1, changed = true;
        if (to[k] && !to[i]) to[i] = 1, changed = true;
      }
  }
  std::vector<size_t> active;
  for (size_t i = 0; i < states; ++i)
    if (from[i] && to[i] && carries_gradient(body.value(body.inputs()[first_in + i]).type))
      active.push_back(i);
  return active;
}

// The sum over all turns for each capture: states of the backward loop behind those of the forward one.
struct Sums {
  std::vector<size_t> captures;  // of the node
  std::vector<ValueId> initial;  // outside
  std::vector<ValueId> next;     // inside
};

Sums sum_captures(Differentiate& d, BodyGradient& body, BodyPorts& ports,
                  const std::vector<size_t>& captures) {
  Sums sums;
  for (size_t i = 0; i < captures.size(); ++i) {
    if (body.of_captures[i] == kNone) continue;
    const ValueId outside = d.node().captures[captures[i]];
    const Type type = d.builder().graph().value(outside).type;
    const ValueId sum = ports.new_input("sum", type.kind == Type::Kind::Optional ? Type{} : type);
    sums.captures.push_back(captures[i]);
    sums.initial.push_back(zero_cotangent(d.builder(), outside, type));
    sums.next.push_back(add_cotangents(body.backward, type, sum, body.of_captures[i]));
  }
  return sums;
}

std::vector<int64_t> list_or(const std::optional<std::vector<int64_t>>& given, size_t n) {
  return given.value_or(std::vector<int64_t>(n, 0));
}

void add_node(Differentiate& d, Node node, const std::vector<ValueId>& outer, const GraphPtr& body) {
  node.attributes.set("body", body);
  node.captures = used_captures(outer, {body});
  d.builder().add(std::move(node));
}

// Without a turn, a scan output has such dims only as its type says.
ValueId with_dims_of(Differentiate& d, ValueId stacked, size_t input) {
  const auto& shape = d.type(input).shape;
  if (shape && std::all_of(shape->begin(), shape->end(), [](const Dim& dim) { return dim.known(); }))
    return stacked;
  return d.op("Reshape", {stacked, d.shape_of(d.in(input))}, attributes({{"allowzero", int64_t{1}}}));
}

void scan(Differentiate& d) {
  const auto a = d.attributes<ScanAttributes>();
  const Graph& body = **a.body;
  const size_t scanned = static_cast<size_t>(a.num_scan_inputs.value_or(0));
  const size_t states = d.node().inputs.size() - scanned, scans = body.outputs().size() - states;
  std::vector<int64_t> in_axes = list_or(a.scan_input_axes, scanned),
                       in_backwards = list_or(a.scan_input_directions, scanned),
                       out_axes = list_or(a.scan_output_axes, scans),
                       out_backwards = list_or(a.scan_output_directions, scans);
  BodyQuestion question;
  question.captures = needed_captures(d);
  for (size_t i = 0; i < scanned; ++i) question.fed.push_back(states + i);
  for (size_t i = 0; i < scans; ++i)
    if (d.cotangent(states + i) != kNone) question.outputs.push_back(states + i);
  const std::vector<size_t> active = active_states(d, body, states, 0, 0, question, 0);
  question.outputs.insert(question.outputs.begin(), active.begin(), active.end());
  question.inputs = active;
  for (size_t i = 0; i < scanned; ++i)
    if (d.needs(states + i)) question.inputs.push_back(states + i);
  BodyGradient parts = differentiate_body(d, body, question);

  // Forward: what is saved is stacked.
  Node& forward = d.forward();
  forward.attributes.set("body", parts.forward);
  forward.outputs.resize(states + scans, kNone);
  std::vector<ValueId> stacks;
  for (size_t i = 0; i < parts.restored.size(); ++i)
    stacks.push_back(widen(d, d.forward().outputs.size(), Type::tensor(parts.saved[i].dtype)));
  std::vector<int64_t> all_axes = out_axes, all_backwards = out_backwards;
  all_axes.resize(scans + stacks.size(), 0);
  all_backwards.resize(scans + stacks.size(), 0);
  d.forward().attributes.set("scan_output_axes", all_axes);
  d.forward().attributes.set("scan_output_directions", all_backwards);

  // Backward: the states are cotangents of states, and sums.
  Node node;
  node.op = "Scan";
  BodyPorts ports(parts.backward, parts.captures);
  std::vector<ValueId> outputs;
  for (size_t i = 0; i < active.size(); ++i) {
    ports.input(parts.cotangents[i]);
    node.inputs.push_back(last_cotangent(d, active[i], active[i]));
    outputs.push_back(parts.of_inputs[i]);
  }
  const Sums sums = sum_captures(d, parts, ports, question.captures);
  node.inputs.insert(node.inputs.end(), sums.initial.begin(), sums.initial.end());
  outputs.insert(outputs.end(), sums.next.begin(), sums.next.end());
  std::vector<int64_t> axes, directions, dx_axes, dx_directions;
  const auto scan_over = [&](ValueId inside, ValueId outside, int64_t axis, int64_t backwards) {
    ports.input(inside);
    node.inputs.push_back(outside);
    axes.push_back(axis);
    directions.push_back(1 - backwards);
  };
  for (size_t i = active.size(); i < question.outputs.size(); ++i) {
    const size_t k = question.outputs[i] - states;
    scan_over(parts.cotangents[i], d.cotangent(states + k), out_axes[k], out_backwards[k]);
  }
  for (size_t i = 0; i < stacks.size(); ++i) scan_over(parts.restored[i], stacks[i], 0, 0);
  for (size_t i = 0; i < scanned; ++i)
    // At least one, which says how many turns there are.
    if (parts.fed[i] != kNone || (axes.empty() && i + 1 == scanned))
      scan_over(body.inputs()[states + i], d.in(states + i), in_axes[i], in_backwards[i]);
  for (size_t i = active.size(); i < question.inputs.size(); ++i) {
    const size_t k = question.inputs[i] - states;
    outputs.push_back(parts.of_inputs[i]);
    dx_axes.push_back(in_axes[k]);
    dx_directions.push_back(1 - in_backwards[k]);
  }
  node.attributes = attributes({{"num_scan_inputs", static_cast<int64_t>(axes.size())},
                                {"scan_input_axes", axes},
                                {"scan_input_directions", directions}});
  if (!dx_axes.empty()) {
    node.attributes.set("scan_output_axes", dx_axes);
    node.attributes.set("scan_output_directions", dx_directions);
  }
  for (size_t i = 0; i < outputs.size(); ++i) node.outputs.push_back(d.builder().value("Scan"));
  const std::vector<ValueId> results = node.outputs;
  add_node(d, std::move(node), d.node().captures, ports.finish(std::move(outputs)));
  size_t next = 0;
  for (const size_t i : active) d.give(i, results[next++]);
  for (const size_t i : sums.captures) d.give_capture(i, results[next++]);
  for (size_t i = active.size(); i < question.inputs.size(); ++i) {
    const size_t input = question.inputs[i];
    d.give(input, with_dims_of(d, results[next++], input));
  }
}

// The body of a Loop whose states have the shapes that the initial ones have, as far as every turn keeps
// them: ONNX's inference leaves them open.
GraphPtr with_state_shapes(Differentiate& d, const GraphPtr& body, size_t states) {
  std::vector<Type> types;
  for (size_t i = 0; i < states; ++i) types.push_back(d.type(2 + i));
  for (;;) {
    GraphBuilder builder(*body);
    for (size_t i = 0; i < states; ++i)
      if (types[i].is_tensor()) builder.info(body->inputs()[2 + i]).type = types[i];
    const GraphPtr typed = infer_types(std::move(builder).build(), nullptr);
    bool changed = false;
    for (size_t i = 0; i < states; ++i) {
      if (!types[i].is_tensor() || !types[i].shape) continue;
      const Type& next = typed->value(typed->outputs()[1 + i]).type;
      if (!next.shape || next.shape->size() != types[i].shape->size()) {
        types[i].shape.reset(), changed = true;
        continue;
      }
      for (size_t k = 0; k < next.shape->size(); ++k) {
        Dim& dim = (*types[i].shape)[k];
        const Dim& now = (*next.shape)[k];
        const bool same =
            dim.known() ? now.known() && now.value == dim.value : !now.known() && dim.symbol == now.symbol;
        if (!same && (dim.known() || !dim.symbol.empty())) dim = Dim(), changed = true;
      }
    }
    if (!changed) return typed;
  }
}

ValueId int_op(GraphBuilder& builder, const char* op, ValueId a, int64_t b) {
  return builder.op(op, {a, builder.constant(Tensor::scalar<int64_t>(b))});
}

// `before` and `count` items of a sequence behind it, from `first` on.
ValueId with_items(GraphBuilder& builder, ValueId before, ValueId items, ValueId first, ValueId count,
                   DType dtype) {
  const Type sequence = Type::sequence(Type::tensor(dtype)), number = Type::tensor(DType::Int64, {});
  GraphBuilder body("items");
  const ValueId i = body.input("i", number), go_on = body.input("go_on", Type::tensor(DType::Bool, {}));
  const ValueId all = body.input("all", sequence);
  const ValueId from = body.capture(0, "items", sequence), at = body.capture(1, "first", number);
  body.output(body.op("Identity", {go_on}));
  body.output(body.op("SequenceInsert", {all, body.op("SequenceAt", {from, body.op("Add", {at, i})})}));
  const ValueId result =
      builder.op("Loop", {count, kNone, before}, attributes({{"body", std::move(body).build()}}));
  builder.node(static_cast<NodeId>(builder.graph().nodes().size() - 1)).captures = {items, first};
  return result;
}

// What a Loop saves, as states of it: of every tensor the sequence of those of all turns; of every sequence
// the items of all turns in one, and a sequence of where those of each turn begin and how many they are.
struct SavedStates {
  std::vector<DType> dtypes;     // of the sequences
  std::vector<size_t> places;    // the first state of each saved value
  std::vector<ValueId> updates;  // inside: the states after a turn

  SavedStates(GraphBuilder& body, BodyPorts& ports, const std::vector<ValueId>& kept,
              const std::vector<Type>& types) {
    const auto add = [&](DType dtype, const std::function<ValueId(ValueId)>& after) {
      dtypes.push_back(dtype);
      updates.push_back(after(ports.new_input("saved", Type::sequence(Type::tensor(dtype)))));
    };
    const auto length = [&](ValueId sequence) {
      return body.op("Reshape",
                     {body.op("SequenceLength", {sequence}), body.constant(Tensor::of<int64_t>({1}))});
    };
    for (size_t i = 0; i < kept.size(); ++i) {
      places.push_back(dtypes.size());
      ValueId item = kept[i];
      DType dtype = types[i].dtype;
      if (!types[i].is_tensor()) {
        add(types[i].element->dtype, [&](ValueId before) {
          item = body.op("Concat", {length(before), length(kept[i])}, attributes({{"axis", int64_t{0}}}));
          return with_items(body, before, kept[i], body.constant(Tensor::scalar<int64_t>(0)),
                            body.op("SequenceLength", {kept[i]}), types[i].element->dtype);
        });
        dtype = DType::Int64;
      }
      add(dtype, [&](ValueId before) { return body.op("SequenceInsert", {before, item}); });
    }
  }
};

void loop(Differentiate& d) {
  const size_t states = d.node().inputs.size() < 2 ? 0 : d.node().inputs.size() - 2;
  const GraphPtr typed = with_state_shapes(d, d.node().attributes.at<GraphPtr>("body"), states);
  const Graph& body = *typed;
  const size_t scans = body.outputs().size() - states - 1;
  BodyQuestion question;
  question.captures = needed_captures(d);
  question.saves_sequence_inputs = true;
  for (size_t i = 0; i < scans; ++i)
    if (d.cotangent(states + i) != kNone) question.outputs.push_back(1 + states + i);
  const std::vector<size_t> active = active_states(d, body, states, 2, 1, question, 2);
  std::vector<size_t> state_outputs;
  for (const size_t i : active) {
    state_outputs.push_back(1 + i);
    question.inputs.push_back(2 + i);
  }
  question.outputs.insert(question.outputs.begin(), state_outputs.begin(), state_outputs.end());
  BodyGradient parts = differentiate_body(d, body, question);

  // Forward: the number of turns and what is saved are states.
  GraphBuilder forward(*parts.forward);
  BodyPorts forward_ports(forward, parts.forward->captures());
  for (const ValueId id : parts.forward->inputs()) forward_ports.input(id);
  std::vector<ValueId> made = parts.forward->outputs();
  const std::vector<ValueId> kept(made.end() - static_cast<std::ptrdiff_t>(parts.restored.size()),
                                  made.end());
  made.resize(made.size() - kept.size());
  forward_ports.new_input("turns", Type::tensor(DType::Int64, {}));
  const ValueId next_turn = int_op(forward, "Add", parts.forward->inputs()[0], 1);
  const SavedStates saved(forward, forward_ports, kept, parts.saved);
  const auto behind = [&] { return made.begin() + 1 + static_cast<std::ptrdiff_t>(states); };
  made.insert(behind(), saved.updates.begin(), saved.updates.end());
  made.insert(behind(), next_turn);
  const GraphPtr forward_body = forward_ports.finish(std::move(made));
  d.forward().attributes.set("body", forward_body);
  d.forward().outputs.resize(states + scans, kNone);
  d.forward().inputs.resize(2 + states, kNone);
  const auto add_state = [&](ValueId initial, size_t i, const Type& type) {
    d.forward().inputs.push_back(initial);
    return widen(d, states + i, type);
  };
  const ValueId all_turns = add_state(d.scalar(DType::Int64, 0), 0, Type::tensor(DType::Int64, {}));
  std::vector<ValueId> finals;
  for (const DType dtype : saved.dtypes) {
    const ValueId none = d.op("SequenceEmpty", {}, attributes({{"dtype", static_cast<int64_t>(dtype)}}));
    finals.push_back(add_state(none, 1 + finals.size(), Type::sequence(Type::tensor(dtype))));
  }

  // Backward: turn k goes through turn turns - 1 - k.
  Node node;
  node.op = "Loop";
  node.inputs = {all_turns, kNone};
  GraphBuilder& back = parts.backward;
  BodyPorts ports(back, parts.captures);
  std::vector<ValueId> outer = d.node().captures;
  const auto captured = [&](ValueId outside, const Type& type) {
    outer.push_back(outside);
    return ports.new_capture("saved", type, outer.size() - 1);
  };
  const ValueId k = ports.new_input("k", Type::tensor(DType::Int64, {}));
  const ValueId go_on = ports.new_input("go_on", Type::tensor(DType::Bool, {}));
  const ValueId turns = captured(all_turns, Type::tensor(DType::Int64, {}));
  const ValueId turn = int_op(back, "Sub", back.op("Sub", {turns, k}), 1);
  const auto made_by = [&](ValueId id, const char* op, std::vector<ValueId> from) {
    back.info(id).kind = ValueKind::Transient;
    Node reader;
    reader.op = op;
    reader.inputs = std::move(from);
    reader.outputs = {id};
    back.add(std::move(reader));
  };
  std::vector<ValueId> outputs = {go_on};
  for (size_t i = 0; i < active.size(); ++i) {
    ports.input(parts.cotangents[i]);
    node.inputs.push_back(last_cotangent(d, active[i], 2 + active[i]));
    outputs.push_back(parts.of_inputs[i]);
  }
  const Sums sums = sum_captures(d, parts, ports, question.captures);
  node.inputs.insert(node.inputs.end(), sums.initial.begin(), sums.initial.end());
  outputs.insert(outputs.end(), sums.next.begin(), sums.next.end());
  for (size_t i = active.size(); i < question.outputs.size(); ++i) {
    const ValueId stacked = d.cotangent(question.outputs[i] - 1);
    made_by(parts.cotangents[i], "Gather",
            {captured(stacked, Type::tensor(parts.backward.info(parts.cotangents[i]).type.dtype)), turn});
  }
  for (size_t i = 0; i < parts.restored.size(); ++i) {
    const auto state = [&](size_t k) {
      return captured(finals[saved.places[i] + k],
                      Type::sequence(Type::tensor(saved.dtypes[saved.places[i] + k])));
    };
    if (parts.saved[i].is_tensor()) {
      made_by(parts.restored[i], "SequenceAt", {state(0), turn});
      continue;
    }
    const DType dtype = saved.dtypes[saved.places[i]];
    const ValueId range = back.op("SequenceAt", {state(1), turn});
    const auto element = [&](int64_t k) {
      return back.op("Gather", {range, back.constant(Tensor::scalar<int64_t>(k))});
    };
    const ValueId none = back.op("SequenceEmpty", {}, attributes({{"dtype", static_cast<int64_t>(dtype)}}));
    made_by(parts.restored[i], "Identity", {with_items(back, none, state(0), element(0), element(1), dtype)});
  }
  for (size_t i = 1; i < outputs.size(); ++i) node.outputs.push_back(d.builder().value("Loop"));
  const std::vector<ValueId> results = node.outputs;
  add_node(d, std::move(node), outer, ports.finish(std::move(outputs)));
  size_t next = 0;
  for (const size_t i : active) d.give(2 + i, results[next++]);
  for (const size_t i : sums.captures) d.give_capture(i, results[next++]);
}

// The sum of the items of a sequence, each of which may be a scalar zero, in the shape of x.
ValueId sum_items(Differentiate& d, ValueId items, ValueId x, const Type& type) {
  GraphBuilder b("wide");
  BodyPorts ports(b, {});
  const ValueId item = ports.new_input("item", Type::tensor(type.dtype));
  const ValueId like = ports.new_input("like", type);
  const ValueId wide = b.op("Expand", {item, b.op("Shape", {like})});
  const ValueId each = d.op("SequenceMap", {items, x}, attributes({{"body", ports.finish({wide})}}));
  const ValueId some = d.op("SequenceInsert", {each, zero_cotangent(d.builder(), x, type)});
  const ValueId all =
      d.op("ConcatFromSequence", {some}, attributes({{"axis", int64_t{0}}, {"new_axis", int64_t{1}}}));
  return d.reduce_sum(all, {0}, false);
}

void sequence_map(Differentiate& d) {
  const GraphPtr whole = d.node().attributes.at<GraphPtr>("body");
  const Graph& body = *whole;
  BodyQuestion question;
  question.captures = needed_captures(d);
  for (size_t i = 0; i < body.inputs().size(); ++i) {
    question.fed.push_back(i);
    if (d.needs(i)) question.inputs.push_back(i);
  }
  for (size_t i = 0; i < d.node().outputs.size(); ++i)
    if (d.cotangent(i) != kNone) question.outputs.push_back(i);
  question.capture_zeros = true;
  BodyGradient parts = differentiate_body(d, body, question);
  d.forward().attributes.set("body", parts.forward);
  std::vector<ValueId> operands;
  GraphBuilder& back = parts.backward;
  BodyPorts ports(back, parts.captures);
  for (size_t i = 0; i < question.outputs.size(); ++i) {
    // An item may be a scalar zero: only the item of the output says how wide it is.
    const size_t o = question.outputs[i];
    const Type type = back.info(parts.cotangents[i]).type;
    back.info(parts.cotangents[i]).kind = ValueKind::Transient;
    Node wide;
    wide.op = "Expand";
    wide.inputs = {ports.new_input("d", Type::tensor(type.dtype)),
                   back.op("Shape", {ports.new_input("y", Type::tensor(type.dtype))})};
    wide.outputs = {parts.cotangents[i]};
    back.add(std::move(wide));
    operands.insert(operands.end(), {d.cotangent(o), d.out(o)});
  }
  for (size_t i = 0; i < parts.restored.size(); ++i) {
    ports.input(parts.restored[i]);
    operands.push_back(
        widen(d, d.forward().outputs.size(), Type::sequence(Type::tensor(parts.saved[i].dtype))));
  }
  for (size_t i = 0; i < question.fed.size(); ++i)
    if (parts.fed[i] != kNone) {
      ports.input(parts.fed[i]);
      operands.push_back(d.in(i));
    }
  std::vector<ValueId> outputs = parts.of_inputs;
  outputs.insert(outputs.end(), parts.of_captures.begin(), parts.of_captures.end());
  Node node;
  node.op = "SequenceMap";
  node.inputs = std::move(operands);
  for (size_t i = 0; i < outputs.size(); ++i) node.outputs.push_back(d.builder().value("SequenceMap"));
  const std::vector<ValueId> results = node.outputs;
  add_node(d, std::move(node), d.node().captures, ports.finish(std::move(outputs)));
  for (size_t i = 0; i < question.inputs.size(); ++i) {
    const size_t input = question.inputs[i];
    const Type type = d.type(input);
    const bool items = type.kind == Type::Kind::Sequence;
    d.give(input, items ? results[i] : sum_items(d, results[i], d.in(input), type));
  }
  for (size_t i = 0; i < question.captures.size(); ++i) {
    const ValueId x = d.node().captures[question.captures[i]];
    const Type type = d.builder().graph().value(x).type;
    if (!type.is_tensor())
      throw UnsupportedError("the gradient of SequenceMap", "captures that are tensors", type.to_string());
    d.give_capture(question.captures[i], sum_items(d, results[question.inputs.size() + i], x, type));
  }
}

}  // namespace

void register_control_flow_gradient(OperatorRegistry& r) {
  r.op("SequenceMap").differentiates(sequence_map);
  r.op("If").differentiates(if_gradient);
  r.op("Scan").differentiates(scan);
  r.op("Loop").differentiates(loop);
}

}  // namespace sardonyx
