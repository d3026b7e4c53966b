#include <algorithm>

#include "onnx_import/upgrade/rules.h"
#include "ops/registry/schema.h"

namespace sardonyx::upgrade {

namespace {

// The type of a slice along the first dimension.
Type slice_type(Type type) {
  if (type.shape && !type.shape->empty()) type.shape->erase(type.shape->begin());
  return type;
}

// Builds the body of the scan over the batch: a scan of one example over its own length.
class ExampleBody {
 public:
  ExampleBody(Rewrite& r, size_t states) : r_(r), states_(states), body_(r.label() + "_example") {}

  GraphPtr build() {
    ValueId length = kNone;
    if (r_.has(0)) length = input(0);
    std::vector<ValueId> inputs;
    for (size_t i = 1; i < r_.node.inputs.size(); ++i) inputs.push_back(input(i));
    const ValueId longest = length == kNone ? kNone : leading_size(inputs[states_]);
    if (length != kNone)
      for (size_t i = states_; i < inputs.size(); ++i)
        inputs[i] = op("Slice", {inputs[i], ints({0}), op("Reshape", {length, ints({1})}), ints({0})});

    const std::vector<ValueId> outputs = scan(inputs);
    if (length == kNone) {
      body_.set_outputs(outputs);
    } else {
      const ValueId missing = op("Sub", {longest, leading_size(inputs[states_])});
      const ValueId pads = op("Concat", {ints({0}), missing}, attributes({{"axis", int64_t{0}}}));
      for (size_t i = 0; i < outputs.size(); ++i)
        body_.output(i < states_ ? outputs[i] : op("Pad", {outputs[i], pads, kNone, ints({0})}));
    }
    return std::move(body_).build();
  }

 private:
  std::string name(const std::string& suffix) const { return r_.label() + "_example_" + suffix; }
  ValueId input(size_t i) {
    return body_.input(name("input" + std::to_string(i)), slice_type(r_.type(r_.in(i))));
  }
  ValueId ints(std::vector<int64_t> values) { return body_.constant(Tensor::of(values), name("constant")); }
  ValueId leading_size(ValueId id) {
    return op("Shape", {id}, attributes({{"start", int64_t{0}}, {"end", int64_t{1}}}));
  }
  ValueId op(const std::string& op, std::vector<ValueId> inputs, Attributes attributes = {}) {
    Node node;
    node.op = op;
    node.version = canonical_opset("");
    node.name = r_.node.name;
    node.inputs = std::move(inputs);
    node.outputs = {body_.value(name(op))};
    node.attributes = std::move(attributes);
    body_.add(node);
    return node.outputs[0];
  }

  std::vector<ValueId> scan(std::vector<ValueId> inputs) {
    Node node;
    node.op = "Scan";
    node.version = canonical_opset("");
    node.name = r_.node.name;
    node.inputs = std::move(inputs);
    const GraphPtr& body = r_.node.attributes.at<GraphPtr>("body");
    for (size_t i = 0; i < body->outputs().size(); ++i)
      node.outputs.push_back(body_.value(name("output" + std::to_string(i))));
    for (size_t i = 0; i < r_.node.captures.size(); ++i) {
      const ValueId outer = r_.node.captures[i];
      node.captures.push_back(
          outer == kNone ? kNone : body_.capture(i, name("capture" + std::to_string(i)), r_.type(outer)));
    }
    node.attributes.set("body", body);
    node.attributes.set("num_scan_inputs", r_.node.attributes.at<int64_t>("num_scan_inputs"));
    const auto directions = r_.node.attributes.get<std::vector<int64_t>>("directions", {});
    if (!directions.empty()) node.attributes.set("scan_input_directions", directions);
    body_.add(node);
    return node.outputs;
  }

  Rewrite& r_;
  size_t states_;
  GraphBuilder body_;
};

// Opset 8 scans each example of a batch, dimension 0, over dimension 1, perhaps only its first
// sequence_lens[example] elements; what is not computed is zero. Here that is a scan over the batch, of
// whose inputs none is a state, around a scan over the sequence.
void scan_9(Rewrite& r) {
  const int64_t scanned = r.node.attributes.at<int64_t>("num_scan_inputs");
  const int64_t given = static_cast<int64_t>(r.node.inputs.size()) - 1;
  if (scanned < 1 || scanned > given)
    throw ModelError("attribute 'num_scan_inputs'", "1 to " + std::to_string(given), std::to_string(scanned));
  const size_t states = static_cast<size_t>(given - scanned);
  const size_t made = r.node.attributes.at<GraphPtr>("body")->outputs().size();
  if (states > made || r.node.outputs.size() > made)
    throw ModelError("outputs of the body",
                     "at least " + std::to_string(std::max(states, r.node.outputs.size())),
                     std::to_string(made));
  Attributes batch;
  batch.set("body", ExampleBody(r, states).build());
  std::vector<ValueId> inputs = r.node.inputs;
  if (!r.has(0)) inputs.erase(inputs.begin());
  batch.set("num_scan_inputs", static_cast<int64_t>(inputs.size()));
  std::vector<ValueId> captures = r.node.captures;
  r.become("Scan", std::move(inputs), std::move(batch));
  r.node.captures = std::move(captures);
}

}  // namespace

std::vector<Step> control_flow_steps() { return {{"Scan", 9, scan_9, ""}}; }

}  // namespace sardonyx::upgrade
