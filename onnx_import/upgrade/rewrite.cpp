#include <unordered_map>

#include "onnx_import/upgrade/rules.h"
#include "ops/registry/schema.h"

namespace sardonyx::upgrade {

Rewrite::Rewrite(Patch& patch, NodeId id)
    : node(patch.before().node(id)), builder_(patch.builder()), id_(id) {
  for (const ValueId output : node.outputs)
    if (output != kNone) {
      label_ = patch.before().value(output).name;
      break;
    }
}

ValueId Rewrite::in(size_t i) const {
  if (!has(i)) throw ModelError("input " + std::to_string(i), "a value", "none");
  return node.inputs[i];
}

const Tensor* Rewrite::constant(ValueId id) const {
  if (!builder_.graph().is_constant(id)) return nullptr;
  const Value& value = builder_.graph().value(id).constant;
  return value.is_tensor() ? &value.tensor() : nullptr;
}

void Rewrite::set_input(size_t i, ValueId id) {
  if (node.inputs.size() <= i) node.inputs.resize(i + 1, kNone);
  node.inputs[i] = id;
}

ValueId Rewrite::op(const std::string& op, std::vector<ValueId> inputs, Attributes attributes) {
  const ValueId made = builder_.value(label_ + "_" + op);
  finish(made, op, std::move(inputs), std::move(attributes));
  return made;
}

void Rewrite::finish(ValueId made, const std::string& op, std::vector<ValueId> inputs,
                     Attributes attributes) {
  Node added;
  added.op = op;
  added.version = canonical_opset("");
  added.name = node.name;
  added.inputs = std::move(inputs);
  added.outputs = {made};
  added.attributes = std::move(attributes);
  builder_.add(std::move(added));
}

ValueId Rewrite::constant(Tensor tensor) {
  return builder_.constant(std::move(tensor), label_ + "_constant");
}

ValueId Rewrite::scalar_like(double value, ValueId like) {
  const DType wanted = dtype(like);
  if (wanted == DType::Float64) return constant(Tensor::scalar<double>(value));
  if (wanted == DType::Float16) return constant(Tensor::scalar<Half>(Half(value)));
  const ValueId single = constant(Tensor::scalar<float>(static_cast<float>(value)));
  return wanted == DType::Float32 ? single : cast_like(single, like);
}

ValueId Rewrite::cast(ValueId value, DType to) {
  return op("Cast", {value}, attributes({{"to", static_cast<int64_t>(to)}}));
}

ValueId Rewrite::cast_like(ValueId value, ValueId like) {
  const DType wanted = dtype(like);
  return wanted == DType::Undefined ? op("CastLike", {value, like}) : cast(value, wanted);
}

ValueId Rewrite::ones(ValueId count) {
  return op("ConstantOfShape", {count}, attributes({{"value", Value(Tensor::of<int64_t>({1}))}}));
}

ValueId Rewrite::reshape(ValueId id, ValueId dims) {
  return op("Reshape", {id, dims}, attributes({{"allowzero", int64_t{1}}}));
}

std::pair<ValueId, ValueId> Rewrite::detach(size_t i, Type type) {
  const ValueId old_value = node.outputs[i];
  node.outputs[i] = builder_.value(label_ + "_" + node.op, std::move(type));
  return {node.outputs[i], old_value};
}

void Rewrite::become(const std::string& op, std::vector<ValueId> inputs, Attributes attributes) {
  node.domain.clear();
  node.op = op;
  node.inputs = std::move(inputs);
  node.captures.clear();
  node.attributes = std::move(attributes);
  done_ = true;
}

void Rewrite::commit() { builder_.node(id_) = std::move(node); }

const std::vector<Step>& steps() {
  static const std::vector<Step> all = [] {
    std::vector<Step> list;
    for (const auto family :
         {elementwise_steps, matmul_steps, reduction_steps, softmax_steps, normalization_steps, pooling_steps,
          resize_steps, movement_steps, recurrent_steps, control_flow_steps, quantization_steps, signal_steps,
          ml_steps, unchanged_steps})
      for (Step& step : family()) list.push_back(std::move(step));
    return list;
  }();
  return all;
}

const Step* find_step(const std::string& domain, const std::string& op, int version) {
  const auto key = [](const std::string& d, const std::string& o, int v) {
    return d + ':' + o + ':' + std::to_string(v);
  };
  static const std::unordered_map<std::string, const Step*> index = [&] {
    std::unordered_map<std::string, const Step*> map;
    for (const Step& step : steps()) map.emplace(key(step.domain, step.op, step.version), &step);
    return map;
  }();
  const auto found = index.find(key(domain, op, version));
  return found == index.end() ? nullptr : found->second;
}

}  // namespace sardonyx::upgrade
