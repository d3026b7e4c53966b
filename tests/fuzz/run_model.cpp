#include "tests/fuzz/run_model.h"

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <random>
#include <string>
#include <thread>

#include "graph/builder.h"
#include "onnx_import/import.h"
#include "sardonyx/session.h"

namespace sardonyx::test {

namespace {

constexpr int64_t kLargestFeed = 1 << 16;

// Cancels what is watched when its time is over. One thread for all runs: starting one costs more than a
// small model does.
class Watchdog {
 public:
  static Watchdog& instance() {
    static Watchdog* const dog = new Watchdog;  // outlives the exit handlers: its thread never ends
    return *dog;
  }
  void watch(const CancelToken& token) {
    std::lock_guard lock(mutex_);
    token_ = token;
    until_ = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  }

 private:
  Watchdog() {
    std::thread([this] {
      for (;;) {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        std::lock_guard lock(mutex_);
        if (token_ && std::chrono::steady_clock::now() > until_) token_->cancel();
      }
    }).detach();
  }
  std::mutex mutex_;
  std::optional<CancelToken> token_;
  std::chrono::steady_clock::time_point until_;
};

template <typename T>
void fill(Tensor& tensor, const std::function<double()>& number) {
  T* data = tensor.mutable_data<T>();
  for (int64_t i = 0; i < tensor.size(); ++i) data[i] = static_cast<T>(number());
}

Tensor feed(DType dtype, const Dims& dims, std::mt19937* random) {
  if (element_count(dims) > kLargestFeed)
    throw LimitError("elements of a feed", std::to_string(kLargestFeed), to_string(dims));
  Tensor tensor = Tensor::zeros(dtype, dims);
  if (!random) return tensor;
  const auto real = [random] { return static_cast<double>((*random)() % 1000) / 250 - 2; };
  const auto whole = [random] { return static_cast<double>((*random)() % 6) - 2; };
  const auto natural = [random] { return static_cast<double>((*random)() % 4); };
  switch (dtype) {
    case DType::Float32:
      fill<float>(tensor, real);
      break;
    case DType::Float64:
      fill<double>(tensor, real);
      break;
    case DType::Int8:
      fill<int8_t>(tensor, whole);
      break;
    case DType::Int16:
      fill<int16_t>(tensor, whole);
      break;
    case DType::Int32:
      fill<int32_t>(tensor, whole);
      break;
    case DType::Int64:
      fill<int64_t>(tensor, whole);
      break;
    case DType::Bool:
      for (int64_t i = 0; i < tensor.size(); ++i) tensor.mutable_data<bool>()[i] = (*random)() % 2 != 0;
      break;
    case DType::String:
      for (int64_t i = 0; i < tensor.size(); ++i)
        tensor.mutable_data<std::string>()[i] = std::string((*random)() % 5, 'a');
      break;
    default:  // the other types have a meaning for every small bit pattern
      for (size_t i = 0; i < tensor.bytes(); ++i)
        static_cast<uint8_t*>(tensor.mutable_data())[i] = static_cast<uint8_t>(natural());
  }
  return tensor;
}

Value feed(const ValueDescription& input, int64_t dynamic, std::mt19937* random) {
  if (input.dtype == DType::Undefined) {
    if (input.type.rfind("optional(", 0) == 0) return Nothing{};
    return Sequence{};
  }
  Dims dims;
  for (const DimInfo& dim : input.shape) dims.push_back(dim.value < 0 ? dynamic : dim.value);
  return feed(input.dtype, dims, random);
}

// The same model, its inputs and outputs of any shape.
std::shared_ptr<const Model> without_shapes(const Model& model) {
  GraphBuilder builder(*model.graph);
  for (const auto& ids : {model.graph->inputs(), model.graph->outputs()})
    for (const ValueId id : ids) builder.info(id).type.shape.reset();
  auto result = std::make_shared<Model>(model);
  result->graph = std::move(builder).build();
  return result;
}

}  // namespace

void run_model(const uint8_t* data, size_t size) {
  SessionOptions options;
  options.threads = 1;
  options.limits.max_nodes = 2000;
  options.limits.max_nesting = 8;
  options.limits.max_loop_iterations = 200;
  options.limits.max_bytes = 64 << 20;
  try {
    const auto model =
        import_bytes(data, size, "", "", {options.limits.max_nodes, options.limits.max_nesting});
    std::vector<std::vector<DimInfo>> shapes;
    for (const ValueId id : model->graph->inputs()) {
      shapes.emplace_back();
      if (const auto& shape = model->graph->value(id).type.shape)
        for (const Dim& dim : *shape) shapes.back().push_back({dim.value, dim.symbol});
    }
    std::mt19937 random(static_cast<uint32_t>(size));
    for (int round = 0; round < 3; ++round) {
      try {
        // Without shapes inference lets through what kernels must then refuse themselves.
        Session session(LoadedModel(round == 2 ? without_shapes(*model) : model), options);
        Feeds feeds;
        for (size_t i = 0; i < session.inputs().size(); ++i) {
          ValueDescription input = session.inputs()[i];
          input.shape = shapes[i];
          feeds[input.name] = feed(input, 2 + round % 2, round == 0 ? nullptr : &random);
        }
        RunOptions run;
        run.cancel.emplace();
        Watchdog::instance().watch(*run.cancel);
        session.run(feeds, {}, run);
      } catch (const Error&) {
      }
    }
  } catch (const Error&) {
  }
}

}  // namespace sardonyx::test
