#include "ops/registry/propagate.h"

#include <algorithm>

namespace sardonyx {

namespace {

constexpr size_t kMaxElements = 1024;
using Inputs = std::vector<const PartialValue*>;
using Result = std::optional<PartialValue>;

const PartialValue* at(const Inputs& inputs, size_t i) { return i < inputs.size() ? inputs[i] : nullptr; }

// The numbers of a value that is wholly known.
std::optional<std::vector<int64_t>> numbers(const PartialValue* value) {
  if (!value || !value->complete()) return std::nullopt;
  std::vector<int64_t> result;
  for (const PartialInt& e : value->elements) result.push_back(*e.value);
  return result;
}

Result shape_value(const Graph& graph, const Node& node) {
  const Type& type = graph.value(node.input(0)).type;
  if (!type.is_tensor() || !type.shape) return std::nullopt;
  const int64_t rank = type.rank();
  const auto clamp = [&](int64_t i) { return std::clamp<int64_t>(i < 0 ? i + rank : i, 0, rank); };
  const int64_t start = clamp(node.attributes.get<int64_t>("start", 0));
  const int64_t end = clamp(node.attributes.get<int64_t>("end", rank));
  PartialValue result;
  for (int64_t i = start; i < end; ++i) {
    const Dim& d = (*type.shape)[static_cast<size_t>(i)];
    result.elements.push_back(d.known() ? PartialInt{d.value, ""} : PartialInt{std::nullopt, d.symbol});
  }
  return result;
}

Result gather_value(const Inputs& inputs) {
  const PartialValue* data = at(inputs, 0);
  const auto indices = numbers(at(inputs, 1));
  if (!data || data->scalar || !indices) return std::nullopt;
  const auto size = static_cast<int64_t>(data->elements.size());
  PartialValue result;
  result.scalar = inputs[1]->scalar;
  for (int64_t i : *indices) {
    if (i < 0) i += size;
    if (i < 0 || i >= size) return std::nullopt;
    result.elements.push_back(data->elements[static_cast<size_t>(i)]);
  }
  return result;
}

Result slice_value(const Node& node, const Inputs& inputs) {
  const PartialValue* data = at(inputs, 0);
  const auto from_attribute = [&](const char* name) -> std::optional<std::vector<int64_t>> {
    const auto list = node.attributes.get<std::vector<int64_t>>(name, {});
    return list.empty() ? std::nullopt : std::optional(list);
  };
  const auto starts = node.inputs.size() > 1 ? numbers(at(inputs, 1)) : from_attribute("starts");
  const auto ends = node.inputs.size() > 1 ? numbers(at(inputs, 2)) : from_attribute("ends");
  if (!data || data->scalar || !starts || !ends || starts->size() != 1 || ends->size() != 1)
    return std::nullopt;
  int64_t step = 1;
  if (node.input(4) != kNone) {
    const auto steps = numbers(at(inputs, 4));
    if (!steps || steps->size() != 1) return std::nullopt;
    step = steps->front();
  }
  const auto size = static_cast<int64_t>(data->elements.size());
  if (step <= 0 || step > size + 1) return std::nullopt;
  const auto clamp = [&](int64_t i) { return std::clamp<int64_t>(i < 0 ? i + size : i, 0, size); };
  PartialValue result;
  for (int64_t i = clamp(starts->front()); i < clamp(ends->front()); i += step)
    result.elements.push_back(data->elements[static_cast<size_t>(i)]);
  return result;
}

Result concat_value(const Inputs& inputs) {
  PartialValue result;
  for (const PartialValue* input : inputs) {
    if (!input || input->scalar || result.elements.size() + input->elements.size() > kMaxElements)
      return std::nullopt;
    result.elements.insert(result.elements.end(), input->elements.begin(), input->elements.end());
  }
  return result;
}

Result arithmetic_value(const std::string& op, const Inputs& inputs) {
  const PartialValue* a = at(inputs, 0);
  const PartialValue* b = at(inputs, 1);
  if (!a || !b) return std::nullopt;
  const size_t na = a->elements.size(), nb = b->elements.size();
  if (na != nb && na != 1 && nb != 1) return std::nullopt;
  PartialValue result;
  result.scalar = a->scalar && b->scalar;
  for (size_t i = 0; i < (na == 1 ? nb : na); ++i) {
    const PartialInt& x = a->elements[na == 1 ? 0 : i];
    const PartialInt& y = b->elements[nb == 1 ? 0 : i];
    PartialInt out;
    int64_t z = 0;
    if (x.value && y.value) {
      bool ok = false;
      if (op == "Add")
        ok = !__builtin_add_overflow(*x.value, *y.value, &z);
      else if (op == "Sub")
        ok = !__builtin_sub_overflow(*x.value, *y.value, &z);
      else if (op == "Mul")
        ok = !__builtin_mul_overflow(*x.value, *y.value, &z);
      else if (*y.value != 0 && *y.value != -1)
        ok = true, z = *x.value / *y.value;
      if (ok) out.value = z;
    } else if (!x.value && y.value && *y.value == (op == "Add" || op == "Sub" ? 0 : 1)) {
      out = x;  // x + 0, x - 0, x * 1, x / 1
    } else if (x.value && !y.value && ((op == "Add" && *x.value == 0) || (op == "Mul" && *x.value == 1))) {
      out = y;
    }
    result.elements.push_back(std::move(out));
  }
  return result;
}

}  // namespace

bool PartialValue::complete() const {
  return std::all_of(elements.begin(), elements.end(),
                     [](const PartialInt& e) { return e.value.has_value(); });
}

Result partial_value_of(const Tensor& tensor) {
  if (tensor.rank() > 1 || tensor.device() != 0 || tensor.size() > static_cast<int64_t>(kMaxElements))
    return std::nullopt;
  if (tensor.dtype() != DType::Int64 && tensor.dtype() != DType::Int32) return std::nullopt;
  PartialValue result;
  result.scalar = tensor.rank() == 0;
  for (const int64_t v : tensor.to_int64s()) result.elements.push_back({v, ""});
  return result;
}

Result propagate_value(const Graph& graph, const Node& node, const Inputs& inputs) {
  if (!node.domain.empty() || node.inputs.empty() || node.input(0) == kNone) return std::nullopt;
  const std::string& op = node.op;
  if (op == "Shape") return shape_value(graph, node);
  if (op == "Gather") return gather_value(inputs);
  if (op == "Slice") return slice_value(node, inputs);
  if (op == "Concat") return concat_value(inputs);
  if (op == "Add" || op == "Sub" || op == "Mul" || op == "Div") return arithmetic_value(op, inputs);
  const PartialValue* x = at(inputs, 0);
  if (!x) return std::nullopt;
  if (op == "Identity") return *x;
  if (op == "Cast") {
    const auto to = static_cast<DType>(node.attributes.get<int64_t>("to", 0));
    return to == DType::Int64 || to == DType::Int32 ? Result(*x) : std::nullopt;
  }
  if ((op == "Unsqueeze" && x->scalar) || (op == "Squeeze" && !x->scalar && x->elements.size() == 1)) {
    PartialValue result = *x;
    result.scalar = op == "Squeeze";
    return result;
  }
  if (op == "Reshape") {
    const auto dims = numbers(at(inputs, 1));
    if (dims && dims->size() <= 1) {
      PartialValue result = *x;
      result.scalar = dims->empty();
      return result;
    }
  }
  return std::nullopt;
}

bool measures(const Node& node) { return node.is("Shape") || node.is("Size") || node.is("SequenceLength"); }

}  // namespace sardonyx
