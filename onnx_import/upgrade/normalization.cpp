#include "onnx_import/upgrade/rules.h"

namespace sardonyx::upgrade {

namespace {

const Attributes& keep_zeros() {
  static const Attributes allow_zero = attributes({{"allowzero", int64_t{1}}});
  return allow_zero;
}

// Until opset 6 the mode is an attribute; later it is read from the number of outputs, and from opset 14
// on it is the attribute training_mode, which is what a training node gets here at once.
void batch_normalization_7(Rewrite& r) {
  if (r.take<int64_t>("is_test", 0) == 0) {
    r.node.attributes.set("training_mode", int64_t{1});
    return;
  }
  // The statistics of a test are those it was given.
  for (size_t i = 1; i < r.node.outputs.size(); ++i)
    if (r.wants(i)) r.finish(r.node.outputs[i], "Identity", {r.in(i % 2 == 1 ? 3 : 4)});
  r.node.outputs.resize(1);
}

// spatial = 0: every element of an image is a channel of its own.
void batch_normalization_9(Rewrite& r) {
  if (r.take<int64_t>("spatial", 1) != 0) return;
  const ValueId x = r.in(0), mean = r.in(3);
  r.set_input(0, r.op("Flatten", {x}, attributes({{"axis", int64_t{1}}})));
  for (size_t i = 1; i < 5; ++i) r.set_input(i, r.op("Reshape", {r.in(i), r.ints({-1})}));
  for (size_t i = 0; i < r.node.outputs.size(); ++i) {
    if (!r.wants(i)) continue;
    const auto [flat, output] = r.detach(i);
    r.finish(output, "Reshape", {flat, r.shape(i == 0 ? x : mean)}, keep_zeros());
  }
}

// The statistics of the batch itself, [C], which later versions do not give out.
void saved_statistics(Rewrite& r) {
  const ValueId x = r.in(0), flat = r.ints({-1});
  const Attributes keep = attributes({{"keepdims", int64_t{1}}});
  const ValueId last = r.reshape(r.rank_of(x), r.ints({}));
  const ValueId spatial =
      r.op("Range", {r.constant(Tensor::scalar<int64_t>(2)), last, r.constant(Tensor::scalar<int64_t>(1))});
  const ValueId axes = r.op("Concat", {r.ints({0}), spatial}, attributes({{"axis", int64_t{0}}}));
  const ValueId mean = r.op("ReduceMean", {x, axes}, keep);
  if (r.wants(3)) r.finish(r.node.outputs[3], "Reshape", {mean, flat});
  if (r.wants(4)) {
    const ValueId centred = r.op("Sub", {x, mean});
    const ValueId variance = r.op("ReduceMean", {r.op("Mul", {centred, centred}), axes}, keep);
    r.finish(r.node.outputs[4], "Reshape", {variance, flat});
  }
}

void batch_normalization_14(Rewrite& r) {
  bool training = r.node.attributes.has("training_mode");
  for (size_t i = 1; i < r.node.outputs.size(); ++i) training = training || r.wants(i);
  if (!training) return;
  r.node.attributes.set("training_mode", int64_t{1});
  if (r.wants(3) || r.wants(4)) saved_statistics(r);
  r.node.outputs.resize(3, kNone);
}

// As for BatchNormalization; training_mode becomes an input at opset 12.
void dropout_7(Rewrite& r) {
  if (r.take<int64_t>("is_test", 0) == 0) r.node.attributes.set("training_mode", int64_t{1});
}

// The mask had the type of the data.
void dropout_10(Rewrite& r) {
  if (!r.wants(1)) return;
  const DType dtype = r.dtype(r.in(0));
  const auto [mask, output] = r.detach(1, Type::tensor(DType::Bool));
  if (dtype == DType::Undefined)
    r.finish(output, "CastLike", {mask, r.in(0)});
  else
    r.finish(output, "Cast", {mask}, attributes({{"to", static_cast<int64_t>(dtype)}}));
}

void dropout_12(Rewrite& r) {
  if (r.node.attributes.has("ratio"))
    r.set_input(1, r.constant(Tensor::scalar(r.take<float>("ratio", 0.5f))));
  if (r.take<int64_t>("training_mode", 0) != 0) r.set_input(2, r.constant(Tensor::scalar(true)));
}

// scale and bias were given for groups, not channels; float64 was not rounded to float32 on the way.
void group_normalization_21(Rewrite& r) {
  const int64_t groups = r.node.attributes.at<int64_t>("num_groups");
  if (groups <= 0) throw ModelError("attribute 'num_groups'", "a positive number", std::to_string(groups));
  const ValueId channels = r.op("Shape", {r.in(0)}, attributes({{"start", int64_t{1}}, {"end", int64_t{2}}}));
  const ValueId count = r.ints({groups});
  const ValueId table =
      r.op("Concat", {count, r.op("Div", {channels, count})}, attributes({{"axis", int64_t{0}}}));
  for (size_t i = 1; i < 3; ++i) {
    const ValueId column = r.op("Unsqueeze", {r.in(i), r.ints({1})});
    r.set_input(i, r.op("Reshape", {r.op("Expand", {column, table}), r.ints({-1})}));
  }
  if (r.dtype(r.in(0)) == DType::Float64)
    r.node.attributes.set("stash_type", static_cast<int64_t>(DType::Float64));
}

}  // namespace

std::vector<Step> normalization_steps() {
  return {{"BatchNormalization", 6, drop_consumed_inputs, ""},
          {"BatchNormalization", 7, batch_normalization_7, ""},
          {"BatchNormalization", 9, batch_normalization_9, ""},
          {"BatchNormalization", 14, batch_normalization_14, ""},
          {"Dropout", 6, drop_consumed_inputs, ""},
          {"Dropout", 7, dropout_7, ""},
          {"Dropout", 10, dropout_10, ""},
          {"Dropout", 12, dropout_12, ""},
          {"GroupNormalization", 21, group_normalization_21, ""},
          {"InstanceNormalization", 6, drop_consumed_inputs, ""}};
}

}  // namespace sardonyx::upgrade
