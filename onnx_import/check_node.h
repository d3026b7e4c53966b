// Whether a node is one that its operator's schema allows, as far as that shows without types.
#pragma once

#include <onnx/onnx_pb.h>

#include "ops/registry/schema.h"

namespace sardonyx {

// ModelError for a wrong number of inputs or outputs, an omitted required one, an attribute that is unknown
// or of another type, or a required attribute that is missing.
void check_node(const onnx::NodeProto& node, const OpSchemaInfo& schema);

}  // namespace sardonyx
