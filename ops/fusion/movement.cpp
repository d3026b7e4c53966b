// Chains of operators that only move values or rename axes.
#include <algorithm>
#include <numeric>

#include "ops/registry/match.h"

namespace sardonyx {

namespace {

// The permutation of a Transpose, checked; empty when it is not known.
std::vector<int64_t> permutation(Match& m, const Node& node) {
  auto perm = node.attributes.get<std::vector<int64_t>>("perm", {});
  const int rank = m.rank(node.inputs[0]);
  if (perm.empty() && rank > 0) {
    perm.resize(static_cast<size_t>(rank));
    std::iota(perm.rbegin(), perm.rend(), 0);
  }
  std::vector<char> seen(perm.size(), 0);
  for (const int64_t axis : perm)
    if (axis < 0 || axis >= static_cast<int64_t>(perm.size()) || seen[static_cast<size_t>(axis)]++) return {};
  return perm;
}

ValueId transpose_chain(Match& m) {
  const Node* first = m.find(m.root().inputs[0], "Transpose");
  if (!first) return kNone;
  const auto a = permutation(m, *first), b = permutation(m, m.root());
  if (a.empty() || a.size() != b.size()) return kNone;
  std::vector<int64_t> both;
  for (const int64_t axis : b) both.push_back(a[static_cast<size_t>(axis)]);
  if (std::is_sorted(both.begin(), both.end())) return first->inputs[0];
  return m.op("Transpose", {first->inputs[0]}, attributes({{"perm", both}}));
}

const Node* reshapes(Match& m, ValueId id) {
  for (const char* op : {"Reshape", "Squeeze", "Unsqueeze", "Flatten"})
    if (const Node* node = m.find(id, op)) return node;
  return nullptr;
}

// Two or more of Reshape, Squeeze, Unsqueeze and Flatten in a row, of which at most one dimension of the
// result is unknown.
ValueId reshape_chain(Match& m) {
  constexpr int kMaxSteps = 64;
  ValueId source = m.root().inputs[0];
  int steps = 0;
  for (const Node* node = reshapes(m, source); node && steps < kMaxSteps; node = reshapes(m, source), ++steps)
    source = node->inputs[0];
  const Type& type = m.type(m.result());
  if (steps == 0 || !type.is_tensor() || !type.shape) return kNone;
  std::vector<int64_t> dims;
  for (const Dim& dim : *type.shape) dims.push_back(dim.known() ? dim.value : -1);
  const auto unknown = std::count(dims.begin(), dims.end(), -1);
  const bool empty = std::find(dims.begin(), dims.end(), 0) != dims.end();
  if (unknown > 1 || (unknown == 1 && empty)) return kNone;
  return m.op("Reshape", {source, m.constant(Tensor::of(dims), "shape")},
              attributes({{"allowzero", int64_t{unknown == 0}}}));
}

// Flatten before the last axis, Softmax, and Reshape back: a Softmax of the last axis.
ValueId softmax_last_axis(Match& m) {
  for (const char* op : {"Softmax", "LogSoftmax"}) {
    const Node* softmax = m.take(m.root().inputs[0], op);
    const Node* flatten = softmax ? m.take(softmax->inputs[0], "Flatten") : nullptr;
    if (!flatten) continue;
    const ValueId x = flatten->inputs[0];
    const int64_t rank = m.rank(x), axis = softmax->attributes.get<int64_t>("axis", -1);
    const int64_t at = flatten->attributes.get<int64_t>("axis", 1);
    if (rank < 1 || (at != rank - 1 && at != -1) || (axis != 1 && axis != -1)) continue;
    const Node* shape = m.find(m.root().inputs[1], "Shape");
    const bool whole = shape && shape->inputs[0] == x && shape->attributes.get<int64_t>("start", 0) == 0 &&
                       !shape->attributes.has("end");
    const bool fixed = m.dims(x) && m.dims(x) == m.dims(m.result());
    if ((whole || fixed) && m.closed()) return m.op(op, {x}, attributes({{"axis", int64_t{-1}}}));
  }
  return kNone;
}

}  // namespace

void register_movement(FusionRegistry& r) {
  r.add(pattern_fusion("transpose_chain", 10, {"Transpose"}, transpose_chain));
  r.add(pattern_fusion("reshape_chain", 11, {"Reshape", "Squeeze", "Unsqueeze", "Flatten"}, reshape_chain));
  r.add(pattern_fusion("softmax_last_axis", 12, {"Reshape"}, softmax_last_axis));
}

}  // namespace sardonyx
