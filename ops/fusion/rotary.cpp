// RotaryEmbedding, as Hugging Face writes it: x * cos + rotate_half(x) * sin, where cos and sin have each
// angle twice.
#include <cstring>

#include "ops/registry/match.h"

namespace sardonyx {

namespace {

Type halved(Match& m, ValueId id) {
  Type type = m.type(id);
  if (type.shape && !type.shape->empty() && type.shape->back().known())
    type.shape->back() = Dim(type.shape->back().value / 2);
  return type;
}

// The first half of a constant along its last axis, when the second is the same.
std::optional<Tensor> half_of(const Tensor& t) {
  if (t.rank() < 1 || t.dims().back() == 0 || t.dims().back() % 2 != 0) return std::nullopt;
  Dims dims = t.dims();
  dims.back() /= 2;
  Tensor half(t.dtype(), dims);
  const size_t bytes = static_cast<size_t>(dims.back()) * element_size(t.dtype());
  const char* from = static_cast<const char*>(t.data());
  char* to = static_cast<char*>(half.mutable_data());
  for (size_t at = 0; at < half.bytes(); at += bytes, from += 2 * bytes) {
    if (std::memcmp(from, from + bytes, bytes) != 0) return std::nullopt;
    std::memcpy(to + at, from, bytes);
  }
  return half;
}

// The first half of a value along its last axis, when it is known that the second is the same: an operator
// that makes it from halves. `trig` is Cos or Sin.
// Unless `make`, only whether there is one.
std::optional<ValueId> half_of(Match& m, ValueId id, const char* trig, bool make, int depth = 0) {
  constexpr int kMaxDepth = 8;
  if (depth > kMaxDepth) return std::nullopt;
  if (const Tensor* t = m.constant(id)) {
    const auto half = half_of(*t);
    if (!half) return std::nullopt;
    return make ? m.constant(*half, m.graph().value(id).name) : id;
  }
  const auto again = [&](const Node& node, std::vector<ValueId> inputs) -> std::optional<ValueId> {
    const auto half = half_of(m, inputs[0], trig, make, depth + 1);
    if (!half || !make) return half;
    inputs[0] = *half;
    return m.op(node.op, inputs, node.attributes, halved(m, id));
  };
  const int rank = m.rank(id);
  if (const Node* cast = m.find(id, "Cast")) return again(*cast, cast->inputs);
  if (const Node* unsqueeze = m.find(id, "Unsqueeze")) {
    const auto axes = m.ints(unsqueeze->inputs[1]);
    for (const int64_t axis : axes.value_or(std::vector<int64_t>{-1}))
      if (axis < 0 || axis == rank - 1) return std::nullopt;
    return again(*unsqueeze, unsqueeze->inputs);
  }
  if (const Node* mul = m.find(id, "Mul"))
    for (const size_t i : {size_t{0}, size_t{1}}) {
      const Tensor* scale = m.constant(mul->inputs[1 - i]);
      if (scale && scale->size() == 1 && scale->rank() <= rank)
        return again(*mul, {mul->inputs[i], mul->inputs[1 - i]});
    }
  if (const Node* gather = m.find(id, "Gather");
      gather && m.rank(gather->inputs[0]) == 2 && gather->attributes.get<int64_t>("axis", 0) == 0)
    return again(*gather, gather->inputs);
  const Node* function = m.find(id, trig);
  const Node* twice = function ? m.find(function->inputs[0], "Concat") : nullptr;
  const int64_t axis = twice ? twice->attributes.get<int64_t>("axis", 0) : 0;
  if (!twice || twice->inputs.size() != 2 || twice->inputs[0] != twice->inputs[1] ||
      (axis != -1 && axis != rank - 1))
    return std::nullopt;
  return make ? m.op(trig, {twice->inputs[0]}, {}, halved(m, id)) : id;
}

// Whether `id` is x[..., begin:end] of the last of four axes.
bool is_slice(Match& m, ValueId id, ValueId x, int64_t begin, int64_t end, int64_t size) {
  const Node* slice = m.take(id, "Slice");
  if (!slice || slice->inputs[0] != x || slice->inputs.size() < 4) return false;
  const auto starts = m.ints(slice->inputs[1]), ends = m.ints(slice->inputs[2]),
             axes = m.ints(slice->input(3));
  const auto steps = slice->input(4) == kNone ? std::vector<int64_t>{1} : m.ints(slice->inputs[4]);
  const auto one = [](const auto& list, int64_t value) {
    return list && *list == std::vector<int64_t>{value};
  };
  return one(starts, begin) && ends && ends->size() == 1 &&
         (ends->front() == end || (end == size && ends->front() > size)) && (one(axes, 3) || one(axes, -1)) &&
         one(steps, 1);
}

// Whether `id` is Concat(-x2, x1), where x1 and x2 are the halves of x.
bool is_rotated(Match& m, ValueId id, ValueId x, int64_t size) {
  const Node* concat = m.take(id, "Concat");
  if (!concat || concat->inputs.size() != 2) return false;
  const int64_t axis = concat->attributes.get<int64_t>("axis", 0);
  const Node* neg = m.take(concat->inputs[0], "Neg");
  return (axis == 3 || axis == -1) && neg && is_slice(m, neg->inputs[0], x, size / 2, size, size) &&
         is_slice(m, concat->inputs[1], x, 0, size / 2, size);
}

// Whether a factor of x [batch, heads, position, size] is one for each position (and batch).
bool is_factor(Match& m, ValueId id, const Shape& x) {
  const Type& type = m.type(id);
  const int rank = type.rank();
  if (!type.is_tensor() || rank < 2 || rank > 4) return false;
  const Shape& f = *type.shape;
  const size_t last = f.size() - 1;
  if (!same_dim(f[last], x[3]) || !same_dim(f[last - 1], x[2])) return false;
  if (rank > 2 && f[last - 2] != Dim(1)) return false;
  return rank < 4 || f[0] == Dim(1) || same_dim(f[0], x[0]);
}

// [batch, position, size / 2] of a factor.
ValueId cache(Match& m, ValueId id, const char* trig, ValueId x) {
  ValueId half = *half_of(m, id, trig, true);
  const Shape &from = *m.type(id).shape, &to = *m.type(x).shape;
  const int rank = static_cast<int>(from.size());
  const bool whole = rank == 4 && same_dim(from[0], to[0]);
  const DType dtype = m.dtype(x);
  const Dim last(to[3].value / 2);
  const auto ints = [&](std::vector<int64_t> values) { return m.constant(Tensor::of(values)); };
  if (rank == 4) half = m.op("Squeeze", {half, ints({1})}, {}, Type::tensor(dtype, {from[0], to[2], last}));
  if (rank == 2) half = m.op("Unsqueeze", {half, ints({0})}, {}, Type::tensor(dtype, {Dim(1), to[2], last}));
  if (whole) return half;
  const ValueId batch = m.op("Shape", {x}, attributes({{"start", int64_t{0}}, {"end", int64_t{1}}}),
                             Type::tensor(DType::Int64, {Dim(1)}));
  const ValueId shape = m.op("Concat", {batch, ints({1, 1})}, attributes({{"axis", int64_t{0}}}),
                             Type::tensor(DType::Int64, {Dim(3)}));
  return m.op("Expand", {half, shape}, {}, Type::tensor(dtype, {to[0], to[2], last}));
}

ValueId rotary(Match& m) {
  const size_t mark = m.size();
  for (const auto& [straight, turned] : m.both_orders(m.result(), "Add"))
    for (const auto& [x, cosines] : m.both_orders(straight, "Mul"))
      for (const auto& [rotated, sines] : m.both_orders(turned, "Mul")) {
        m.rewind(mark);
        const Type& type = m.type(x);
        if (type.rank() != 4 || !(*type.shape)[3].known() || (*type.shape)[3].value % 2 != 0 ||
            (*type.shape)[3].value == 0 || !is_float(type.dtype) || type.dtype == DType::Float64 ||
            m.dtype(cosines) != type.dtype || m.dtype(sines) != type.dtype ||
            !is_factor(m, cosines, *type.shape) || !is_factor(m, sines, *type.shape))
          continue;
        m.take(straight, "Mul");
        m.take(turned, "Mul");
        if (!is_rotated(m, rotated, x, (*type.shape)[3].value) || !m.closed() ||
            !half_of(m, cosines, "Cos", false) || !half_of(m, sines, "Sin", false))
          continue;
        return m.op("RotaryEmbedding", {x, cache(m, cosines, "Cos", x), cache(m, sines, "Sin", x)});
      }
  return kNone;
}

}  // namespace

void register_rotary(FusionRegistry& r) { r.add(pattern_fusion("rotary", 46, {"Add"}, rotary)); }

}  // namespace sardonyx
