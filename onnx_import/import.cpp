#include "onnx_import/import.h"

#include <onnx/onnx_pb.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <optional>

#include "onnx_import/external_data.h"
#include "onnx_import/functions.h"
#include "onnx_import/import_graph.h"
#include "onnx_import/outline.h"
#include "onnx_import/parse.h"

namespace sardonyx {

namespace {

constexpr int64_t kNewestIr = 14;
// Of files of this size, tensors of this size stay in the file until they are needed. Smaller files are
// copied: they are more likely to be written to while they are in use.
constexpr size_t kMappedFile = size_t{32} << 20, kMappedTensor = size_t{64} << 10;

// Whatever the caller allows, the importer recurses over nesting and counts bytes in 64 bits.
ImportLimits bounded(ImportLimits limits) {
  limits.max_nesting = std::min<int64_t>(limits.max_nesting, 512);
  limits.max_nodes = std::clamp<int64_t>(limits.max_nodes, 0, int64_t{1} << 31);
  return limits;
}

Opsets model_opsets(const onnx::ModelProto& proto) {
  Opsets opsets = read_opsets(proto.opset_import());
  if (opsets.empty() && proto.ir_version() >= 3)
    throw ModelError("opset_import", "at least one operator set", "none");
  // Before IR 3 there was one operator set, without a number.
  if (proto.ir_version() < 3)
    for (const char* domain : {"", "ai.onnx.ml"}) opsets.try_emplace(domain, 1);
  return opsets;
}

// `file`: where the bytes lie, if large tensors may stay there until they are needed.
std::shared_ptr<const Model> import_message(const void* data, size_t bytes, const std::string& folder,
                                            const ImportLimits& requested,
                                            std::shared_ptr<const MappedFile> file = nullptr) {
  if (bytes > static_cast<size_t>(std::numeric_limits<int>::max()))
    throw LimitError("model", "at most 2 GB without its external data", std::to_string(bytes) + " bytes");
  onnx::ModelProto proto;
  std::optional<Outline> outline;
  if (file) outline = outline_model(data, bytes, kMappedTensor);
  if (outline ? !parse_message(outline->bytes.data(), outline->bytes.size(), proto)
              : !parse_message(data, bytes, proto))
    throw ModelError("model", "a serialized onnx.ModelProto",
                     "bytes that are damaged, truncated, or nested deeper than " +
                         std::to_string(kMaxMessageDepth) + " messages");
  if (proto.ir_version() < 1)
    throw ModelError("ir_version", "1 to " + std::to_string(kNewestIr), std::to_string(proto.ir_version()));
  if (proto.ir_version() > kNewestIr)
    throw UnsupportedError("ir_version", "at most " + std::to_string(kNewestIr),
                           std::to_string(proto.ir_version()));
  if (!proto.has_graph()) throw ModelError("model", "a graph", "none");

  auto model = std::make_shared<Model>();
  model->ir_version = proto.ir_version();
  model->opsets = model_opsets(proto);
  model->producer_name = proto.producer_name();
  model->producer_version = proto.producer_version();
  model->domain = proto.domain();
  model->doc_string = proto.doc_string();
  model->model_version = proto.model_version();
  for (const auto* text :
       {&model->producer_name, &model->producer_version, &model->domain, &model->doc_string})
    check_text(*text, "text of the model");
  for (const auto& entry : proto.metadata_props()) {
    check_text(entry.key(), "metadata key");
    check_text(entry.value(), "metadata value");
    model->metadata.emplace(entry.key(), entry.value());
  }

  for (const auto& tensor : proto.graph().initializer()) model->initializers.push_back(tensor.name());

  const ImportLimits limits = bounded(requested);
  const Functions functions(proto, model->opsets);
  survey(proto.graph(), model->opsets, functions, limits);
  TensorReader tensors(folder);
  if (outline) tensors.outlined(std::move(outline->regions), file);
  GraphImporter importer(proto.ir_version(), functions, tensors, limits, bytes);
  model->graph = importer.import(*proto.mutable_graph(), model->opsets);
  if (file) file->close(0, bytes);
  return model;
}

}  // namespace

std::shared_ptr<const Model> import_file(const std::string& path, const ImportLimits& limits) {
  const auto file = std::make_shared<MappedFile>(path);
  std::string folder = std::filesystem::path(path).parent_path().string();
  if (folder.empty()) folder = ".";
  try {
    auto model = std::make_shared<Model>(*import_message(file->data(), file->bytes(), folder, limits,
                                                         file->bytes() >= kMappedFile ? file : nullptr));
    model->path = path;
    return model;
  } catch (Error& error) {
    error.add_file(path);
    throw;
  }
}

std::shared_ptr<const Model> import_bytes(const void* data, size_t bytes, const std::string& folder,
                                          const std::string& display_name, const ImportLimits& limits) {
  try {
    return import_message(data, bytes, folder, limits);
  } catch (Error& error) {
    if (!display_name.empty()) error.add_file(display_name);
    throw;
  }
}

}  // namespace sardonyx
