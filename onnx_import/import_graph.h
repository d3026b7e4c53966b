// From onnx.GraphProto to Graph: names become ids, captures become explicit, functions are inlined.
#pragma once

#include <onnx/onnx_pb.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "graph/builder.h"
#include "onnx_import/functions.h"
#include "onnx_import/import_tensor.h"

namespace sardonyx {

// Memory that a node, value or attribute takes besides its name and contents, roughly.
inline constexpr size_t kNodeBytes = 256, kValueBytes = 128, kAttributeBytes = 64;

// Whether a type says all that it must: valid element types, an element of each sequence, optional and
// map, names of dimensions that are text.
bool is_well_formed(const onnx::TypeProto& proto);

class GraphImporter {
 public:
  // `footprint` is the size of the file; what the expanded model takes is bounded in proportion to it.
  GraphImporter(int64_t ir_version, const Functions& functions, TensorReader& tensors,
                const ImportLimits& limits, size_t footprint);
  GraphPtr import(onnx::GraphProto& graph, const Opsets& opsets);

 private:
  using Nodes = google::protobuf::RepeatedPtrField<onnx::NodeProto>;

  // The captures of one node: values of the graph around its bodies, shared by all of them.
  struct Captures {
    std::vector<ValueId> outer;
    std::unordered_map<ValueId, size_t> index;
  };
  // A graph being built. Bodies know the frame around them and the node that they belong to.
  struct Frame {
    GraphBuilder builder;
    Frame* parent = nullptr;
    Captures* captures = nullptr;
    std::unordered_map<ValueId, ValueId> inside;  // of captured values, by their id outside
  };
  struct Scope;
  // What an attribute parameter stands for: a message and the scope in which a graph in it finds its names.
  struct Binding {
    onnx::AttributeProto* proto = nullptr;
    const Scope* scope = nullptr;
  };
  using Bindings = std::unordered_map<std::string, Binding>;
  // Names of a graph or of the inlined body of a function; several scopes may lie in one frame.
  struct Scope {
    const Scope* parent = nullptr;  // null for the main graph and for functions
    Frame* frame = nullptr;
    const Opsets* opsets = nullptr;
    const Bindings* bindings = nullptr;                   // null outside functions
    std::string prefix;                                   // of names of nodes and values
    std::unordered_map<std::string_view, ValueId> names;  // kNone: an omitted input of a function
  };
  enum class GraphRole { Main, Branch, Loop };  // Branch: a body without formal inputs
  using Hints = std::unordered_map<std::string_view, const onnx::TypeProto*>;

  void import_into(Scope& scope, onnx::GraphProto& graph, GraphRole role);
  void declare_initializers(Scope& scope, onnx::GraphProto& graph, GraphRole role);
  void declare_input(Scope& scope, const onnx::ValueInfoProto& input, const Tensor* initializer,
                     GraphRole role);
  // Gives every output of the nodes an id, so that nodes may stand in any order; Constant nodes become
  // constants. `known` are outputs of a function call that exist already.
  void declare_outputs(Scope& scope, Nodes& nodes, const Hints& hints,
                       std::unordered_map<std::string_view, ValueId> known = {});
  void declare(Scope& scope, const std::string& name, ValueId id);
  void import_nodes(Scope& scope, Nodes& nodes);
  void import_node(Scope& scope, onnx::NodeProto& proto);
  void import_attributes(Scope& scope, onnx::NodeProto& proto, Node& node);
  std::optional<Attribute> plain_attribute(onnx::AttributeProto& proto);
  std::unique_ptr<Frame> import_body(Scope& scope, const Scope& names, onnx::GraphProto& graph,
                                     Captures& captures, GraphRole role);
  void inline_call(Scope& scope, onnx::NodeProto& call, const Function& function);
  Bindings bind(Scope& scope, onnx::NodeProto& call, const Function& function);
  // The message that an attribute stands for; null for a parameter that the call leaves out.
  Binding resolve(const Scope& scope, onnx::AttributeProto& attribute);
  bool is_constant_node(const onnx::NodeProto& proto) const;
  Value constant_value(const Scope& scope, onnx::NodeProto& proto);

  // The id of a name as seen in a frame, captured through every frame between. ModelError when undefined.
  ValueId find(const Scope& scope, Frame& frame, const std::string& name);
  ValueId captured(Frame& frame, const Frame& home, ValueId id);
  void charge(size_t bytes);
  void charge_node(const onnx::NodeProto& proto);

  int64_t ir_version_;
  const Functions& functions_;
  TensorReader& tensors_;
  const ImportLimits& limits_;
  int64_t nodes_ = 0;
  int64_t depth_ = 0;
  uint64_t streams_ = 0;
  size_t footprint_ = 0, max_footprint_;
};

}  // namespace sardonyx
