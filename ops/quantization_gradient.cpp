// What quantization gives to a gradient: a DequantizeLinear behind a QuantizeLinear with the same numbers is
// FakeQuantize, through which the cotangent passes where nothing is cut off, as PyTorch's fake quantization
// has it.
#include <cmath>
#include <limits>

#include "ops/quantization.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

struct FakeQuantizeAttributes {
  int64_t axis = 1, block_size = 0, saturate = 1, precision = 0;
  int64_t to = static_cast<int64_t>(DType::UInt8);  // the quantized type
  template <class V>
  void visit(V&& v) {
    v("axis", axis);
    v("block_size", block_size);
    v("saturate", saturate);
    v("precision", precision);
    v("to", to);
  }
};

// FakeQuantize(X, scale, zero_point), the zero point as a float.
std::vector<ValueId> fake_quantize(Compose& c) {
  const auto a = c.attributes<FakeQuantizeAttributes>();
  std::vector<ValueId> numbers = {c.in(0), c.in(1)};
  if (c.has(2)) numbers.push_back(c.cast(c.in(2), static_cast<DType>(a.to)));
  Attributes to = attributes({{"axis", a.axis},
                              {"block_size", a.block_size},
                              {"saturate", a.saturate},
                              {"precision", a.precision},
                              {"output_dtype", a.to}});
  numbers[0] = c.op("QuantizeLinear", numbers, std::move(to));
  return {c.op("DequantizeLinear", numbers, attributes({{"axis", a.axis}, {"block_size", a.block_size}}))};
}

std::pair<double, double> range_of(DType dtype) {
  if (is_integer(dtype)) {
    const double span = std::ldexp(1, element_bits(dtype));
    return is_signed_integer(dtype) ? std::pair(-span / 2, span / 2 - 1) : std::pair(0.0, span - 1);
  }
  double most = std::numeric_limits<double>::infinity();
  switch (dtype) {
    case DType::Float8E4M3FN:
      most = 448;
      break;
    case DType::Float8E4M3FNUZ:
      most = 240;
      break;
    case DType::Float8E5M2:
    case DType::Float8E5M2FNUZ:
      most = 57344;
      break;
    case DType::Float4E2M1:
      most = 6;
      break;
    case DType::Float6E2M3:
      most = 7.5;
      break;
    case DType::Float6E3M2:
      most = 28;
      break;
    default:
      break;
  }
  return {-most, most};
}

// The scale or zero point `x` of each element of input 0, or what broadcasts to it.
ValueId by_element(Differentiate& d, ValueId x, const FakeQuantizeAttributes& a) {
  if (a.block_size == 0 && d.rank(1) == 0) return x;
  const int rank = d.need_rank(0);
  const int64_t axis = a.axis < 0 ? a.axis + rank : a.axis;
  if (a.block_size == 0) {
    std::vector<int64_t> axes;
    for (int64_t i = 1; i < rank - axis; ++i) axes.push_back(i);
    // One number for the whole tensor may be a vector.
    const Type& type = d.type(1);
    const bool single =
        type.shape && type.shape->size() == 1 && (*type.shape)[0].known() && (*type.shape)[0].value == 1;
    return axes.empty() || single ? x : d.op("Unsqueeze", {x, d.ints(std::move(axes))});
  }
  const ValueId length =
      d.op("Squeeze", {d.op("Shape", {d.in(0)}, attributes({{"start", axis}, {"end", axis + 1}}))});
  const ValueId places = d.op("Range", {d.scalar(DType::Int64, 0), length, d.scalar(DType::Int64, 1)});
  const ValueId blocks = d.div(places, d.scalar(DType::Int64, static_cast<double>(a.block_size)));
  return d.op("Gather", {x, blocks}, attributes({{"axis", axis}}));
}

void through(Differentiate& d) {
  const auto a = d.attributes<FakeQuantizeAttributes>();
  const DType to = static_cast<DType>(a.to), dtype = d.dtype(0);
  const ValueId dy = d.cotangent(), x = d.in(0), scale = by_element(d, d.in(1), a);
  ValueId q = d.div(x, scale);
  if (is_integer(to)) q = d.op("Round", {q});
  if (d.has(2)) q = d.add(q, by_element(d, d.in(2), a));
  const auto [low, high] = range_of(to);
  const ValueId inside = d.op("And", {d.op("GreaterOrEqual", {q, d.scalar(dtype, low)}),
                                      d.op("LessOrEqual", {q, d.scalar(dtype, high)})});
  if (d.needs(0)) d.give(0, d.where(inside, dy, d.scalar(dtype, 0)));
  if (!d.needs(1)) return;
  if (a.block_size != 0)
    throw UnsupportedError("gradient of the scales of blocks", "a scale for a tensor or an axis", "blocks");
  // y = scale (q - zero point), with the rounding as the identity: q - x / scale inside, an end outside.
  const ValueId residue = d.div(d.sub(d.out(), d.where(inside, x, d.scalar(dtype, 0))), scale);
  d.give(1, d.own("SumTo", {d.mul(dy, residue), d.shape_of(scale)}));
}

bool same_number(const Graph& graph, ValueId a, ValueId b) {
  if (a == b) return true;
  if (a == kNone || b == kNone || !graph.is_constant(a) || !graph.is_constant(b)) return false;
  const Value &x = graph.value(a).constant, &y = graph.value(b).constant;
  return x.is_tensor() && y.is_tensor() && x.tensor().dtype() == y.tensor().dtype() &&
         x.tensor().dims() == y.tensor().dims() && x.tensor().to_doubles() == y.tensor().to_doubles();
}

// Numbers that were quantized just before.
std::vector<ValueId> of_quantized(Compose& c, const Node& quantize, DType result) {
  const Graph& graph = c.builder().graph();
  const Node& node = c.node();
  const ValueId x = quantize.input(0), scale = c.in(1);
  const DType from = graph.value(x).type.dtype, dtype = c.dtype(1), to = c.dtype(0);
  const bool dynamic = quantize.op == "DynamicQuantizeLinear";
  const ValueId its_scale = dynamic ? quantize.output(1) : quantize.input(1),
                its_zero = dynamic ? quantize.output(2) : quantize.input(2);
  const int64_t block = node.attributes.get<int64_t>("block_size", 0);
  if (!is_float(from) || (dtype != DType::Float32 && dtype != DType::Float16 && dtype != DType::BFloat16) ||
      !same_number(graph, scale, its_scale) || (c.has(2) != (its_zero != kNone)) ||
      (c.has(2) && !same_number(graph, c.in(2), its_zero)))
    return {};
  const int64_t axis = node.attributes.get<int64_t>("axis", 1);
  if (!dynamic && (quantize.attributes.get<int64_t>("block_size", 0) != block ||
                   quantize.attributes.get<int64_t>("axis", 1) != axis))
    return {};
  const Attributes how = attributes({{"axis", axis},
                                     {"block_size", block},
                                     {"saturate", quantize.attributes.get<int64_t>("saturate", 1)},
                                     {"precision", quantize.attributes.get<int64_t>("precision", 0)},
                                     {"to", static_cast<int64_t>(to)}});
  std::vector<ValueId> inputs = {from == dtype ? x : c.cast(x, dtype), scale};
  if (c.has(2)) inputs.push_back(c.cast(c.in(2), dtype));
  const ValueId y = c.own("FakeQuantize", std::move(inputs), how);
  return {result == dtype ? y : c.cast(y, result)};
}

// Integers whose scale is no constant, for its gradient: (x - zero_point) scale.
std::vector<ValueId> of_integers(Compose& c, DType result) {
  const int64_t block = c.node().attributes.get<int64_t>("block_size", 0);
  if (c.builder().graph().is_constant(c.in(1)) || block != 0 || !is_integer(c.dtype(0))) return {};
  const DType dtype = c.dtype(1), wide = DType::Float32;
  if (dtype != DType::Float32 && dtype != DType::Float16 && dtype != DType::BFloat16) return {};
  const int scale_rank = c.rank(1);
  if (scale_rank < 0 || (scale_rank > 0 && c.rank(0) < 0)) return {};
  const auto along = [&](ValueId v) {
    const int64_t rank = c.rank(0), axis = c.node().attributes.get<int64_t>("axis", 1);
    std::vector<int64_t> axes;
    for (int64_t i = 1; i < rank - (axis < 0 ? axis + rank : axis); ++i) axes.push_back(i);
    return scale_rank == 0 || axes.empty() ? v : c.op("Unsqueeze", {v, c.ints(std::move(axes))});
  };
  ValueId x = c.cast(c.in(0), wide);
  if (c.has(2)) x = c.sub(x, along(c.cast(c.in(2), wide)));
  const ValueId y = c.mul(x, along(dtype == wide ? c.in(1) : c.cast(c.in(1), wide)));
  return {result == wide ? y : c.cast(y, result)};
}

std::vector<ValueId> dequantize(Compose& c) {
  const Graph& graph = c.builder().graph();
  const int64_t asked = c.node().attributes.get<int64_t>("output_dtype", 0);
  const DType result = asked ? static_cast<DType>(asked) : c.dtype(1);
  const NodeId maker = graph.producer(c.in(0));
  if (maker >= 0) {
    const Node node = graph.node(maker);
    if (node.is("QuantizeLinear") || (node.is("DynamicQuantizeLinear") && node.output(0) == c.in(0)))
      if (std::vector<ValueId> made = of_quantized(c, node, result); !made.empty()) return made;
  }
  return of_integers(c, result);
}

}  // namespace

void register_quantization_gradient(OperatorRegistry& r) {
  // What flows back is seen by the DequantizeLinear behind it; a scale measured from the data is a constant.
  r.op("QuantizeLinear").gradient_is_zero();
  r.op("DynamicQuantizeLinear").gradient_is_zero();
  r.op("DequantizeLinear").decomposes(dequantize);
  r.op("FakeQuantize", kOwnDomain)
      .ports({{"X"}, {"scale"}, {"zero_point", "T", true}}, {{"Y", 0, 0}})
      .attributes<FakeQuantizeAttributes>()
      .decomposes(fake_quantize)
      .differentiates(through);
  for (const char* name : {"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"})
    r.op(name).non_differentiable("it computes with integers");
}

}  // namespace sardonyx
