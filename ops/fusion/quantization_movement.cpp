// Operators that only move or choose elements work on the integers before a DequantizeLinear.
#include <algorithm>
#include <cmath>
#include <set>

#include "graph/bodies.h"
#include "ops/fusion/quantized.h"

namespace sardonyx {

std::optional<Quantization> quantization(Match& m, const Node& node, DType dtype) {
  const bool from_float = node.is("QuantizeLinear");
  const auto is_float32 = [](int64_t attribute) {
    return attribute == 0 || attribute == static_cast<int64_t>(DType::Float32);
  };
  if (node.attributes.get<int64_t>("block_size", 0) != 0 ||
      !is_float32(node.attributes.get<int64_t>(from_float ? "precision" : "output_dtype", 0)) ||
      m.dtype(from_float ? node.inputs[0] : node.outputs[0]) != DType::Float32)
    return std::nullopt;
  Quantization q;
  q.x = node.inputs[0];
  q.dtype = m.dtype(from_float ? node.outputs[0] : node.inputs[0]);
  const bool wanted =
      dtype == DType::Undefined ? q.dtype == DType::Int8 || q.dtype == DType::UInt8 : q.dtype == dtype;
  const Tensor* scale = m.constant(node.inputs[1]);
  if (!wanted || !scale || scale->dtype() != DType::Float32 || scale->rank() > 1 || scale->size() == 0)
    return std::nullopt;
  const float* scales = scale->data<float>();
  q.scale.assign(scales, scales + scale->size());
  if (!std::all_of(q.scale.begin(), q.scale.end(), [](float s) { return std::isnormal(s) && s > 0; }))
    return std::nullopt;
  q.zero.assign(q.scale.size(), 0);
  if (node.input(2) != kNone) {
    const Tensor* zero = m.constant(node.inputs[2]);
    if (!zero || zero->size() != scale->size() || zero->dtype() != q.dtype) return std::nullopt;
    const std::vector<int64_t> values = zero->to_int64s();
    std::transform(values.begin(), values.end(), q.zero.begin(),
                   [](int64_t v) { return static_cast<int32_t>(v); });
  }
  if (q.single()) return q;
  const int rank = m.rank(q.x);
  q.axis = node.attributes.get<int64_t>("axis", 1);
  if (rank < 1 || q.axis < -rank || q.axis >= rank) return std::nullopt;
  q.axis += q.axis < 0 ? rank : 0;
  const Dim& dim = (*m.type(q.x).shape)[static_cast<size_t>(q.axis)];
  return dim.known() && dim.value == scale->size() ? std::optional(q) : std::nullopt;
}

std::optional<Quantization> dequantized(Match& m, ValueId id, DType dtype) {
  const Node* node = m.find(id, "DequantizeLinear");
  return node ? quantization(m, *node, dtype) : std::nullopt;
}

namespace {

Type with_dtype(Type type, DType dtype) {
  type.dtype = dtype;
  return type;
}

const std::vector<std::string>& movers() {
  static const std::vector<std::string> ops = {"DepthToSpace",   "Expand",    "Flatten",  "Gather",
                                               "GatherElements", "GatherND",  "MaxPool",  "Reshape",
                                               "Resize",         "Slice",     "Squeeze",  "SpaceToDepth",
                                               "Tile",           "Transpose", "Unsqueeze"};
  return ops;
}

// f(dequantize(x)) is dequantize(f(x)).
ValueId move_integers(Match& m) {
  const Node& node = m.root();
  const auto q = dequantized(m, node.inputs[0]);
  if (!q) return kNone;
  Attributes attributes;
  if (!q->single()) {
    // Weights that are transposed take their axis with them.
    const auto perm = node.attributes.get<std::vector<int64_t>>("perm", {});
    if (!node.is("Transpose") || !m.constant(q->x)) return kNone;
    const int rank = m.rank(q->x);
    int64_t axis = rank - 1 - q->axis;
    if (!perm.empty()) axis = std::find(perm.begin(), perm.end(), q->axis) - perm.begin();
    if (axis >= rank) return kNone;
    attributes.set("axis", axis);
  }
  if (node.is("Resize") && (node.attributes.get<std::string>("mode", "nearest") != "nearest" ||
                            node.attributes.get<std::string>("coordinate_transformation_mode",
                                                             "half_pixel") == "tf_crop_and_resize"))
    return kNone;
  std::vector<ValueId> inputs = node.inputs;
  inputs[0] = q->x;
  const ValueId moved = m.op(node.op, inputs, node.attributes, with_dtype(m.type(m.result()), q->dtype));
  if (q->single()) return m.op("DequantizeLinear", {moved, q->scale_constant(m), q->zero_constant(m)});
  const Node& before = *m.find(node.inputs[0], "DequantizeLinear");
  std::vector<ValueId> parameters(before.inputs.begin() + 1, before.inputs.end());
  parameters.insert(parameters.begin(), moved);
  return m.op("DequantizeLinear", parameters, std::move(attributes));
}

// A Concat of quantized values: as it is where all have one scale and zero point, and before a QuantizeLinear
// of those that are brought to its.
ValueId concatenate_integers(Match& m) {
  const bool quantizes = m.root().is("QuantizeLinear");
  const auto y = quantizes ? quantization(m, m.root()) : std::nullopt;
  if (quantizes && (!y || !y->single())) return kNone;
  const Node* concat = m.take(quantizes ? y->x : m.result(), "Concat");
  if (!concat || concat->inputs.empty()) return kNone;
  std::vector<Quantization> parts;
  for (const ValueId id : concat->inputs) {
    const auto part = dequantized(m, id);
    if (!part || !part->single() || (!quantizes && !parts.empty() && !part->same(parts[0]))) return kNone;
    parts.push_back(*part);
  }
  if (!m.closed()) return kNone;
  const Quantization& q = quantizes ? *y : parts[0];
  std::vector<ValueId> inputs;
  for (size_t i = 0; i < parts.size(); ++i) {
    const ValueId part = concat->inputs[i];
    inputs.push_back(parts[i].same(q)
                         ? parts[i].x
                         : m.op("QuantizeLinear", {part, q.scale_constant(m), q.zero_constant(m)}, {},
                                with_dtype(m.type(part), q.dtype)));
  }
  const ValueId joined = m.op("Concat", inputs, concat->attributes, with_dtype(m.type(m.result()), q.dtype));
  return quantizes ? joined : m.op("DequantizeLinear", {joined, q.scale_constant(m), q.zero_constant(m)});
}

// quantize(dequantize(x)) with the same numbers.
ValueId quantize_pair(Match& m) {
  const auto y = quantization(m, m.root());
  const auto x = y ? dequantized(m, y->x) : std::nullopt;
  const auto& outputs = m.graph().outputs();
  const bool is_output = std::find(outputs.begin(), outputs.end(), m.result()) != outputs.end();
  return x && x->same(*y) && !is_output ? x->x : kNone;
}

GraphPtr split_integers(const GraphPtr& graph) {
  LazyPatch patch(graph);
  if (std::any_of(graph->nodes().begin(), graph->nodes().end(), has_bodies))
    rewrite_bodies(patch.get(), split_integers);
  for (size_t n = 0; n < graph->nodes().size(); ++n) {
    const Node& node = graph->nodes()[n];
    if (!node.is("Split")) continue;
    Match m(patch, static_cast<NodeId>(n));
    const auto q = dequantized(m, node.inputs[0]);
    if (!q || !q->single()) continue;
    std::vector<ValueId> inputs = node.inputs;
    inputs[0] = q->x;
    GraphBuilder& builder = patch.get().builder();
    const std::vector<ValueId> parts = builder.ops("Split", inputs, node.outputs.size(), node.attributes);
    for (size_t i = 0; i < parts.size(); ++i) {
      if (node.outputs[i] == kNone) continue;
      builder.info(parts[i]).type = with_dtype(m.type(node.outputs[i]), q->dtype);
      patch.get().replace(node.outputs[i],
                          m.op("DequantizeLinear", {parts[i], q->scale_constant(m), q->zero_constant(m)}, {},
                               m.type(node.outputs[i])));
    }
    patch.get().remove(static_cast<NodeId>(n));
  }
  return std::move(patch).apply();
}

}  // namespace

void register_quantization_movement(FusionRegistry& r) {
  std::vector<std::string> roots = movers();
  roots.insert(roots.end(), {"Concat", "QuantizeLinear"});
  const Fusion moves = pattern_fusion("quantized_movement", 5, roots, [](Match& m) {
    const bool joins = m.root().is("Concat") || m.root().is("QuantizeLinear");
    return joins ? concatenate_integers(m) : move_integers(m);
  });
  r.add({moves.name, moves.order,
         [rewrite = moves.rewrite](const GraphPtr& graph) { return split_integers(rewrite(graph)); }});
  r.add(pattern_fusion("quantize_pairs", 6, {"QuantizeLinear"}, quantize_pair));
}

}  // namespace sardonyx
