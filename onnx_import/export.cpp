#include "onnx_import/export.h"

#include <fcntl.h>
#include <google/protobuf/io/zero_copy_stream_impl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>

#include "onnx_import/export_graph.h"
#include "onnx_import/export_opset.h"

namespace sardonyx {

namespace {

constexpr int64_t kMostBytes = std::numeric_limits<int>::max();
// Past this much of tensors a model is written with external data; the rest is room for the graph.
constexpr int64_t kMostInline = int64_t{1900} << 20;
constexpr int64_t kExternalFrom = 1024;

int64_t tensor_bytes(const Graph& graph) {
  int64_t bytes = 0;
  for (const ValueInfo& value : graph.values())
    if (value.kind != ValueKind::Transient && value.constant.is_tensor())
      bytes += stored_bytes(value.constant.tensor());
  for (const Node& node : graph.nodes())
    for (const auto& [name, attribute] : node.attributes) {
      if (const auto* body = std::get_if<GraphPtr>(&attribute); body && *body) bytes += tensor_bytes(**body);
      if (const auto* bodies = std::get_if<std::vector<GraphPtr>>(&attribute))
        for (const GraphPtr& each : *bodies) bytes += tensor_bytes(*each);
      if (const auto* value = std::get_if<Value>(&attribute); value && value->is_tensor())
        bytes += stored_bytes(value->tensor());
    }
  return bytes;
}

onnx::ModelProto message_of(const Model& model, const GraphPtr& graph, const ExportOptions& options,
                            TensorWriter& tensors) {
  const std::map<std::string, int> opsets = choose_opsets(*graph, options.opset);
  onnx::ModelProto proto;
  proto.set_ir_version(choose_ir(opsets, *graph));
  for (const auto& [domain, version] : opsets) {
    auto* import = proto.add_opset_import();
    import->set_domain(domain);
    import->set_version(version);
  }
  proto.set_producer_name(model.producer_name.empty() ? "sardonyx" : model.producer_name);
  proto.set_producer_version(model.producer_name.empty() ? SARDONYX_VERSION : model.producer_version);
  if (!model.domain.empty()) proto.set_domain(model.domain);
  if (model.model_version != 0) proto.set_model_version(model.model_version);
  if (!model.doc_string.empty()) proto.set_doc_string(model.doc_string);
  for (const auto& [key, value] : model.metadata) {
    auto* entry = proto.add_metadata_props();
    entry->set_key(key);
    entry->set_value(value);
  }
  GraphExporter(opsets, tensors).write(*graph, *proto.mutable_graph());
  if (static_cast<int64_t>(proto.ByteSizeLong()) > kMostBytes)
    throw LimitError("model", "at most 2 GB, or external data",
                     std::to_string(proto.ByteSizeLong()) + " bytes");
  return proto;
}

// A file that vanishes unless it is renamed into place.
class Draft {
 public:
  explicit Draft(const std::string& path) : final_(path) {
    static std::atomic<int> count{0};
    draft_ = path + ".tmp" + std::to_string(::getpid()) + "-" + std::to_string(++count);
  }
  ~Draft() {
    if (!draft_.empty()) ::unlink(draft_.c_str());
  }
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;
  const std::string& path() const { return draft_; }
  void publish() {
    if (::rename(draft_.c_str(), final_.c_str()) != 0)
      throw FileError("file '" + final_ + "'", "a writable file", std::strerror(errno));
    draft_.clear();
  }

 private:
  std::string final_, draft_;
};

void write_message(const onnx::ModelProto& proto, const std::string& path) {
  const auto fail = [&](int error) {
    throw FileError("file '" + path + "'", "a writable file", std::strerror(error));
  };
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) fail(errno);
  google::protobuf::io::FileOutputStream stream(fd, 1 << 20);
  stream.SetCloseOnDelete(true);
  if (!proto.SerializeToZeroCopyStream(&stream) || !stream.Flush())
    fail(stream.GetErrno() ? stream.GetErrno() : EIO);
  if (::fsync(fd) != 0) fail(errno);
}

}  // namespace

std::string export_bytes(const Model& model, const ExportOptions& options) {
  const GraphPtr graph = expressible(model.graph);
  const int64_t bytes = tensor_bytes(*graph);
  if (bytes > kMostBytes)
    throw LimitError("model in memory", "at most 2 GB; write it to a file", std::to_string(bytes) + " bytes");
  TensorWriter tensors;
  std::string result;
  if (!message_of(model, graph, options, tensors).SerializeToString(&result))
    throw LimitError("model in memory", "at most 2 GB", "more");
  return result;
}

void export_file(const Model& model, const std::string& path, const ExportOptions& options) {
  const std::filesystem::path target(path);
  const std::filesystem::path data_name = target.filename().string() + ".data";
  const GraphPtr graph = expressible(model.graph);
  Draft draft(path);
  if (options.external_bytes <= 0 && tensor_bytes(*graph) <= kMostInline) {
    TensorWriter tensors;
    write_message(message_of(model, graph, options, tensors), draft.path());
    draft.publish();
  } else {
    Draft data((target.parent_path() / data_name).string());
    TensorWriter tensors(data.path(), data_name.string(),
                         options.external_bytes > 0 ? options.external_bytes : kExternalFrom);
    write_message(message_of(model, graph, options, tensors), draft.path());
    tensors.finish();
    // The data first: a model never names a file that is not there.
    if (tensors.used()) data.publish();
    draft.publish();
  }
  const std::string folder = target.parent_path().empty() ? "." : target.parent_path().string();
  if (const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); fd >= 0) {
    ::fsync(fd);
    ::close(fd);
  }
}

}  // namespace sardonyx
