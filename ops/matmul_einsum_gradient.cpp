// The gradient of Einsum: that of one operand is an Einsum of dY and the other operands.
#include <algorithm>
#include <map>
#include <numeric>

#include "ops/matmul.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

// One letter for each axis, also for those of an ellipsis.
struct Equation {
  std::vector<std::string> operands;
  std::string output;
};

bool contains(const std::string& labels, char label) { return labels.find(label) != std::string::npos; }

Equation parse(Differentiate& d) {
  std::string text;
  for (const char c : d.attributes<EinsumAttributes>().equation.value_or(""))
    if (c != ' ') text += c;
  const size_t arrow = text.find("->");
  Equation e;
  e.operands.emplace_back();
  for (const char c : text.substr(0, arrow))
    if (c == ',')
      e.operands.emplace_back();
    else
      e.operands.back() += c;
  if (e.operands.size() != d.node().inputs.size())
    throw ModelError("terms of attribute 'equation'", std::to_string(d.node().inputs.size()),
                     std::to_string(e.operands.size()));
  std::map<char, int> uses;
  for (const std::string& term : e.operands)
    for (const char c : term)
      if (c != '.') ++uses[c];
  // The axes of ellipses are aligned at the right.
  size_t axes = 0;
  for (size_t i = 0; i < e.operands.size(); ++i)
    if (contains(e.operands[i], '.'))
      axes = std::max(axes, static_cast<size_t>(d.need_rank(i)) + 3 - e.operands[i].size());
  std::string letters;
  for (char c = 'A'; c <= 'z' && letters.size() < axes; c = c == 'Z' ? 'a' : static_cast<char>(c + 1))
    if (!uses.count(c)) letters += c;
  if (letters.size() < axes) throw UnsupportedError("axes of a differentiated Einsum", "at most 52", "more");
  if (arrow == std::string::npos) {
    e.output = "...";
    for (const auto& [label, count] : uses)
      if (count == 1) e.output += label;
  } else {
    e.output = text.substr(arrow + 2);
  }
  const auto written_out = [&](std::string& term, size_t count) {
    if (const size_t at = term.find("..."); at != std::string::npos)
      term.replace(at, 3, letters.substr(letters.size() - count));
  };
  for (size_t i = 0; i < e.operands.size(); ++i)
    if (contains(e.operands[i], '.'))
      written_out(e.operands[i], static_cast<size_t>(d.need_rank(i)) + 3 - e.operands[i].size());
  written_out(e.output, axes);
  return e;
}

// The product of `operands` with the axes `to`, each of which one of the operands has.
ValueId contract(Differentiate& d, const std::vector<ValueId>& operands,
                 const std::vector<std::string>& labels, const std::string& to) {
  if (operands.size() == 1 && labels[0] == to) return operands[0];
  if (operands.size() == 1 && labels[0].size() == to.size()) {
    std::vector<int64_t> perm;
    for (const char c : to) perm.push_back(static_cast<int64_t>(labels[0].find(c)));
    return d.transpose(operands[0], std::move(perm));
  }
  std::string equation;
  for (const std::string& term : labels) equation += (&term == labels.data() ? "" : ",") + term;
  return d.op("Einsum", operands, attributes({{"equation", equation + "->" + to}}));
}

// Whether the sizes of a label are the same in every operand.
bool certain(Differentiate& d, const Equation& e, char label) {
  const Dim* first = nullptr;
  for (size_t i = 0; i < e.operands.size(); ++i)
    for (size_t axis = 0; axis < e.operands[i].size(); ++axis) {
      if (e.operands[i][axis] != label) continue;
      if (!d.type(i).shape || d.type(i).shape->size() != e.operands[i].size()) return false;
      const Dim& dim = (*d.type(i).shape)[axis];
      if (!first) {
        first = &dim;
      } else if (first->known() || dim.known()) {
        if (!(first->known() && dim.known() && first->value == dim.value)) return false;
      } else if (first->symbol.empty() || first->symbol != dim.symbol) {
        return false;
      }
    }
  return true;
}

// 0, 1, ... along one of `rank` axes.
ValueId places(Differentiate& d, ValueId x, size_t axis, size_t rank) {
  const ValueId size = d.op("Gather", {d.shape_of(x), d.scalar(DType::Int64, static_cast<double>(axis))});
  std::vector<int64_t> dims(rank, 1);
  dims[axis] = -1;
  return d.op("Reshape", {d.op("Range", {d.scalar(DType::Int64, 0), size, d.scalar(DType::Int64, 1)}),
                          d.ints(std::move(dims))});
}

ValueId gradient_of(Differentiate& d, const Equation& e, size_t input) {
  const std::string& own = e.operands[input];
  const ValueId x = d.in(input);
  // dY comes first: where an ellipsis is broadcast, inference takes sizes from the first operand.
  std::vector<ValueId> operands = {d.cotangent()};
  std::vector<std::string> labels = {e.output};
  std::string available = e.output;
  for (size_t i = 0; i < e.operands.size(); ++i) {
    if (i == input) continue;
    operands.push_back(d.in(i));
    labels.push_back(e.operands[i]);
    available += e.operands[i];
  }
  // The axes that dY and the other operands have, each once; the others are of size 1 until the end.
  std::string to;
  std::vector<int64_t> missing;
  bool expand = false, sum = false;
  for (size_t axis = 0; axis < own.size(); ++axis) {
    const bool first = own.find(own[axis]) == axis;
    if (first && contains(available, own[axis]))
      to += own[axis];
    else
      missing.push_back(static_cast<int64_t>(axis));
    if (first && !contains(available, own[axis])) expand = true;
    if (certain(d, e, own[axis])) continue;
    sum = true;
    expand = expand || !contains(e.output, own[axis]);
  }
  ValueId g = contract(d, operands, labels, to);
  if (!missing.empty()) g = d.op("Unsqueeze", {g, d.ints(missing)});
  if (expand) g = d.op("Expand", {g, d.shape_of(x)});
  // Only the diagonal was read of axes with the same label.
  for (size_t axis = 0; axis < own.size(); ++axis)
    if (const size_t first = own.find(own[axis]); first != axis) {
      const ValueId diagonal =
          d.op("Equal", {places(d, x, first, own.size()), places(d, x, axis, own.size())});
      g = d.where(diagonal, g, d.scalar(d.dtype(input), 0));
    }
  return sum ? d.own("SumTo", {g, d.shape_of(x)}) : g;
}

void einsum(Differentiate& d) {
  const Equation e = parse(d);
  for (size_t i = 0; i < e.operands.size(); ++i)
    if (d.needs(i)) d.give(i, gradient_of(d, e, i));
}

}  // namespace

void register_matmul_einsum_gradient(OperatorRegistry& r) { r.op("Einsum").differentiates(einsum); }

}  // namespace sardonyx
