#include "graph/graph.h"

namespace sardonyx {

std::string describe(const Graph& graph, const Node& node) {
  std::string name = node.name;
  for (size_t i = 0; name.empty() && i < node.outputs.size(); ++i)
    if (node.outputs[i] != kNone) name = graph.value(node.outputs[i]).name;
  return "'" + name + "' (" + (node.domain.empty() ? "" : node.domain + ".") + node.op + ")";
}

ValueId Graph::find(const std::string& value_name) const {
  for (size_t i = 0; i < values_.size(); ++i)
    if (values_[i].name == value_name) return static_cast<ValueId>(i);
  return kNone;
}

}  // namespace sardonyx
