// Attributes of a node, and the visitor that turns them into an operator's attribute struct.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "graph/type.h"

namespace sardonyx {

class Graph;
using GraphPtr = std::shared_ptr<const Graph>;

// Floats are kept as ONNX keeps them (f32). Value holds a tensor or a sparse tensor.
using Attribute =
    std::variant<float, int64_t, std::string, Value, GraphPtr, Type, std::vector<float>, std::vector<int64_t>,
                 std::vector<std::string>, std::vector<Tensor>, std::vector<GraphPtr>, std::vector<Type>>;
// "INT", "FLOATS", ...: the names of onnx.AttributeProto.AttributeType.
const char* attribute_type_name(const Attribute& attribute);

class Attributes {
 public:
  bool has(const std::string& name) const { return map_.count(name) != 0; }
  // Null when absent.
  const Attribute* find(const std::string& name) const;
  void set(std::string name, Attribute value) { map_[std::move(name)] = std::move(value); }
  void erase(const std::string& name) { map_.erase(name); }
  // The attribute, or `fallback` when absent; ModelError when it has another type.
  template <typename T>
  T get(const std::string& name, T fallback) const;
  // ModelError when absent or of another type.
  template <typename T>
  const T& at(const std::string& name) const;
  bool empty() const { return map_.empty(); }
  auto begin() const { return map_.begin(); }
  auto end() const { return map_.end(); }

 private:
  [[noreturn]] static void wrong_type(const std::string& name, const char* got);
  [[noreturn]] static void missing(const std::string& name);
  std::map<std::string, Attribute> map_;
};

template <typename T>
T Attributes::get(const std::string& name, T fallback) const {
  const Attribute* found = find(name);
  if (!found) return fallback;
  if (const T* value = std::get_if<T>(found)) return *value;
  // An exporter writes an empty list without saying of what.
  if (const auto* floats = std::get_if<std::vector<float>>(found); floats && floats->empty()) return fallback;
  if (const auto* ints = std::get_if<std::vector<int64_t>>(found); ints && ints->empty()) return fallback;
  wrong_type(name, attribute_type_name(*found));
}

template <typename T>
const T& Attributes::at(const std::string& name) const {
  const Attribute* found = find(name);
  if (!found) missing(name);
  const T* value = std::get_if<T>(found);
  if (!value) wrong_type(name, attribute_type_name(*found));
  return *value;
}

// An operator's attribute struct declares its members once:
//   struct GemmAttributes {
//     float alpha = 1, beta = 1;
//     int64_t transA = 0, transB = 0;
//     template <class V> void visit(V&& v) { v("alpha", alpha); v("beta", beta); v("transA", transA);
//     v("transB", transB); }
//   };
// Members: float, int64_t, std::string, their vectors, Tensor, GraphPtr, or std::optional of these for
// attributes without a default. The initial values are the defaults of the specification.
template <typename Struct>
Struct parse_attributes(const Attributes& attributes) {
  Struct result;
  result.visit([&](const char* name, auto& member) {
    using T = std::decay_t<decltype(member)>;
    if constexpr (requires {
                    typename T::value_type;
                    member.has_value();
                  }) {
      using U = typename T::value_type;
      if (attributes.has(name)) {
        if constexpr (std::is_same_v<U, Tensor>)
          member = attributes.at<Value>(name).tensor();
        else
          member = attributes.get<U>(name, U{});
      }
    } else {
      member = attributes.get<T>(name, member);
    }
  });
  return result;
}

}  // namespace sardonyx
