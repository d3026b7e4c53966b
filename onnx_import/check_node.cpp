#include "onnx_import/check_node.h"

#include <algorithm>
#include <limits>

namespace sardonyx {

namespace {

template <typename Names>
int count_without_tail(const Names& names) {
  int count = names.size();
  while (count > 0 && names[count - 1].empty()) --count;
  return count;
}

void check_count(const char* what, int count, int least, int most) {
  if (count >= least && count <= most) return;
  const bool open = most == std::numeric_limits<int>::max();
  const std::string range = least == most ? std::to_string(least)
                            : open        ? "at least " + std::to_string(least)
                                          : std::to_string(least) + " to " + std::to_string(most);
  throw ModelError(what, range, std::to_string(count));
}

bool is_empty_list(const onnx::AttributeProto& attribute) {
  using Proto = onnx::AttributeProto;
  const auto type = attribute.type();
  return (type == Proto::INTS || type == Proto::FLOATS || type == Proto::STRINGS) &&
         attribute.ints_size() == 0 && attribute.floats_size() == 0 && attribute.strings_size() == 0;
}

}  // namespace

void check_node(const onnx::NodeProto& node, const OpSchemaInfo& schema) {
  const int inputs = count_without_tail(node.input());
  check_count("inputs", inputs, schema.min_inputs, schema.max_inputs);
  check_count("outputs", count_without_tail(node.output()), schema.min_outputs, schema.max_outputs);
  for (int i = 0; i < inputs && i < static_cast<int>(schema.inputs.size()); ++i) {
    const PortSchema& port = schema.inputs[static_cast<size_t>(i)];
    if (node.input(i).empty() && !port.optional && !port.variadic)
      throw ModelError("input '" + port.name + "'", "a value", "none");
  }
  for (const auto& attribute : node.attribute()) {
    const auto known = std::find_if(schema.attributes.begin(), schema.attributes.end(),
                                    [&](const AttributeSchema& a) { return a.name == attribute.name(); });
    const std::string what = "attribute '" + attribute.name() + "'";
    if (known == schema.attributes.end())
      throw ModelError(what, "an attribute of " + schema.name, "an unknown one");
    // IR 1 wrote no types, and some writers give an empty list the type of another list.
    if (attribute.type() == onnx::AttributeProto::UNDEFINED || is_empty_list(attribute)) continue;
    const std::string& type = onnx::AttributeProto_AttributeType_Name(attribute.type());
    if (type != known->type) throw ModelError(what, known->type, type);
  }
  for (const AttributeSchema& wanted : schema.attributes) {
    if (!wanted.required) continue;
    const auto& given = node.attribute();
    if (std::none_of(given.begin(), given.end(), [&](const auto& a) { return a.name() == wanted.name; }))
      throw ModelError("attribute '" + wanted.name + "'", "a value of type " + wanted.type, "none");
  }
}

}  // namespace sardonyx
