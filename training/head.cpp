#include "training/head.h"

#include <cmath>
#include <random>
#include <set>

#include "graph/builder.h"
#include "ops/convolution.h"
#include "ops/matmul.h"
#include "sardonyx/error.h"

namespace sardonyx {

namespace {

bool is_weight(const Graph& graph, ValueId id) {
  return id != kNone && graph.is_constant(id) && graph.value(id).constant.is_tensor() &&
         is_float(graph.value(id).constant.tensor().dtype());
}

// Uniform in (-bound, bound), in the dtype of the old weight.
Tensor draw(DType dtype, Dims dims, double bound, std::mt19937_64& random) {
  std::uniform_real_distribution<double> uniform(-bound, bound);
  Tensor tensor(dtype, std::move(dims));
  for (int64_t i = 0; i < tensor.size(); ++i) {
    const double v = uniform(random);
    if (dtype == DType::Float64)
      tensor.mutable_data<double>()[i] = v;
    else if (dtype == DType::Float16)
      tensor.mutable_data<Half>()[i] = Half(v);
    else if (dtype == DType::BFloat16)
      tensor.mutable_data<BFloat16>()[i] = BFloat16(v);
    else
      tensor.mutable_data<float>()[i] = static_cast<float>(v);
  }
  return tensor;
}

// The last layer of a classifier.
struct Head {
  ValueId weight = kNone, bias = kNone;
  int64_t axis = 0;  // of the weight: the classes
  int64_t inputs = 0;
  ValueId result = kNone;  // what the layer gives, bias included
};

Head layer_of(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  Head head;
  head.result = node.output(0);
  if (node.is("Add") || node.is("Identity")) {
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const NodeId producer = graph.producer(node.inputs[1 - i]);
      if (!node.is("Add") || !is_weight(graph, node.inputs[i]) || producer == kNone) continue;
      if (graph.value(node.inputs[i]).constant.tensor().rank() != 1) continue;
      Head inner = layer_of(graph, producer);
      if (inner.weight == kNone || inner.bias != kNone || graph.use_count(inner.result) != 1) continue;
      inner.bias = node.inputs[i];
      inner.result = head.result;
      return inner;
    }
    return head;
  }
  const ValueId weight = node.input(1);
  if (!is_weight(graph, weight)) return head;
  const Dims& dims = graph.value(weight).constant.tensor().dims();
  if (node.is("Gemm") && dims.size() == 2) {
    const bool transposed = parse_attributes<GemmAttributes>(node.attributes).transB != 0;
    head.axis = transposed ? 0 : 1;
  } else if (node.is("MatMul") && dims.size() == 2) {
    head.axis = 1;
  } else if (node.is("Conv") && parse_attributes<ConvAttributes>(node.attributes).group == 1 &&
             dims.size() >= 3 && element_count(dims) == dims[0] * dims[1]) {
    head.axis = 0;
  } else {
    return head;
  }
  head.weight = weight;
  head.inputs = dims[0] * dims[1] / std::max<int64_t>(dims[static_cast<size_t>(head.axis)], 1);
  if (is_weight(graph, node.input(2))) head.bias = node.input(2);
  return head;
}

}  // namespace

GraphPtr replace_head(const GraphPtr& graph, int64_t classes, uint64_t seed, const std::string& output) {
  static const std::set<std::string> goes = {"Softmax", "LogSoftmax", "Sigmoid"};
  static const std::set<std::string> stays = {"Identity",  "Flatten",   "Squeeze",
                                              "Unsqueeze", "Transpose", "Cast"};
  if (classes < 1) throw InputError("classes", "at least 1", std::to_string(classes));
  ValueId out = graph->outputs().at(0);
  if (!output.empty()) {
    out = kNone;
    for (const ValueId id : graph->outputs())
      if (graph->value(id).name == output) out = id;
    if (out == kNone) throw InputError("output", "an output of the model", "'" + output + "'");
  }
  const auto refuse = [&](const std::string& got) {
    throw InputError("head of output '" + graph->value(out).name + "'",
                     "a Gemm, MatMul or 1 x 1 Conv with constant weights, read by nothing else", got);
  };
  GraphBuilder builder(*graph);
  ValueId at = out;
  Head head;
  while (head.weight == kNone) {
    const NodeId id = graph->producer(at);
    if (id == kNone) refuse("'" + graph->value(at).name + "'");
    head = layer_of(*graph, id);
    if (head.weight != kNone) break;
    const Node& node = graph->node(id);
    if (!node.domain.empty() || (!goes.count(node.op) && !stays.count(node.op)))
      refuse(describe(*graph, node));
    if (goes.count(node.op)) {
      Node& plain = builder.node(id);
      plain.op = "Identity";
      plain.attributes = {};
      plain.inputs.resize(1);
    }
    if (at != out && graph->use_count(at) != 1) refuse("an output that several read");
    at = node.inputs[0];
  }
  if (head.result != out && graph->use_count(head.result) != 1) refuse("a layer whose result several read");
  std::mt19937_64 random(seed);
  const double bound = 1 / std::sqrt(static_cast<double>(std::max<int64_t>(head.inputs, 1)));
  const auto renew = [&](ValueId id, int64_t axis) {
    if (id == kNone) return;
    if (graph->use_count(id) != 1) refuse("weights that several nodes read");
    const Tensor& old = graph->value(id).constant.tensor();
    Dims dims = old.dims();
    dims.at(static_cast<size_t>(axis)) = classes;
    ValueInfo& info = builder.info(id);
    info.constant = draw(old.dtype(), dims, bound, random);
    info.type = Type::tensor(old.dtype(), shape_of(dims));
  };
  renew(head.weight, head.axis);
  renew(head.bias, 0);
  // What lies behind has other dims now; inference finds them again.
  for (ValueId id = out; id != kNone;) {
    Type& type = builder.info(id).type;
    if (type.is_tensor()) type.shape.reset();
    if (id == head.result) break;
    id = graph->node(graph->producer(id)).inputs[0];
  }
  return std::move(builder).build();
}

}  // namespace sardonyx
