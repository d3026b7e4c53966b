#include "sardonyx/session.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "api/pipeline.h"
#include "api/threads.h"
#include "graph/builder.h"
#include "graph/shape.h"
#include "onnx_import/import.h"
#include "providers/runtime/executor.h"

namespace sardonyx {

const char* version() { return SARDONYX_VERSION; }

LoadedModel LoadedModel::from_file(const std::string& path) { return LoadedModel(import_file(path)); }
LoadedModel LoadedModel::from_bytes(const void* data, size_t bytes, const std::string& folder) {
  return LoadedModel(import_bytes(data, bytes, folder));
}

namespace {

std::string shape_text(const ValueDescription& d) {
  Shape shape;
  for (const auto& dim : d.shape) shape.push_back(dim.value >= 0 ? Dim(dim.value) : Dim(dim.name));
  return to_string(shape);
}

// InputError where a value is not what the input takes.
void check_feed(const ValueDescription& d, const Value& value) {
  const auto refuse = [&](const std::string& expected, const std::string& got) {
    throw InputError("input '" + d.name + "'", expected, got);
  };
  if (d.dtype == DType::Undefined) {
    if (d.type.rfind("seq(", 0) == 0 && !value.is_sequence()) refuse(d.type, value.kind_name());
    if (d.type.rfind("map(", 0) == 0 && !value.is_map()) refuse(d.type, value.kind_name());
    if (!value.defined()) refuse(d.type, "an undefined value");
    return;
  }
  if (!value.is_tensor()) refuse(d.type, value.kind_name());
  const Tensor& tensor = value.tensor();
  if (tensor.dtype() != d.dtype) refuse(d.type, std::string("tensor(") + dtype_name(tensor.dtype()) + ")");
  if (!d.has_shape) return;
  if (tensor.dims().size() != d.shape.size())
    refuse("rank " + std::to_string(d.shape.size()) + " " + shape_text(d),
           "rank " + std::to_string(tensor.rank()) + " " + to_string(tensor.dims()));
  for (size_t i = 0; i < d.shape.size(); ++i)
    if (d.shape[i].value >= 0 && tensor.dims()[i] != d.shape[i].value)
      throw InputError("input '" + d.name + "' dim " + std::to_string(i), std::to_string(d.shape[i].value),
                       std::to_string(tensor.dims()[i]));
}

PlanOptions options_of_plans(const SessionOptions& options, int threads) {
  const auto enabled = [&](const char* pass) {
    const auto& off = options.disabled_passes;
    return options.optimize == "all" && std::find(off.begin(), off.end(), pass) == off.end();
  };
  return {threads,          options.prefer_kernel, enabled("layouts"), enabled("epilogues"),
          enabled("views"), enabled("segments")};
}

// libgomp's threads do not survive fork(): a child that inherits a used pool would wait for them forever.
void refuse_after_fork() {
  static std::atomic<bool> forked{false};
  static const int registered = pthread_atfork(nullptr, nullptr, [] { forked = true; });
  if (registered == 0 && forked)
    throw ProviderError("session in a forked process",
                        "the process that ran the first session, or a fresh one (spawn)",
                        "a child made by fork()");
}

// One event of a Chrome trace, in microseconds.
nlohmann::json trace_event(const NodeEvent& event, int thread) {
  const double ns = static_cast<double>(std::max<int64_t>(event.end_ns - event.begin_ns, 1));
  nlohmann::json args = {{"node", describe(*event.graph, *event.node)},
                         {"kernel", event.kernel},
                         {"inputs", event.inputs},
                         {"outputs", event.outputs},
                         {"bytes", event.bytes},
                         {"gb_per_s", static_cast<double>(event.bytes) / ns}};
  if (event.flops) {
    args["flops"] = *event.flops;
    args["gflop_per_s"] = *event.flops / ns;
  }
  return {{"name", event.node->op},
          {"cat", "node"},
          {"ph", "X"},
          {"ts", static_cast<double>(event.begin_ns) / 1e3},
          {"dur", static_cast<double>(event.end_ns - event.begin_ns) / 1e3},
          {"pid", static_cast<int>(getpid())},
          {"tid", thread},
          {"args", args}};
}

}  // namespace

class Session::Impl {
 public:
  Impl(std::shared_ptr<const Model> loaded, SessionOptions given)
      : model(std::move(loaded)), options(std::move(given)), pipeline(options.providers) {
    if (options.threads < 0)
      throw InputError("option 'threads'", "at least 0", std::to_string(options.threads));
    if (options.limits.max_loop_iterations < 0 || options.limits.max_bytes < 0)
      throw InputError("option 'limits'", "numbers of at least 0", "a negative one");
    state = std::make_shared<RuntimeState>();
    state->providers = pipeline.providers;
    state->host = pipeline.host;
    state->pool = std::make_shared<BufferPool>();
    state->threads = options.threads > 0 ? options.threads : usable_cpus();
    state->plan_options = options_of_plans(options, state->threads);
    state->pool->set_limit(options.limits.max_bytes > 0 ? static_cast<size_t>(options.limits.max_bytes) : 0);
    state->profiling = options.profile;
    state->on_event = [this](NodeEvent event) { record(std::move(event)); };
    for (const auto& provider : state->providers) provider->enter(state->threads);
    graph = pipeline.run(*model, options);
    for (const ValueId id : graph->inputs()) inputs.push_back(describe_value(graph->value(id)));
    for (const ValueId id : graph->outputs()) outputs.push_back(describe_value(graph->value(id)));
    all = of_model([&] { return std::make_shared<Executor>(graph, state); });
  }

  std::shared_ptr<Executor> executor_for(const std::vector<std::string>& wanted) {
    if (wanted.empty()) return all;
    std::lock_guard lock(mutex);
    auto& slot = subsets[wanted];
    if (!slot) {
      std::vector<ValueId> ids;
      for (const auto& name : wanted) {
        const auto it =
            std::find_if(outputs.begin(), outputs.end(), [&](const auto& d) { return d.name == name; });
        if (it == outputs.end()) throw InputError("output '" + name + "'", suggest(name, outputs));
        ids.push_back(graph->outputs()[static_cast<size_t>(it - outputs.begin())]);
      }
      if (ids == graph->outputs()) return slot = all;
      GraphBuilder builder(*graph);
      builder.set_outputs(std::move(ids));
      slot = std::make_shared<Executor>(std::move(builder).build_pruned(), state);
    }
    return slot;
  }

  std::vector<Value> run(const Feeds& feeds, const std::vector<std::string>& wanted,
                         const RunOptions& run_options) {
    return of_model([&] { return run_checked(feeds, wanted, run_options); });
  }

  // What f gives; errors name the model's file.
  template <typename F>
  std::invoke_result_t<F> of_model(F&& f) const {
    try {
      return f();
    } catch (Error& e) {
      if (!model->path.empty()) e.add_file(model->path);
      throw;
    }
  }

  std::vector<Value> run_checked(const Feeds& feeds, const std::vector<std::string>& wanted,
                                 const RunOptions& run_options) {
    refuse_after_fork();
    std::shared_ptr<Executor> executor;
    try {
      executor = executor_for(wanted);
    } catch (...) {
      std::lock_guard lock(mutex);
      subsets.erase(wanted);
      throw;
    }
    // A training step has hundreds of both: each name is looked up, and searched for only where one is
    // unknown.
    const auto known =
        std::count_if(inputs.begin(), inputs.end(), [&](const auto& d) { return feeds.count(d.name) != 0; });
    if (static_cast<size_t>(known) != feeds.size())
      for (const auto& [name, value] : feeds)
        if (std::none_of(inputs.begin(), inputs.end(), [&, &n = name](const auto& d) { return d.name == n; }))
          throw InputError("feed", suggest(name, inputs), "'" + name + "'");
    std::vector<Value> in;
    in.reserve(inputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      const auto it = feeds.find(inputs[i].name);
      if (it != feeds.end()) {
        check_feed(inputs[i], it->second);
        in.push_back(it->second);
      } else if (inputs[i].has_default) {
        in.push_back(graph->value(graph->inputs()[i]).constant);
      } else if (inputs[i].type.rfind("optional(", 0) == 0) {
        in.push_back(Nothing{});
      } else {
        throw InputError("input '" + inputs[i].name + "'",
                         inputs[i].type + (inputs[i].has_shape ? " " + shape_text(inputs[i]) : ""),
                         "no feed of that name");
      }
    }
    const std::vector<Tensor> presets = output_memory(*executor, run_options);
    RunScope scope;
    if (run_options.cancel) scope.cancel = run_options.cancel->flag();
    LoopBudget loops{options.limits.max_loop_iterations};
    scope.loops = &loops;
    scope.random.seed = options.seed;
    scope.random.step = run_options.random_step ? *run_options.random_step : step++;
    for (const auto& provider : state->providers) provider->enter(state->threads);
    std::vector<Value> results = executor->run(std::move(in), {}, scope, &presets);
    for (size_t i = 0; i < presets.size(); ++i)
      if (presets[i].defined()) fill(presets[i], outputs_of(*executor, i), results[i]);
    return results;
  }

  std::shared_ptr<const Model> model;
  SessionOptions options;
  Pipeline pipeline;
  std::shared_ptr<RuntimeState> state;
  GraphPtr graph;
  std::vector<ValueDescription> inputs, outputs;
  std::shared_ptr<Executor> all;
  std::mutex mutex;
  std::map<std::vector<std::string>, std::shared_ptr<Executor>> subsets;
  std::atomic<uint64_t> step{0};
  std::mutex events_mutex;
  std::vector<std::pair<int, NodeEvent>> events;  // with the thread

 private:
  static const std::string& outputs_of(const Executor& executor, size_t i) {
    return executor.graph().value(executor.graph().outputs()[i]).name;
  }

  std::vector<Tensor> output_memory(const Executor& executor, const RunOptions& run_options) {
    std::vector<Tensor> presets;
    if (run_options.output_buffers.empty()) return presets;
    presets.resize(executor.graph().outputs().size());
    std::set<std::string_view> taken;
    for (size_t i = 0; i < presets.size(); ++i) {
      const auto it = run_options.output_buffers.find(outputs_of(executor, i));
      if (it == run_options.output_buffers.end()) continue;
      presets[i] = it->second;
      taken.insert(it->first);
    }
    for (const auto& [name, tensor] : run_options.output_buffers)
      if (!taken.count(name)) throw InputError("output buffer", suggest(name, outputs), "'" + name + "'");
    return presets;
  }

  static void fill(Tensor preset, const std::string& name, Value& result) {
    if (!result.is_tensor())
      throw InputError("output buffer '" + name + "'", "an output that is a tensor", result.kind_name());
    const Tensor& tensor = result.tensor();
    if (tensor.dtype() != preset.dtype() || tensor.dims() != preset.dims())
      throw InputError("output buffer '" + name + "'",
                       std::string(dtype_name(tensor.dtype())) + to_string(tensor.dims()),
                       std::string(dtype_name(preset.dtype())) + to_string(preset.dims()));
    if (tensor.data() != preset.data()) {
      if (tensor.dtype() == DType::String)
        std::copy_n(tensor.data<std::string>(), tensor.size(), preset.mutable_data<std::string>());
      else
        std::memcpy(preset.mutable_data(), tensor.data(), tensor.bytes());
    }
    result = preset;
  }

  void record(NodeEvent event) {
    const int thread = gettid();
    std::lock_guard lock(events_mutex);
    events.emplace_back(thread, std::move(event));
  }
};

Session::Session(const std::string& path, SessionOptions options)
    : Session(LoadedModel(import_file(path, {options.limits.max_nodes, options.limits.max_nesting})),
              options) {}
Session::Session(const LoadedModel& model, SessionOptions options)
    : impl_(std::make_unique<Impl>(model.get(), std::move(options))) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

const std::vector<ValueDescription>& Session::inputs() const { return impl_->inputs; }
const std::vector<ValueDescription>& Session::outputs() const { return impl_->outputs; }
const std::map<std::string, std::string>& Session::metadata() const { return impl_->model->metadata; }

std::vector<Value> Session::run(const Feeds& feeds, const std::vector<std::string>& outputs,
                                const RunOptions& options) {
  return impl_->run(feeds, outputs, options);
}

void Session::warm_up(const std::vector<std::map<std::string, Dims>>& shapes) {
  impl_->of_model([&] {
    for (const auto& set : shapes) {
      Feeds feeds;
      for (const auto& input : impl_->inputs) {
        const auto it = set.find(input.name);
        Dims dims;
        if (it != set.end())
          dims = it->second;
        else if (input.has_default)
          continue;
        else
          for (const auto& d : input.shape) {
            if (d.value < 0)
              throw InputError("warm-up shape of input '" + input.name + "'", "dims for " + shape_text(input),
                               "none");
            dims.push_back(d.value);
          }
        feeds[input.name] = Tensor::zeros(input.dtype, dims);
      }
      for (const auto& [name, dims] : set)
        if (!feeds.count(name))
          throw InputError("warm-up shape", suggest(name, impl_->inputs), "'" + name + "'");
      run(feeds);
    }
  });
}

std::string Session::plan(const Feeds& feeds) {
  // What lies behind values that are known only while running is planned when its shapes come again.
  for (int turn = 0; turn < 2; ++turn) impl_->run(feeds, {}, {});
  return impl_->all->latest_plan();
}

void Session::trim() {
  impl_->state->frames.clear();
  impl_->state->pool->trim();
  for (const auto& provider : impl_->state->providers) provider->trim();
}

std::string Session::profile() {
  if (!impl_->options.profile)
    throw InputError("profile", "a session made with the option 'profile'", "one without");
  std::vector<std::pair<int, NodeEvent>> events;
  {
    std::lock_guard lock(impl_->events_mutex);
    events.swap(impl_->events);
  }
  std::vector<nlohmann::json> list;
  for (auto& [thread, event] : events) {
    complete(event);
    list.push_back(trace_event(event, thread));
  }
  return nlohmann::json{{"traceEvents", list}, {"displayTimeUnit", "ms"}}.dump();
}

}  // namespace sardonyx
