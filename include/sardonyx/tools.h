// Looking at models and converting them, without running them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "sardonyx/error.h"
#include "sardonyx/session.h"

namespace sardonyx {

struct ConvertOptions {
  bool optimize = false;       // write the simplified graph instead of the imported one
  int opset = 0;               // 0: the lowest in which every node means what it means here
  int64_t external_bytes = 0;  // tensors of at least this many bytes go to <file>.data; 0: only past 2 GB
};

// Rewrites a model as standard ONNX at one opset, functions inlined.
SARDONYX_API std::string convert_to_bytes(const LoadedModel& model, const ConvertOptions& options = {});
SARDONYX_API void convert_to_file(const LoadedModel& model, const std::string& path,
                                  const ConvertOptions& options = {});

// The names of the stages between a file and a run, in order.
SARDONYX_API std::vector<std::string> graph_stages();
// Everything that SessionOptions::disabled_passes may name: the passes of the stages "simplified" and
// "fused", and what a plan may do.
SARDONYX_API const std::vector<std::string>& pass_names();
// Those of one of them: "simplified", "fused" or "planned".
SARDONYX_API std::vector<std::string> pass_names(const std::string& stage);
// The graph at a stage, as text.
SARDONYX_API std::string print_stage(const LoadedModel& model, const std::string& stage,
                                     const SessionOptions& options = {});
// What a model is, as JSON: inputs, outputs, opsets, parameters, operators with counts and provider,
// floating-point operations where shapes are known, metadata; with `placement` every node and its provider.
SARDONYX_API std::string inspect_json(const LoadedModel& model, const SessionOptions& options = {},
                                      bool placement = false);
// Every operator the runtime knows, as JSON: {"operators": [{"name", "domain", "since_version", "cpu",
// "cuda", "kernels", "decomposition", "gradient", "dtypes", "test"}]}.
SARDONYX_API std::string operators_json();

// A value computed on the way, in the order of computation.
struct TracedValue {
  std::string name;
  std::string node;  // "'conv1' (Conv)"
  Value value;
};
// Runs the graph of a stage and keeps the value of every node outside bodies. Names agree between stages
// and with the file, where a value exists in both.
SARDONYX_API std::vector<TracedValue> trace(const LoadedModel& model, const std::string& stage,
                                            const Feeds& feeds, const SessionOptions& options = {});
// The model as standard ONNX with every tensor outside bodies as an output, for other engines.
SARDONYX_API std::string convert_for_trace(const LoadedModel& model);

// One serialized onnx.TensorProto ("tensor"), SequenceProto ("sequence"), OptionalProto ("optional"), ...
SARDONYX_API Value value_from_proto(const void* data, size_t bytes, const std::string& kind = "tensor");
SARDONYX_API std::string value_to_proto(const Value& value, const std::string& name = "");

}  // namespace sardonyx
