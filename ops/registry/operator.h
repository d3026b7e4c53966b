// What an operator is: its schema (from ONNX's OpSchema), and what its family adds in ops/<family>.cpp.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "graph/builder.h"
#include "graph/graph.h"

namespace sardonyx {

// The domain of the operators that ONNX lacks, which all decompose into ones that it has.
inline constexpr const char* kOwnDomain = "ai.sardonyx";

// The vocabulary in which decompositions are written: the node at hand, the types of its inputs, and
// operators appended to a builder. Ids are values of the builder's graph.
class Compose {
 public:
  Compose(GraphBuilder& builder, const Node& node, uint64_t stream = 0)
      : builder_(builder), node_(node), stream_(stream) {}

  const Node& node() const { return node_; }
  GraphBuilder& builder() { return builder_; }
  bool has(size_t i) const { return node_.input(i) != kNone; }
  ValueId in(size_t i) const { return node_.input(i); }
  bool wants(size_t i) const { return node_.output(i) != kNone; }
  // The type of an input, valid until something is appended; a tensor of Unknown dtype cannot occur after
  // inference.
  const Type& type(size_t i) const { return builder_.graph().value(in(i)).type; }
  DType dtype(size_t i) const { return type(i).dtype; }
  // -1 when unknown.
  int rank(size_t i) const { return type(i).rank(); }
  // The rank, or ModelError saying that this decomposition needs it.
  int need_rank(size_t i) const;
  // The value of input i when it is a constant tensor, else null.
  const Tensor* constant(size_t i) const;

  template <typename Struct>
  Struct attributes() const {
    return parse_attributes<Struct>(node_.attributes);
  }

  ValueId op(const std::string& name, std::vector<ValueId> inputs, Attributes attributes = {}) {
    return builder_.op(name, std::move(inputs), std::move(attributes));
  }
  std::vector<ValueId> ops(const std::string& name, std::vector<ValueId> inputs, size_t outputs,
                           Attributes attributes = {}) {
    return builder_.ops(name, std::move(inputs), outputs, std::move(attributes));
  }
  // An operator of kOwnDomain with one output.
  ValueId own(const std::string& name, std::vector<ValueId> inputs, Attributes attributes = {}) {
    return builder_.ops(name, std::move(inputs), 1, std::move(attributes), kOwnDomain)[0];
  }
  ValueId add(ValueId a, ValueId b) { return op("Add", {a, b}); }
  ValueId sub(ValueId a, ValueId b) { return op("Sub", {a, b}); }
  ValueId mul(ValueId a, ValueId b) { return op("Mul", {a, b}); }
  ValueId div(ValueId a, ValueId b) { return op("Div", {a, b}); }
  ValueId neg(ValueId a) { return op("Neg", {a}); }
  ValueId where(ValueId c, ValueId a, ValueId b) { return op("Where", {c, a, b}); }
  ValueId cast(ValueId x, DType to) {
    return op("Cast", {x}, sardonyx::attributes({{"to", static_cast<int64_t>(to)}}));
  }
  // A scalar constant of the given dtype (any float, integer or bool).
  ValueId scalar(DType dtype, double value);
  ValueId shape_of(ValueId x) { return op("Shape", {x}); }
  ValueId transpose(ValueId x, std::vector<int64_t> perm) {
    return op("Transpose", {x}, sardonyx::attributes({{"perm", std::move(perm)}}));
  }
  // Sums over constant axes.
  ValueId reduce_sum(ValueId x, std::vector<int64_t> axes, bool keepdims = true) {
    return op("ReduceSum", {x, ints(std::move(axes))},
              sardonyx::attributes({{"keepdims", int64_t{keepdims}}}));
  }
  // A one-dimensional int64 constant.
  ValueId ints(std::vector<int64_t> values);

 private:
  GraphBuilder& builder_;
  const Node& node_;
  uint64_t stream_;
};

// Appends the operators that compute the node and returns its outputs, one id for each declared output
// (kNone for an output the node does not want). An empty vector declines: not for this node.
using Decompose = std::function<std::vector<ValueId>(Compose&)>;

class Differentiate;
// Appends what gives the cotangents of a node's inputs (ops/registry/gradient.h).
using Gradient = std::function<void(Differentiate&)>;

// An input or output of an operator of this project's own.
struct OwnInput {
  std::string name;
  std::string type = "T";  // "T": a float type, the same everywhere; else ONNX's name, "tensor(int64)"
  bool optional = false;
};
struct OwnInference {
  std::vector<Type> inputs;
  std::function<int64_t(const std::string& name)> attribute;  // an INT; 0 where it is left out
};
struct OwnOutput {
  std::string name;
  int dtype_of = 0;  // the input whose dtype it has
  int dims_of = -1;  // the input whose dims it has, or
  int dims_in = -1;  // the input whose numbers are its dims, or
  // what gives them; nothing: they are unknown
  std::function<std::optional<Shape>(const OwnInference&)> dims = {};
};
struct OwnSchema {
  std::vector<OwnInput> inputs;
  std::vector<OwnOutput> outputs;
};
// The dims of a node's inputs or outputs: nothing for a port that is left out, is no tensor, or is of unknown
// shape.
using PortDims = std::vector<std::optional<Dims>>;

// What the operations of a node are counted from.
struct FlopPorts {
  const Node& node;
  const PortDims &inputs, &outputs;
  // Null where the dims are not known, or of another rank (0: any but zero).
  const Dims* in(size_t i, size_t rank = 0) const { return of(inputs, i, rank); }
  const Dims* out(size_t i, size_t rank = 0) const { return of(outputs, i, rank); }

 private:
  static const Dims* of(const PortDims& ports, size_t i, size_t rank) {
    if (i >= ports.size() || !ports[i] || ports[i]->empty()) return nullptr;
    return rank == 0 || ports[i]->size() == rank ? &*ports[i] : nullptr;
  }
};
// Floating-point operations (a multiply-add counts as two) of a contraction; nothing where dims are missing.
using CountFlops = std::function<std::optional<double>(const FlopPorts&)>;

// Name, type and default of each member of an operator's attribute struct, for the test that holds them
// equal to the OpSchema's.
struct AttributeSpec {
  std::string name;
  std::optional<Attribute> initial;  // absent for an attribute without a default
};

// What becomes of an operator on f32 in precision "medium", which stores bf16 and computes in f32.
enum class Narrow : uint8_t {
  Never,   // stays f32: shapes, sums over long axes, functions that magnify the error of their argument
  Always,  // products of many terms, which are what makes bf16 fast
  Between  // bf16 where its input is bf16 already, so that neighbours of products need no conversion
};

struct Operator {
  std::string domain, name;
  std::vector<int> host_operands;  // inputs whose values, not only shapes, decide output shapes or the kernel
  Decompose decompose;             // empty for a primitive
  std::vector<AttributeSpec> attribute_specs;
  bool has_attribute_struct = false;
  bool impure = false;  // draws random numbers: never folded or merged
  // Each element of the output depends on the elements at its place in the (broadcast) inputs, and on no
  // axis; where `elementwise_where` is given, for the nodes of which it says so.
  bool is_elementwise = false;
  std::function<bool(const Graph&, const Node&)> elementwise_where;
  // An elementwise operator so cheap that every group of elementwise nodes that reads it computes it itself.
  bool is_computed_where_read = false;
  bool elementwise_in(const Graph& graph, const Node& node) const {
    return is_elementwise && (!elementwise_where || elementwise_where(graph, node));
  }
  Narrow narrow = Narrow::Never;
  std::vector<int> narrow_inputs;   // those that become bf16; empty: every one that is f32
  std::vector<int> narrow_outputs;  // the same
  bool keeps_constants = false;     // a constant operand may stay f32 beside bf16
  bool keeps_outputs = false;       // outputs stay f32
  Gradient gradient;                // empty: that of its decomposition, or none
  std::string no_gradient;          // why there is none
  std::optional<OwnSchema> own;     // for operators of kOwnDomain
  CountFlops count_flops;           // empty for operators whose time is that of moving their data

  Operator& shape_operands(std::vector<int> inputs) {
    host_operands = std::move(inputs);
    return *this;
  }
  Operator& decomposes(Decompose f) {
    decompose = std::move(f);
    return *this;
  }
  // Decomposed by the function body of ONNX's own schema. Only for bodies that are equal to the `ref`
  // kernels or a closed form in f64 on extreme inputs: many compute in f32 or overflow.
  Operator& decomposes_by_schema();
  Operator& differentiates(Gradient f) {
    gradient = std::move(f);
    return *this;
  }
  // Its derivative is zero wherever there is one: nothing flows back.
  Operator& gradient_is_zero() {
    return differentiates([](Differentiate&) {});
  }
  Operator& non_differentiable(std::string why) {
    no_gradient = std::move(why);
    return *this;
  }
  // Gives an operator of kOwnDomain its ports.
  Operator& ports(std::vector<OwnInput> inputs, std::vector<OwnOutput> outputs) {
    own = OwnSchema{std::move(inputs), std::move(outputs)};
    return *this;
  }
  Operator& flops(CountFlops f) {
    count_flops = std::move(f);
    return *this;
  }
  Operator& random() {
    impure = true;
    return *this;
  }
  Operator& elementwise(std::function<bool(const Graph&, const Node&)> where = {}) {
    is_elementwise = true;
    elementwise_where = std::move(where);
    return *this;
  }
  Operator& computed_where_read() {
    is_computed_where_read = true;
    return *this;
  }
  // Of the inputs and of the outputs those that are not named keep f32: biases, scales, masks, statistics.
  // Without names all of them become bf16.
  Operator& narrows(Narrow how, std::vector<int> inputs = {}, std::vector<int> outputs = {}) {
    narrow = how;
    narrow_inputs = std::move(inputs);
    narrow_outputs = std::move(outputs);
    return *this;
  }
  Operator& constants_stay() {
    keeps_constants = true;
    return *this;
  }
  Operator& outputs_stay() {
    keeps_outputs = true;
    return *this;
  }
  template <typename Struct>
  Operator& attributes() {
    has_attribute_struct = true;
    Struct initial;
    initial.visit([&](const char* name, auto& member) {
      using T = std::decay_t<decltype(member)>;
      if constexpr (requires {
                      typename T::value_type;
                      member.has_value();
                    })
        attribute_specs.push_back({name, std::nullopt});
      else
        attribute_specs.push_back({name, Attribute(member)});
    });
    return *this;
  }
};

// The operators with something of their own; others are known by schema alone.
class OperatorRegistry {
 public:
  // The entry of an operator, made when it is first asked for.
  Operator& op(const std::string& name, const std::string& domain = "");
  const Operator* find(const std::string& domain, const std::string& name) const;
  const std::map<std::pair<std::string, std::string>, Operator>& all() const { return operators_; }
  // Filled once from every ops/<family>.cpp.
  static const OperatorRegistry& instance();

 private:
  std::map<std::pair<std::string, std::string>, Operator> operators_;
};

}  // namespace sardonyx
