// ONNX's operator schemas, seen through our own types; no ONNX header is needed to use them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "graph/builder.h"
#include "graph/evaluate.h"
#include "graph/graph.h"

namespace sardonyx {

struct PortSchema {
  std::string name;
  bool optional = false;
  bool variadic = false;
  std::vector<std::string> types;  // "tensor(float)", "seq(tensor(int64))", ...
};

struct AttributeSchema {
  std::string name;
  std::string type;  // "INT", "FLOATS", ...
  bool required = false;
  std::optional<Attribute> initial;
};

struct OpSchemaInfo {
  std::string domain, name;
  int since_version = 0;
  bool deprecated = false;
  bool has_function = false;
  int min_inputs = 0, max_inputs = 0, min_outputs = 0, max_outputs = 0;
  std::vector<PortSchema> inputs, outputs;
  std::vector<AttributeSchema> attributes;
};

// The schema in force at `version` of `domain` (0: the canonical opset); null when the operator does not
// exist there.
const OpSchemaInfo* find_schema(const std::string& domain, const std::string& name, int version);
// Every operator at its newest version, ordered by domain and name.
std::vector<const OpSchemaInfo*> newest_schemas();
// The opset that graphs are upgraded to: the newest the linked ONNX knows; 0 for an unknown domain.
int canonical_opset(const std::string& domain);
// Versions in which the operator exists at all ("1, 7, 13"); empty when it is unknown.
std::vector<int> schema_versions(const std::string& domain, const std::string& name);

// The decomposition of a node by its schema's own function body, appended to the builder; empty when the
// schema has none for these types.
std::vector<ValueId> expand_schema_function(GraphBuilder& builder, const Node& node);

// Fills in the types of every value, bodies included; `evaluator` (may be null) computes small integer
// values that shapes depend on. ModelError when a node contradicts its schema: file and node are named.
GraphPtr infer_types(const GraphPtr& graph, Evaluator* evaluator);

}  // namespace sardonyx
