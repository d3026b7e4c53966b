// From Graph to onnx.GraphProto.
#pragma once

#include <onnx/onnx_pb.h>

#include <map>
#include <string>
#include <unordered_set>
#include <vector>

#include "graph/graph.h"
#include "onnx_import/export_tensor.h"

namespace sardonyx {

// The graph with what a file cannot say made into nodes: constants that are no tensors, bodies that give
// back a value of the graph around them, outputs that are one value. UnsupportedError names a constant
// that no operator makes.
GraphPtr expressible(const GraphPtr& graph, bool is_body = false);

class GraphExporter {
 public:
  GraphExporter(const std::map<std::string, int>& opsets, TensorWriter& tensors)
      : opsets_(opsets), tensors_(tensors) {}
  void write(const Graph& graph, onnx::GraphProto& proto);

 private:
  // The names in a file of the values of one graph; no body may use a name of a graph around it again.
  struct Names {
    const Names* outer = nullptr;
    std::vector<std::string> of;  // by value id
    std::unordered_set<std::string> own;
    bool taken(const std::string& name) const { return own.count(name) || (outer && outer->taken(name)); }
  };
  void write_into(const Graph& graph, const Names* outer, const std::vector<std::string>& captured,
                  onnx::GraphProto& proto);
  void write_node(const Graph& graph, const Node& node, const Names& names, onnx::NodeProto& proto);
  void write_attribute(const std::string& name, const Attribute& attribute, const Names& names,
                       const std::vector<std::string>& captured, onnx::AttributeProto& proto);
  std::string node_name(const Node& node);

  const std::map<std::string, int>& opsets_;
  TensorWriter& tensors_;
  std::unordered_set<std::string> node_names_;
  std::map<std::string, int> unnamed_;
};

}  // namespace sardonyx
