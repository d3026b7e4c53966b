#include <algorithm>
#include <cctype>

#include "onnx_import/upgrade/rules.h"

namespace sardonyx::upgrade {

void drop_consumed_inputs(Rewrite& r) { r.node.attributes.erase("consumed_inputs"); }

void in_float64(Rewrite& r) {
  const ValueId x = r.in(0);
  const DType dtype = r.dtype(x);
  if (!is_integer(dtype) || !r.wants(0)) return;
  r.set_input(0, r.cast(x, DType::Float64));
  const auto [result, output] = r.detach(0);
  r.finish(output, "Cast", {result}, attributes({{"to", static_cast<int64_t>(dtype)}}));
}

namespace {

// `b` with dimensions of one appended, so that numpy's broadcast puts its first dimension under dimension
// `axis` of `a`.
ValueId align(Rewrite& r, ValueId a, ValueId b, int64_t axis) {
  const Type type_a = r.type(a), type_b = r.type(b);
  if (type_a.shape && type_b.shape) {
    const Shape& dims_b = *type_b.shape;
    if (std::all_of(dims_b.begin(), dims_b.end(), [](const Dim& dim) { return dim.value == 1; })) return b;
    const int64_t rank_a = type_a.rank(), rank_b = type_b.rank();
    const int64_t first = axis < 0 ? axis + rank_a : axis;
    if (first < 0 || rank_b > rank_a || first > rank_a - rank_b)
      throw ModelError("attribute 'axis'",
                       "where " + to_string(dims_b) + " fits into " + to_string(*type_a.shape),
                       std::to_string(axis));
    std::vector<int64_t> axes;
    for (int64_t i = rank_b; i < rank_a - first; ++i) axes.push_back(i);
    return axes.empty() ? b : r.op("Unsqueeze", {b, r.ints(std::move(axes))});
  }
  const ValueId rank_a = r.rank_of(a);
  const ValueId after_axis = axis < 0 ? r.ints({-axis}) : r.op("Sub", {rank_a, r.ints({axis})});
  const ValueId missing = r.op("Sub", {after_axis, r.rank_of(b)});
  const ValueId ones = r.ones(r.op("Max", {missing, r.ints({0})}));
  return r.reshape(b, r.op("Concat", {r.shape(b), ones}, attributes({{"axis", int64_t{0}}})));
}

// Until opset 6 the second operand is broadcast into the first, at `axis`; without it the last dimensions
// are matched, as numpy does. Caffe2 writes that as axis -1, which for one dimension is the same.
void numpy_broadcast(Rewrite& r) {
  const bool broadcast = r.take<int64_t>("broadcast", 0) != 0;
  const int64_t axis = r.take<int64_t>("axis", -1);
  if (broadcast && axis != -1) r.set_input(1, align(r, r.in(0), r.in(1), axis));
}

// A slope of one dimension belongs to the channels, dimension 1.
void prelu_7(Rewrite& r) {
  const ValueId x = r.in(0), slope = r.in(1);
  const int rank_x = r.rank(x), rank_slope = r.rank(slope);
  if (rank_slope > 1 || (rank_slope >= 0 && rank_x >= 0 && rank_x <= rank_slope + 1)) return;
  r.set_input(1, align(r, x, slope, 1));
}

// The type is a name of TensorProto.DataType: "FLOAT".
void cast_6(Rewrite& r) {
  const std::string written = r.node.attributes.at<std::string>("to");
  std::string name = written;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  const DType dtype = dtype_from_name(name);
  if (dtype == DType::Undefined)
    throw ModelError("attribute 'to'", "the name of a type", "'" + written + "'");
  r.node.attributes.set("to", static_cast<int64_t>(dtype));
}

void clip_11(Rewrite& r) {
  const char* const names[] = {"min", "max"};
  for (size_t i = 0; i < 2; ++i)
    if (r.node.attributes.has(names[i]))
      r.set_input(i + 1, r.scalar_like(r.take<float>(names[i], 0), r.in(0)));
}

// The defaults had five digits.
void selu_6(Rewrite& r) {
  drop_consumed_inputs(r);
  if (!r.node.attributes.has("alpha")) r.node.attributes.set("alpha", 1.6732f);
  if (!r.node.attributes.has("gamma")) r.node.attributes.set("gamma", 1.0507f);
}

}  // namespace

std::vector<Step> elementwise_steps() {
  std::vector<Step> steps;
  for (const char* op : {"Abs",         "Add",        "Ceil", "Clip",    "Div",  "Elu", "Exp", "Floor",
                         "HardSigmoid", "LeakyRelu",  "Log",  "Max",     "Mean", "Min", "Mul", "Neg",
                         "PRelu",       "Reciprocal", "Relu", "Sigmoid", "Sqrt", "Sub", "Sum", "Tanh"})
    steps.push_back({op, 6, drop_consumed_inputs, ""});
  for (const char* op : {"Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less"})
    steps.push_back({op, 7, numpy_broadcast, ""});
  steps.push_back({"Cast", 6, cast_6, ""});
  steps.push_back({"Clip", 11, clip_11, ""});
  steps.push_back({"Erf", 13, in_float64, ""});
  steps.push_back({"PRelu", 7, prelu_7, ""});
  steps.push_back({"Selu", 6, selu_6, ""});
  return steps;
}

}  // namespace sardonyx::upgrade
