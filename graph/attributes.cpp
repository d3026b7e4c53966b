#include "graph/attributes.h"

namespace sardonyx {

const char* attribute_type_name(const Attribute& attribute) {
  static constexpr const char* kNames[] = {"FLOAT",  "INT",  "STRING",  "TENSOR",  "GRAPH",  "TYPE_PROTO",
                                           "FLOATS", "INTS", "STRINGS", "TENSORS", "GRAPHS", "TYPE_PROTOS"};
  if (const auto* value = std::get_if<Value>(&attribute); value && value->is_sparse()) return "SPARSE_TENSOR";
  return kNames[attribute.index()];
}

const Attribute* Attributes::find(const std::string& name) const {
  const auto it = map_.find(name);
  return it == map_.end() ? nullptr : &it->second;
}

void Attributes::wrong_type(const std::string& name, const char* got) {
  throw ModelError("attribute '" + name + "'", "another type", got);
}

void Attributes::missing(const std::string& name) {
  throw ModelError("attribute '" + name + "'", "a value", "none");
}

}  // namespace sardonyx
