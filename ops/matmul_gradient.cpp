// Gradients of the matrix products.
#include "ops/matmul.h"
#include "ops/registry/flops.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

ValueId gemm(Differentiate& d, ValueId a, ValueId b, bool trans_a, bool trans_b, float alpha = 1) {
  return d.op("Gemm", {a, b},
              attributes({{"transA", int64_t{trans_a}}, {"transB", int64_t{trans_b}}, {"alpha", alpha}}));
}

// Of operands of rank 2 or more.
ValueId product(Differentiate& d, ValueId a, ValueId b, bool trans_a, bool trans_b) {
  return d.own("MatMulTransposed", {a, b},
               attributes({{"transA", int64_t{trans_a}}, {"transB", int64_t{trans_b}}}));
}

ValueId unsqueezed(Differentiate& d, ValueId x, int64_t axis) {
  return d.op("Unsqueeze", {x, d.ints({axis})});
}

// The last two of `rank` axes change places.
ValueId transposed(Compose& d, ValueId x, int rank) {
  std::vector<int64_t> perm;
  for (int i = 0; i < rank; ++i) perm.push_back(i);
  std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
  return d.transpose(x, std::move(perm));
}

// All axes but the last as one.
ValueId rows(Differentiate& d, ValueId x, int rank) {
  return rank == 2 ? x : d.op("Flatten", {x}, attributes({{"axis", int64_t{rank - 1}}}));
}

// Of a type with one more axis of size 1, at the end or before the last axis.
Type widened(const Type& type, size_t from_end) {
  Type wide = type;
  if (wide.shape) wide.shape->insert(wide.shape->end() - static_cast<ptrdiff_t>(from_end), Dim(1));
  return wide;
}

void matmul(Differentiate& d) {
  const int rank_a = d.need_rank(0), rank_b = d.need_rank(1);
  ValueId dy = d.cotangent();
  if (rank_a == 1 && rank_b == 1) {
    if (d.needs(0)) d.give(0, d.mul(dy, d.in(1)));
    if (d.needs(1)) d.give(1, d.mul(dy, d.in(0)));
    return;
  }
  // With a vector, the axis that the product lacks comes back as one of size 1.
  Type type = d.out_type();
  if (rank_b == 1) dy = unsqueezed(d, dy, -1), type = widened(type, 0);
  if (rank_a == 1) dy = unsqueezed(d, dy, -2), type = widened(type, 1);
  const ValueId a = rank_a == 1 ? unsqueezed(d, d.in(0), 0) : d.in(0);
  const ValueId b = rank_b == 1 ? unsqueezed(d, d.in(1), 1) : d.in(1);
  const int wide_a = std::max(rank_a, 2), wide_b = std::max(rank_b, 2), wide_y = std::max(wide_a, wide_b);
  const auto back = [&](size_t input, ValueId g, int rank, int64_t axis) {
    if (wide_y > 2) {
      // The product of the other operand's batches is summed; its last two axes are those of the input.
      Type of_g = type;
      const Type& own = d.type(input);
      if (of_g.shape && own.shape && own.shape->size() >= 2)
        std::copy(own.shape->end() - 2, own.shape->end(), of_g.shape->end() - 2);
      else if (of_g.shape && own.shape)
        of_g.shape->erase(of_g.shape->end() - (axis == 0 ? 2 : 1)), of_g.shape->back() = own.shape->back();
      if (rank == 1) g = d.op("Squeeze", {g, d.ints({axis == 0 ? -2 : -1})});
      g = d.sum_to(g, of_g, d.in(input));
    } else if (rank == 1) {
      g = d.op("Squeeze", {g, d.ints({axis})});
    }
    d.give(input, g);
  };
  if (d.needs(0)) {
    const ValueId g = wide_y == 2 ? gemm(d, dy, b, false, true) : product(d, dy, b, false, true);
    back(0, g, rank_a, 0);
  }
  if (d.needs(1)) {
    if (wide_b == 2 && rank_b == 2)
      d.give(1, gemm(d, rows(d, a, wide_a), rows(d, dy, wide_y), true, false));
    else
      back(1, wide_y == 2 ? gemm(d, a, dy, true, false) : product(d, a, dy, true, false), rank_b, 1);
  }
}

void gemm_gradient(Differentiate& d) {
  const auto p = d.attributes<GemmAttributes>();
  const ValueId dy = d.cotangent(), a = d.in(0), b = d.in(1);
  const bool ta = p.transA != 0, tb = p.transB != 0;
  if (d.needs(0)) d.give(0, ta ? gemm(d, b, dy, tb, true, p.alpha) : gemm(d, dy, b, false, !tb, p.alpha));
  if (d.needs(1)) d.give(1, tb ? gemm(d, dy, a, true, ta, p.alpha) : gemm(d, a, dy, !ta, false, p.alpha));
  if (d.needs(2)) d.give_summed(2, p.beta == 1 ? dy : d.mul(dy, d.scalar(d.dtype(0), p.beta)));
}

std::vector<ValueId> matmul_transposed(Compose& c) {
  const auto p = c.attributes<MatMulTransposedAttributes>();
  return {c.op("MatMul", {p.transA != 0 ? transposed(c, c.in(0), c.need_rank(0)) : c.in(0),
                          p.transB != 0 ? transposed(c, c.in(1), c.need_rank(1)) : c.in(1)})};
}

std::optional<Shape> transposed_dims(const OwnInference& ports) {
  const auto &a = ports.inputs.at(0).shape, &b = ports.inputs.at(1).shape;
  if (!a || !b || a->size() < 2 || b->size() < 2) return std::nullopt;
  const Shape& longer = a->size() >= b->size() ? *a : *b;
  const Shape& shorter = a->size() >= b->size() ? *b : *a;
  Shape dims(longer.begin(), longer.end() - 2);
  for (size_t i = 0; i + 2 < shorter.size(); ++i) {
    Dim& dim = dims[dims.size() - (shorter.size() - 2) + i];
    const Dim& other = shorter[i];
    if (dim.known() && dim.value == 1)
      dim = other;
    else if (!dim.known() && other.known() && other.value != 1)
      dim = other;
    else if (!dim.known() && !other.known() && dim.symbol != other.symbol)
      dim = Dim();
  }
  dims.push_back((*a)[a->size() - (ports.attribute("transA") != 0 ? 1 : 2)]);
  dims.push_back((*b)[b->size() - (ports.attribute("transB") != 0 ? 2 : 1)]);
  return dims;
}

std::optional<double> transposed_flops(const FlopPorts& ports) {
  const Dims *a = ports.in(0), *y = ports.out(0);
  if (!a || !y || a->size() < 2) return std::nullopt;
  const bool transposed = parse_attributes<MatMulTransposedAttributes>(ports.node.attributes).transA != 0;
  return 2 * elements_from(*y) * static_cast<double>((*a)[a->size() - (transposed ? 2 : 1)]);
}

}  // namespace

void register_matmul_gradient(OperatorRegistry& r) {
  r.op("MatMul").differentiates(matmul);
  r.op("Gemm").differentiates(gemm_gradient);
  r.op("MatMulTransposed", kOwnDomain)
      .attributes<MatMulTransposedAttributes>()
      .ports({{"A"}, {"B"}}, {{"Y", 0, -1, -1, transposed_dims}})
      .decomposes(matmul_transposed)
      .narrows(Narrow::Always)
      .flops(transposed_flops);
}

}  // namespace sardonyx
