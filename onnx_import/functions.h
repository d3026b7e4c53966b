// The functions of a model, and what is checked about a model before anything of it is expanded.
#pragma once

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <map>
#include <string>
#include <tuple>

#include "onnx_import/import.h"

namespace sardonyx {

// Opset version by domain; "ai.onnx" is spelled "".
using Opsets = std::map<std::string, int64_t>;

std::string normalized_domain(const std::string& domain);
// Of an opset_import list; the highest version counts where a domain is named twice. ModelError for a
// version below 1, UnsupportedError for one of a known domain that is newer than the linked ONNX.
Opsets read_opsets(const google::protobuf::RepeatedPtrField<onnx::OperatorSetIdProto>& list);

// ModelError when a name or other text of a file is not UTF-8; `what` says what it is the name of.
void check_text(const std::string& text, const char* what);
bool is_utf8(const std::string& text);

// "'conv1' (Conv)"; a node without a name is called by its first output.
std::string describe(const onnx::NodeProto& node);

struct Function {
  onnx::FunctionProto* proto = nullptr;
  Opsets opsets;
};

class Functions {
 public:
  // ModelError when a function is defined twice.
  Functions(onnx::ModelProto& model, const Opsets& model_opsets);
  // The function that a node calls, or null: a function of the model comes before an operator.
  const Function* find(const onnx::NodeProto& node) const;

 private:
  std::map<std::tuple<std::string, std::string, std::string>, Function> functions_;
};

// The opset version of a node's domain in its scope. ModelError when the scope does not import it.
int64_t opset_of(const Opsets& opsets, const onnx::NodeProto& node);

// A walk over everything that the main graph reaches, each function once. LimitError when the expanded
// model would exceed the limits, ModelError for a recursive function, UnsupportedError that lists all
// operators that do not exist.
void survey(const onnx::GraphProto& graph, const Opsets& opsets, const Functions& functions,
            const ImportLimits& limits);

}  // namespace sardonyx
