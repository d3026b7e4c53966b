#include "training/step.h"

#include <algorithm>
#include <limits>

#include "autodiff/backward.h"
#include "graph/builder.h"
#include "ops/registry/schema.h"
#include "training/recompute.h"

namespace sardonyx {

namespace {

// Inputs and outputs of the step that is being written.
class StepWriter {
 public:
  StepWriter(const Graph& graph, StepRequest& request) : builder_(graph), request_(request) {}

  GraphPtr write() {
    const Graph& graph = builder_.graph();
    loss_ = output_named(graph, request_.loss_name);
    std::vector<std::string> names;
    for (const auto& group : request_.groups)
      names.insert(names.end(), group.parameters.begin(), group.parameters.end());
    std::vector<ValueId> ids;
    for (const std::string& name : names) ids.push_back(graph.find(name));
    outputs_ = graph.outputs();
    const size_t forward = graph.nodes().size();
    const std::vector<ValueId> gradients = append_loss_gradient(builder_, loss_, ids);
    recompute(builder_, forward, request_.cuts);
    for (size_t i = 0; i < names.size(); ++i)
      if (gradients[i] != kNone) gradients_.emplace_back(names[i], gradients[i]);
    if (gradients_.empty())
      throw InputError("trainable", "parameters that the loss depends on",
                       "none of " + std::to_string(names.size()));
    accumulate_and_clip();
    for (size_t g = 0; g < request_.groups.size(); ++g) {
      auto& parameters = request_.groups[g].parameters;
      std::erase_if(parameters, [&](const std::string& name) { return gradient(name) == kNone; });
      if (request_.updates) update(g, request_.groups[g]);
    }
    builder_.set_outputs(outputs_);
    return std::move(builder_).build_pruned();
  }

 private:
  ValueId gradient(const std::string& name) const {
    for (const auto& [known, id] : gradients_)
      if (known == name) return id;
    return kNone;
  }
  Type type_of_parameter(const std::string& name) {
    return builder_.graph().value(builder_.graph().find(name)).type;
  }
  ValueId number(double value) { return builder_.constant(Tensor::scalar(value)); }
  ValueId as_double(ValueId id) {
    return builder_.op("Cast", {id}, attributes({{"to", static_cast<int64_t>(DType::Float64)}}));
  }
  // An output that a caller may write over the input.
  void output_over(ValueId input, ValueId output) {
    outputs_.push_back(output);
    builder_.update(input, output);
  }
  ValueId own(const std::string& op, std::vector<ValueId> inputs, const std::string& output) {
    Node node;
    node.domain = kOwnDomain;
    node.op = op;
    node.inputs = std::move(inputs);
    node.outputs = {builder_.value(output)};
    const ValueId result = node.outputs[0];
    builder_.add(std::move(node));
    return result;
  }

  void accumulate_and_clip() {
    double share = 1;
    if (request_.accumulate > 1) {
      share = 1.0 / request_.accumulate;
      for (auto& [name, id] : gradients_) {
        const std::string accumulated = StepNames::accumulated(name);
        const ValueId sum = builder_.input(accumulated, type_of_parameter(name));
        const ValueId next = own("Accumulate", {sum, id}, StepNames::next(accumulated));
        if (request_.updates)
          id = next;
        else
          output_over(sum, next);
      }
    }
    if (request_.updates) {
      if (request_.clip_value > 0) clip_values(share);
      make_scale(share);
    }
    if (request_.keep_gradients)
      for (auto& [name, id] : gradients_) {
        id = named_value(builder_, id, StepNames::gradient(name));
        outputs_.push_back(id);
      }
  }

  void clip_values(double share) {
    for (auto& [name, id] : gradients_) {
      const DType dtype = type_of_parameter(name).dtype;
      const auto bound = [&](double value) {
        return builder_.op("Cast", {number(value / share)},
                           attributes({{"to", static_cast<int64_t>(dtype)}}));
      };
      id = builder_.op("Clip", {id, bound(-request_.clip_value), bound(request_.clip_value)});
    }
  }

  // What each gradient is multiplied with; NaN unless the loss and the norm of all gradients are finite.
  void make_scale(double share) {
    std::vector<ValueId> squares;
    for (const auto& [name, id] : gradients_)
      squares.push_back(
          as_double(builder_.op("ReduceSumSquare", {id}, attributes({{"keepdims", int64_t{0}}}))));
    const ValueId square = squares.size() == 1 ? squares[0] : builder_.op("Sum", squares);
    const ValueId norm = builder_.op("Mul", {builder_.op("Sqrt", {square}), number(share)});
    ValueId scale = number(share);
    if (request_.clip_norm > 0) {
      const ValueId ratio =
          builder_.op("Div", {number(request_.clip_norm), builder_.op("Add", {norm, number(1e-6)})});
      scale = builder_.op("Mul", {scale, builder_.op("Min", {ratio, number(1)})});
    }
    // Infinity less itself is NaN.
    const ValueId all = builder_.op("Add", {as_double(loss_), norm});
    const ValueId finite = builder_.op("Equal", {builder_.op("Sub", {all, all}), number(0)});
    const ValueId guarded =
        builder_.op("Where", {finite, scale, number(std::numeric_limits<double>::quiet_NaN())});
    scale_ = named_value(builder_, guarded, kScaleOutput);
    outputs_.push_back(scale_);
  }

  void update(size_t group, const StepRequest::Group& g) {
    if (g.parameters.empty()) return;
    const auto numbers = static_cast<int64_t>(g.rule.hyper.size());
    const ValueId hyper =
        builder_.input(StepNames::hyper(group), Type::tensor(DType::Float64, {Dim(numbers)}));
    for (const std::string& name : g.parameters) {
      const ValueId parameter = builder_.graph().find(name);
      Node node;
      node.domain = kOwnDomain;
      node.op = g.rule.op;
      node.name = "update of " + name;
      node.attributes = g.rule.attributes;
      node.inputs = {parameter, gradient(name), hyper, scale_};
      node.outputs = {builder_.value(StepNames::next(name))};
      output_over(parameter, node.outputs[0]);
      for (const std::string& state : g.rule.states) {
        const std::string input = StepNames::state(state, name);
        node.inputs.push_back(builder_.input(input, type_of_parameter(name)));
        node.outputs.push_back(builder_.value(StepNames::next(input)));
        output_over(node.inputs.back(), node.outputs.back());
      }
      builder_.add(std::move(node));
    }
  }

  GraphBuilder builder_;
  StepRequest& request_;
  ValueId loss_ = kNone, scale_ = kNone;
  std::vector<ValueId> outputs_;
  std::vector<std::pair<std::string, ValueId>> gradients_;  // of the parameters that have one
};

}  // namespace

GraphPtr append_step(const GraphPtr& graph, StepRequest& request) {
  return StepWriter(*graph, request).write();
}

std::vector<std::string> cuts_within(const GraphPtr& graph, const StepRequest& request, double bytes,
                                     Evaluator* evaluator) {
  constexpr int kMost = 32;
  double least = std::numeric_limits<double>::infinity();
  std::vector<std::string> tried;
  for (int pieces = 1; pieces <= kMost; ++pieces) {
    StepRequest trial = request;
    trial.cuts = cut_points(*graph, pieces);
    if (pieces > 1 && trial.cuts == tried) continue;
    tried = trial.cuts;
    const double live = live_bytes(*infer_types(append_step(graph, trial), evaluator));
    if (live <= bytes) return trial.cuts;
    least = std::min(least, live);
  }
  throw InputError("recompute", "at least " + std::to_string(static_cast<int64_t>(least)) + " bytes",
                   std::to_string(static_cast<int64_t>(bytes)));
}

}  // namespace sardonyx
