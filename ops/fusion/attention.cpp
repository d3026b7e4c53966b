// Scaled dot-product attention, written with products and a Softmax.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/registry/match.h"

namespace sardonyx {

namespace {

const Shape* shape4(Match& m, ValueId id) {
  const Type& type = m.type(id);
  return type.is_tensor() && type.rank() == 4 ? &*type.shape : nullptr;
}

// Peels scalar factors that nobody else reads off a value.
ValueId unscaled(Match& m, ValueId id, double& scale) {
  const size_t mark = m.size();
  const Product p = m.product(id);
  if (p.values.size() == 1) {
    scale *= p.factor;
    return p.values[0];
  }
  m.rewind(mark);
  return id;
}

struct Keys {
  ValueId value = kNone;
  std::vector<int64_t> perm;       // what gives the keys from the value; empty for the value itself
  std::vector<ValueId> made = {};  // what was passed on the way to the value
};

// The keys [batch, heads, position, size] of which `id` is the transpose of the last two axes.
std::optional<Keys> untransposed(Match& m, ValueId id) {
  if (const Node* transpose = m.find(id, "Transpose")) {
    auto perm = transpose->attributes.get<std::vector<int64_t>>("perm", {});
    const std::vector<int64_t> axes{0, 1, 2, 3};
    if (perm.size() != 4 || !std::is_permutation(perm.begin(), perm.end(), axes.begin())) return std::nullopt;
    std::swap(perm[2], perm[3]);
    const bool itself = perm == axes;
    return Keys{transpose->inputs[0], itself ? std::vector<int64_t>{} : perm, {id}};
  }
  // The same by way of three axes: [batch * heads, position, size] is transposed.
  const Node* back = m.find(id, "Reshape");
  const Node* transpose = back ? m.find(back->inputs[0], "Transpose") : nullptr;
  const Node* flat = transpose ? m.find(transpose->inputs[0], "Reshape") : nullptr;
  if (!flat || transpose->attributes.get<std::vector<int64_t>>("perm", {}) != std::vector<int64_t>{0, 2, 1})
    return std::nullopt;
  const Shape *from = shape4(m, flat->inputs[0]), *to = shape4(m, id);
  const Type& middle = m.type(flat->outputs[0]);
  if (!from || !to || middle.rank() != 3) return std::nullopt;
  const bool transposed = same_dim((*middle.shape)[1], (*from)[2]) &&
                          same_dim((*middle.shape)[2], (*from)[3]) && same_dim((*to)[0], (*from)[0]) &&
                          same_dim((*to)[1], (*from)[1]) && same_dim((*to)[2], (*from)[3]) &&
                          same_dim((*to)[3], (*from)[2]);
  if (!transposed) return std::nullopt;
  return Keys{flat->inputs[0], {}, {id, back->inputs[0], transpose->inputs[0]}};
}

// Whether a mask broadcasts to the scores as Attention has it: its last axis is never stretched.
bool is_mask(Match& m, ValueId mask, ValueId scores, DType dtype) {
  const Type& type = m.type(mask);
  const Shape* full = shape4(m, scores);
  const int rank = type.rank();
  if (!full || !type.is_tensor() || rank < 1 || rank > 4 || type.dtype != dtype) return false;
  for (int i = 0; i < rank; ++i) {
    const Dim &have = (*type.shape)[static_cast<size_t>(i)],
              &want = (*full)[static_cast<size_t>(4 - rank + i)];
    if (!same_dim(have, want) && (have.value != 1 || i == rank - 1)) return false;
  }
  return true;
}

// Where(keep, scores, fill), or with the branches exchanged.
struct Filled {
  ValueId condition = kNone, scores = kNone, fill = kNone;
  bool keeps = true;  // where the condition holds
};

// `fill` is -inf, or a number to which scores may be added without a difference.
std::optional<Filled> filled(Match& m, ValueId id) {
  const Node* where = m.find(id, "Where");
  if (!where) return std::nullopt;
  for (const size_t scores : {size_t{1}, size_t{2}}) {
    const ValueId fill = where->inputs[3 - scores];
    const auto number = m.scalar(fill);
    const double low = m.dtype(id) == DType::Float32 ? -1e30 : -std::numeric_limits<double>::infinity();
    if (!number || !(*number <= low) || m.rank(fill) > 4) continue;
    m.take(id, "Where");
    return Filled{where->inputs[0], where->inputs[scores], fill, scores == 1};
  }
  return std::nullopt;
}

// Softmax(scale * Q K^T + mask) V, with the mask as a sum, a Where, or a Where and a sum. With
// Where(IsNaN(p), 0, p) around the Softmax, and without: a query whose every key is masked by -inf gives
// zeros in Attention.
ValueId attention(Match& m) {
  ValueId p = m.root().inputs[0];
  const ValueId v = m.root().inputs[1];
  if (const Node* where = m.find(p, "Where")) {
    const Node* is_nan = m.find(where->inputs[0], "IsNaN");
    if (!is_nan || is_nan->inputs[0] != where->inputs[2] || m.scalar(where->inputs[1]) != 0.0) return kNone;
    m.take(p, "Where");
    m.take(where->inputs[0], "IsNaN");
    p = where->inputs[2];
  }
  const Node* softmax = m.take(p, "Softmax");
  if (!softmax) return kNone;
  const int64_t axis = softmax->attributes.get<int64_t>("axis", -1);
  ValueId scores = softmax->inputs[0], mask = kNone;
  if (axis != -1 && axis != 3) return kNone;
  const size_t mark = m.size();
  double scale = 1;
  const Node* product = nullptr;
  const auto take_product = [&](ValueId id) {
    scale = 1;
    return product = m.take(unscaled(m, id, scale), "MatMul");
  };
  std::optional<Filled> fill;
  const auto take_scores = [&](ValueId id) {
    const size_t before = m.size();
    if (take_product(id)) return true;
    m.rewind(before);
    fill = filled(m, id);
    if (fill && take_product(fill->scores)) return true;
    fill.reset();
    m.rewind(before);
    return false;
  };
  if (!take_scores(scores)) {
    m.rewind(mark);
    for (const auto& [a, b] : m.both_orders(scores, "Add")) {
      if (take_scores(a)) {
        mask = b;
        break;
      }
    }
  }
  if (!product || (mask != kNone && !is_mask(m, mask, product->outputs[0], m.dtype(product->outputs[0]))) ||
      (fill && !is_mask(m, fill->condition, product->outputs[0], DType::Bool)))
    return kNone;

  const ValueId q = unscaled(m, product->inputs[0], scale);
  auto keys = untransposed(m, unscaled(m, product->inputs[1], scale));
  if (!keys) return kNone;
  if (std::all_of(keys->made.begin(), keys->made.end(),
                  [&](ValueId id) { return m.graph().use_count(id) == 1; })) {
    const ValueId given = keys->value;
    keys->value = unscaled(m, given, scale);
    for (const ValueId id : keys->made)
      if (keys->value != given) m.take(id, m.graph().node(m.graph().producer(id)).op.c_str());
  }
  const Shape *qs = shape4(m, q), *ks = shape4(m, keys->value), *vs = shape4(m, v);
  const DType dtype = m.dtype(m.result());
  // Products of f64 are faster than the plain loops of its Attention.
  if (!qs || !ks || !vs || !m.closed() || dtype == DType::Float64 || !is_float(dtype) ||
      m.dtype(q) != dtype || m.dtype(keys->value) != dtype || m.dtype(v) != dtype)
    return kNone;
  const auto key_dim = [&](size_t i) {
    return (*ks)[keys->perm.empty() ? i : static_cast<size_t>(keys->perm[i])];
  };
  for (const size_t i : {size_t{0}, size_t{1}})
    if (!same_dim((*qs)[i], key_dim(i)) || !same_dim((*qs)[i], (*vs)[i])) return kNone;
  if (!(*qs)[1].known() || !std::isfinite(static_cast<float>(scale))) return kNone;
  ValueId k = keys->value;
  if (!keys->perm.empty())
    k = m.op("Transpose", {k}, attributes({{"perm", keys->perm}}),
             Type::tensor(dtype, {key_dim(0), key_dim(1), key_dim(2), key_dim(3)}));
  if (fill) {
    const ValueId zero = m.constant(tensor_of(dtype, {}, {0}));
    const ValueId number = m.constant(tensor_of(dtype, {}, {*m.scalar(fill->fill)}));
    Type type = m.type(fill->condition);
    type.dtype = dtype;
    const ValueId added = fill->keeps ? m.op("Where", {fill->condition, zero, number}, {}, type)
                                      : m.op("Where", {fill->condition, number, zero}, {}, type);
    mask = mask == kNone ? added : m.op("Add", {added, mask}, {}, Type::tensor(dtype));
  }
  std::vector<ValueId> inputs{q, k, v};
  if (mask != kNone) inputs.push_back(mask);
  return m.op("Attention", inputs, attributes({{"scale", static_cast<float>(scale)}}));
}

const std::vector<int64_t> kSwapHeads{0, 2, 1, 3};

// [batch, position, heads * size], of which another value is [batch, heads, position, size].
struct Packed {
  ValueId value = kNone;
  int64_t heads = 0;
};

std::optional<Packed> packed(Match& m, ValueId id) {
  const Node* transpose = m.find(id, "Transpose");
  const Node* reshape = transpose ? m.find(transpose->inputs[0], "Reshape") : nullptr;
  if (!reshape || transpose->attributes.get<std::vector<int64_t>>("perm", {}) != kSwapHeads)
    return std::nullopt;
  const Type &from = m.type(reshape->inputs[0]), &to = m.type(reshape->outputs[0]);
  if (from.rank() != 3 || to.rank() != 4) return std::nullopt;
  const Shape &f = *from.shape, &t = *to.shape;
  const bool splits = t[2].known() && t[3].known() && t[2].value > 0 &&
                      f[2] == Dim(checked_mul(t[2].value, t[3].value, "width")) && same_dim(f[0], t[0]) &&
                      same_dim(f[1], t[1]);
  return splits ? std::optional(Packed{reshape->inputs[0], t[2].value}) : std::nullopt;
}

// Attention between heads that are split off and joined again takes them as they lie.
ValueId attention_heads(Match& m) {
  const Node* transpose = m.take(m.root().inputs[0], "Transpose");
  const Node* node = transpose ? m.take(transpose->inputs[0], "Attention") : nullptr;
  if (!node || transpose->attributes.get<std::vector<int64_t>>("perm", {}) != kSwapHeads ||
      node->inputs.size() < 3 || node->input(4) != kNone || node->input(5) != kNone)
    return kNone;
  std::vector<ValueId> inputs = node->inputs;
  Attributes attributes = node->attributes;
  for (size_t i = 0; i < 3; ++i) {
    const auto flat = packed(m, node->inputs[i]);
    if (!flat) return kNone;
    inputs[i] = flat->value;
    if (i < 2) attributes.set(i == 0 ? "q_num_heads" : "kv_num_heads", flat->heads);
  }
  const Type &y = m.type(transpose->outputs[0]), &joined = m.type(m.result());
  if (y.rank() != 4 || joined.rank() != 3 || !m.closed()) return kNone;
  const Shape &from = *y.shape, &to = *joined.shape;
  if (!same_dim(from[0], to[0]) || !same_dim(from[1], to[1]) || !from[2].known() || !from[3].known() ||
      to[2] != Dim(checked_mul(from[2].value, from[3].value, "width")))
    return kNone;
  return m.op("Attention", inputs, std::move(attributes));
}

}  // namespace

void register_attention(FusionRegistry& r) {
  r.add(pattern_fusion("attention", 50, {"MatMul"}, attention));
  r.add(pattern_fusion("attention_heads", 51, {"Reshape"}, attention_heads));
}

}  // namespace sardonyx
