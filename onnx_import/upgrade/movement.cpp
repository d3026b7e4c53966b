#include <numeric>

#include "onnx_import/upgrade/rules.h"

namespace sardonyx::upgrade {

namespace {

using Ints = std::vector<int64_t>;

void concat_4(Rewrite& r) {
  if (!r.node.attributes.has("axis")) r.node.attributes.set("axis", int64_t{1});
}

void reshape_5(Rewrite& r) {
  drop_consumed_inputs(r);
  r.set_input(1, r.ints(r.take<Ints>("shape", {})));
}

// Without axes the first dimensions are meant.
void slice_10(Rewrite& r) {
  Ints starts = r.take<Ints>("starts", {}), ends = r.take<Ints>("ends", {}), axes = r.take<Ints>("axes", {});
  if (axes.empty()) {
    axes.resize(starts.size());
    std::iota(axes.begin(), axes.end(), int64_t{0});
  }
  r.set_input(1, r.ints(std::move(starts)));
  r.set_input(2, r.ints(std::move(ends)));
  r.set_input(3, r.ints(std::move(axes)));
}

// Opset 1 could have sizes as an input, of the type of the data; opset 13 has it again, of int64.
void split_2(Rewrite& r) {
  if (r.has(1)) r.set_input(1, r.cast(r.in(1), DType::Int64));
}

void split_13(Rewrite& r) {
  Ints sizes = r.take<Ints>("split", {});
  if (!sizes.empty() && !r.has(1)) r.set_input(1, r.ints(std::move(sizes)));
}

void split_18(Rewrite& r) {
  if (!r.has(1)) r.node.attributes.set("num_outputs", static_cast<int64_t>(r.node.outputs.size()));
}

void squeeze_13(Rewrite& r) {
  Ints axes = r.take<Ints>("axes", {});
  if (!axes.empty()) r.set_input(1, r.ints(std::move(axes)));
}

void unsqueeze_13(Rewrite& r) { r.set_input(1, r.ints(r.take<Ints>("axes", {}))); }

// One axis is repeated; its number and the count are inputs of the type of the data.
void tile_6(Rewrite& r) {
  const ValueId one = r.ints({1});
  const ValueId count = r.reshape(r.cast(r.in(1), DType::Int64), one);
  const ValueId axis = r.reshape(r.cast(r.in(2), DType::Int64), one);
  const ValueId once = r.ones(r.rank_of(r.in(0)));
  r.node.inputs = {r.in(0), r.op("ScatterElements", {once, axis, count}, attributes({{"axis", int64_t{0}}}))};
}

void pad_2(Rewrite& r) { r.node.attributes.set("pads", r.take<Ints>("paddings", {})); }

void pad_11(Rewrite& r) {
  r.set_input(1, r.ints(r.take<Ints>("pads", {})));
  if (r.node.attributes.has("value")) r.set_input(2, r.scalar_like(r.take<float>("value", 0), r.in(0)));
}

void top_k_10(Rewrite& r) {
  const int64_t k = r.node.attributes.at<int64_t>("k");
  r.node.attributes.erase("k");
  r.set_input(1, r.ints({k}));
}

// A negative index meant no class at all; later it counts from the end.
void one_hot_11(Rewrite& r) {
  const DType dtype = r.dtype(r.in(0));
  if (is_integer(dtype) && !is_signed_integer(dtype)) return;
  const ValueId indices = r.cast(r.in(0), DType::Int64);
  const ValueId depth = r.reshape(r.cast(r.in(1), DType::Int64), r.ints({}));
  const ValueId negative = r.op("Less", {indices, r.constant(Tensor::scalar<int64_t>(0))});
  r.set_input(0, r.op("Where", {negative, depth, indices}));
}

void scatter_11(Rewrite& r) { r.node.op = "ScatterElements"; }

}  // namespace

std::vector<Step> movement_steps() {
  return {{"Concat", 4, concat_4, ""},     {"Reshape", 5, reshape_5, ""},
          {"Slice", 10, slice_10, ""},     {"Split", 2, split_2, ""},
          {"Split", 13, split_13, ""},     {"Split", 18, split_18, ""},
          {"Squeeze", 13, squeeze_13, ""}, {"Unsqueeze", 13, unsqueeze_13, ""},
          {"Tile", 6, tile_6, ""},         {"Pad", 2, pad_2, ""},
          {"Pad", 11, pad_11, ""},         {"TopK", 10, top_k_10, ""},
          {"OneHot", 11, one_hot_11, ""},  {"Scatter", 11, scatter_11, ""}};
}

}  // namespace sardonyx::upgrade
