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

// Scales along an axis of input 0, or for blocks of it.
struct Places {
  int64_t axis, block_size;
};

// Which block each element of the axis belongs to.
ValueId blocks_of(Compose& c, const Places& p) {
  const int64_t axis = p.axis < 0 ? p.axis + c.need_rank(0) : p.axis;
  const ValueId length =
      c.op("Squeeze", {c.op("Shape", {c.in(0)}, attributes({{"start", axis}, {"end", axis + 1}}))});
  const ValueId places = c.op("Range", {c.scalar(DType::Int64, 0), length, c.scalar(DType::Int64, 1)});
  return c.div(places, c.scalar(DType::Int64, static_cast<double>(p.block_size)));
}

// x with an axis for each that lies behind the one at hand.
ValueId before_other_axes(Compose& c, ValueId x, const Places& p) {
  const int64_t rank = c.need_rank(0), axis = p.axis < 0 ? p.axis + rank : p.axis;
  std::vector<int64_t> axes;
  for (int64_t i = 1; i < rank - axis; ++i) axes.push_back(i);
  return axes.empty() ? x : c.op("Unsqueeze", {x, c.ints(std::move(axes))});
}

// The scale or zero point `x`, in the shape of input 1, of each element of input 0, or what broadcasts to it.
ValueId by_element(Compose& c, ValueId x, const Places& p) {
  if (p.block_size != 0)
    return c.op("Gather", {x, blocks_of(c, p)},
                attributes({{"axis", p.axis < 0 ? p.axis + c.need_rank(0) : p.axis}}));
  if (c.rank(1) == 0) return x;
  // One number for the whole tensor may be a vector.
  const Type& type = c.type(1);
  const bool single =
      type.shape && type.shape->size() == 1 && (*type.shape)[0].known() && (*type.shape)[0].value == 1;
  return single ? x : before_other_axes(c, x, p);
}

// The sums over the elements of each scale, `scale` by element.
ValueId sum_by_scale(Differentiate& d, ValueId x, ValueId scale, const Places& p) {
  const ValueId dims = d.shape_of(d.in(1));
  if (p.block_size == 0) return d.op("Reshape", {d.own("SumTo", {x, d.shape_of(scale)}), dims});
  const ValueId blocks = d.op("Expand", {before_other_axes(d, blocks_of(d, p), p), d.shape_of(d.in(0))});
  return d.op("ScatterElements", {d.zeros_like(d.in(1), d.dtype(1)), blocks, x},
              attributes({{"axis", p.axis}, {"reduction", std::string("add")}}));
}

void through(Differentiate& d) {
  const auto a = d.attributes<FakeQuantizeAttributes>();
  const Places places{a.axis, a.block_size};
  const DType to = static_cast<DType>(a.to), dtype = d.dtype(0);
  const ValueId dy = d.cotangent(), x = d.in(0), scale = by_element(d, d.in(1), places);
  ValueId q = d.div(x, scale);
  if (is_integer(to)) q = d.op("Round", {q});
  if (d.has(2)) q = d.add(q, by_element(d, d.in(2), places));
  const auto [low, high] = range_of(to);
  const ValueId inside = d.op("And", {d.op("GreaterOrEqual", {q, d.scalar(dtype, low)}),
                                      d.op("LessOrEqual", {q, d.scalar(dtype, high)})});
  if (d.needs(0)) d.give(0, d.where(inside, dy, d.scalar(dtype, 0)));
  if (!d.needs(1)) return;
  // y = scale (q - zero point), with the rounding as the identity: q - x / scale inside, an end outside.
  const ValueId residue = d.div(d.sub(d.out(), d.where(inside, x, d.scalar(dtype, 0))), scale);
  d.give(1, sum_by_scale(d, d.mul(dy, residue), scale, places));
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

// Stored numbers whose scale is no constant, for its gradient: (x - zero_point) scale.
std::vector<ValueId> of_stored(Compose& c, DType result) {
  if (c.builder().graph().is_constant(c.in(1)) || element_bits(c.dtype(0)) > 32) return {};
  const DType dtype = c.dtype(1), wide = DType::Float32;
  if (dtype != DType::Float32 && dtype != DType::Float16 && dtype != DType::BFloat16) return {};
  const int scale_rank = c.rank(1);
  if (scale_rank < 0 || (scale_rank > 0 && c.rank(0) < 0)) return {};
  const Places places{c.node().attributes.get<int64_t>("axis", 1),
                      c.node().attributes.get<int64_t>("block_size", 0)};
  ValueId x = c.cast(c.in(0), wide);
  if (c.has(2)) x = c.sub(x, by_element(c, c.cast(c.in(2), wide), places));
  const ValueId y = c.mul(x, by_element(c, dtype == wide ? c.in(1) : c.cast(c.in(1), wide), places));
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
  return of_stored(c, result);
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
