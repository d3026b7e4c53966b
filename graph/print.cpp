#include "graph/print.h"

#include <sstream>

namespace sardonyx {

namespace {

std::string print_tensor(const Tensor& tensor) {
  std::string text = std::string(dtype_name(tensor.dtype())) + to_string(tensor.dims());
  if (tensor.size() > 8 || tensor.device() != 0) return text;
  std::ostringstream out;
  out << text << " {";
  if (tensor.dtype() == DType::String) {
    for (int64_t i = 0; i < tensor.size(); ++i)
      out << (i ? ", " : "") << '"' << tensor.data<std::string>()[i] << '"';
  } else if (is_integer(tensor.dtype()) || tensor.dtype() == DType::Bool) {
    const auto values = tensor.to_int64s();
    for (size_t i = 0; i < values.size(); ++i) out << (i ? ", " : "") << values[i];
  } else if (is_float(tensor.dtype())) {
    const auto values = tensor.to_doubles();
    for (size_t i = 0; i < values.size(); ++i) out << (i ? ", " : "") << values[i];
  }
  out << "}";
  return out.str();
}

std::string print_value(const Value& value) {
  return value.is_tensor() ? print_tensor(value.tensor()) : value.kind_name();
}

void print_into(std::ostringstream& out, const Graph& graph, const std::string& indent) {
  const auto named = [&](ValueId id) { return id == kNone ? std::string("_") : graph.value(id).name; };
  for (const ValueId id : graph.inputs())
    out << indent << "input " << named(id) << ": " << graph.value(id).type.to_string() << "\n";
  for (const ValueId id : graph.captures())
    if (id != kNone)
      out << indent << "capture " << named(id) << ": " << graph.value(id).type.to_string() << "\n";
  for (size_t i = 0; i < graph.values().size(); ++i) {
    const ValueInfo& value = graph.values()[i];
    if (value.kind == ValueKind::Constant || value.kind == ValueKind::Variable)
      out << indent << (value.kind == ValueKind::Constant ? "constant " : "variable ") << value.name << " = "
          << print_value(value.constant) << "\n";
  }
  for (const Node& node : graph.nodes()) {
    out << indent;
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      out << (i ? ", " : "") << named(node.outputs[i]);
      if (node.outputs[i] != kNone) out << ": " << graph.value(node.outputs[i]).type.to_string();
    }
    out << " = " << (node.domain.empty() ? "" : node.domain + ".") << node.op << "-" << node.version << "(";
    for (size_t i = 0; i < node.inputs.size(); ++i) out << (i ? ", " : "") << named(node.inputs[i]);
    out << ")";
    std::vector<std::pair<std::string, GraphPtr>> bodies;
    bool first = true;
    for (const auto& [name, attribute] : node.attributes) {
      if (const auto* body = std::get_if<GraphPtr>(&attribute)) {
        bodies.emplace_back(name, *body);
        continue;
      }
      out << (first ? " {" : ", ") << name << " = " << print_attribute(attribute);
      first = false;
    }
    if (!first) out << "}";
    if (!node.name.empty()) out << "  # " << node.name;
    out << "\n";
    for (const auto& [name, body] : bodies) {
      out << indent << "  " << name << ":\n";
      print_into(out, *body, indent + "    ");
    }
  }
  for (const ValueId id : graph.outputs())
    out << indent << "output " << named(id) << ": " << graph.value(id).type.to_string() << "\n";
}

template <typename List, typename F>
std::string print_list(const List& list, F&& each) {
  std::string text = "[";
  for (size_t i = 0; i < list.size(); ++i) text += (i ? ", " : "") + each(list[i]);
  return text + "]";
}

std::string print_float(float value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

}  // namespace

std::string print_attribute(const Attribute& attribute) {
  struct Printer {
    std::string operator()(float v) const { return print_float(v); }
    std::string operator()(int64_t v) const { return std::to_string(v); }
    std::string operator()(const std::string& v) const { return '"' + v + '"'; }
    std::string operator()(const Value& v) const { return print_value(v); }
    std::string operator()(const GraphPtr& v) const { return "graph " + v->name(); }
    std::string operator()(const Type& v) const { return v.to_string(); }
    std::string operator()(const std::vector<float>& v) const { return print_list(v, print_float); }
    std::string operator()(const std::vector<int64_t>& v) const {
      return print_list(v, [](int64_t i) { return std::to_string(i); });
    }
    std::string operator()(const std::vector<std::string>& v) const {
      return print_list(v, [](const std::string& s) { return '"' + s + '"'; });
    }
    std::string operator()(const std::vector<Tensor>& v) const { return print_list(v, print_tensor); }
    std::string operator()(const std::vector<GraphPtr>& v) const {
      return print_list(v, [](const GraphPtr& g) { return "graph " + g->name(); });
    }
    std::string operator()(const std::vector<Type>& v) const {
      return print_list(v, [](const Type& t) { return t.to_string(); });
    }
  };
  return std::visit(Printer{}, attribute);
}

std::string print_graph(const Graph& graph) {
  std::ostringstream out;
  print_into(out, graph, "");
  return out.str();
}

}  // namespace sardonyx
