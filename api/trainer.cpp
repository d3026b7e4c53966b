#include "sardonyx/trainer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <set>

#include "api/checkpoint.h"
#include "api/differentiable.h"
#include "api/pipeline.h"
#include "graph/builder.h"
#include "graph/shape.h"
#include "ops/registry/gradient.h"
#include "ops/registry/schema.h"
#include "providers/runtime/passes.h"
#include "sardonyx/tools.h"
#include "training/forward.h"
#include "training/head.h"
#include "training/hoist.h"
#include "training/rebatch.h"
#include "training/recompute.h"
#include "training/step.h"

namespace sardonyx {

namespace {

// The inputs and outputs of one kind of run.
struct Program {
  std::unique_ptr<Session> session;
  Feeds feeds;                                        // all but the model's inputs and the targets
  RunOptions options;                                 // where updates and gradients go
  std::vector<std::pair<size_t, size_t>> statistics;  // output, and which of the statistics it replaces
  std::optional<size_t> scale;                        // the output that says whether the update was made
};

}  // namespace

class Trainer::Impl {
 public:
  Impl(const LoadedModel& loaded, TrainerOptions given)
      : options_(std::move(given)), pipeline_(options_.providers) {
    check_options();
    auto model = std::make_shared<Model>(*loaded.get());
    try {
      const GraphPtr graph = canonical(model->graph, pipeline_.evaluator.get());
      GraphPtr open = hoist_weights(graph);
      // The batch of a file that is made for one example is the trainer's.
      if (const GraphPtr any = rebatch(open, pipeline_.evaluator.get(), &batch_pin_)) open = any;
      if (open != graph) model->graph = open;  // has the names of what was in bodies
      forward_ =
          training_forward(open, model->initializers, {options_.trainable, options_.batch_norm == "train"});
    } catch (Error& e) {
      e.add_file(model->path);
      throw;
    }
    if (forward_.parameters.empty()) throw InputError("trainable", "weights of the model", "none");
    adopt_weights(*model);
    model_ = std::move(model);
    make_groups();
    describe_inputs();
  }

  double step(const Feeds& inputs, const std::vector<Value>& targets) {
    const bool updates = batches_ + 1 == options_.accumulate;
    Program& program = program_for(updates ? "update" : "accumulate", inputs, targets);
    if (updates) {
      for (auto& group : groups_)
        group.hyper.mutable_data<double>()[group.rule.hyper.size() - 1] = updates_ + 1;
    }
    latest_step_ = program.session.get();
    program.options.random_step = static_cast<uint64_t>(steps_);
    const std::vector<Value> results = run(program, inputs, targets);
    const double loss = results.at(0).tensor().to_doubles().at(0);
    const double scale = program.scale ? results[*program.scale].tensor().to_doubles().at(0) : 1;
    if (!std::isfinite(loss) || std::isnan(scale)) report_not_finite(loss, inputs, targets);
    for (const auto& [output, index] : program.statistics)
      copy("statistic", results[output].tensor(), forward_.statistics[index].parameter.value);
    ++steps_;
    batches_ = updates ? 0 : batches_ + 1;
    if (updates) {
      ++updates_;
      for (auto& [name, tensor] : accumulated_) std::memset(tensor.mutable_data(), 0, tensor.bytes());
    }
    return loss;
  }

  size_t target_count() const {
    Objective objective;
    objective.terms = loss_terms(options_, pipeline_.evaluator.get());
    return sardonyx::target_count(objective, model_outputs());
  }

  double evaluate(const Feeds& inputs, const std::vector<Value>& targets) {
    const std::vector<Value> results = run(program_for("evaluate", inputs, targets), inputs, targets);
    return results.at(0).tensor().to_doubles().at(0);
  }

  std::vector<Value> predict(const Feeds& inputs) {
    return run(program_for("predict", inputs, {}), inputs, {});
  }

  std::map<std::string, Tensor> parameters(bool buffers) const {
    std::map<std::string, Tensor> result;
    for (const Parameter& p : forward_.parameters) result[p.name] = p.value;
    if (buffers)
      for (const Statistic& s : forward_.statistics) result[s.parameter.name] = s.parameter.value;
    return result;
  }

  void set_parameter(const std::string& name, const Tensor& value) {
    for (Parameter& p : forward_.parameters)
      if (p.name == name) return copy("parameter '" + name + "'", value, p.value);
    for (Statistic& st : forward_.statistics)
      if (st.parameter.name == name) return copy("parameter '" + name + "'", value, st.parameter.value);
    throw InputError("parameter", "a name that parameters() gives", "'" + name + "'");
  }

  // Everything that a step depends on beside the options.
  CheckpointParts checkpoint() {
    CheckpointParts parts;
    for (const auto& [name, value] : parameters(true)) parts.tensors["model/" + name] = value;
    for (const auto& [name, value] : states_) parts.tensors["optimizer/" + name] = value;
    for (const auto& [name, value] : accumulated_) parts.tensors[name] = value;
    for (size_t g = 0; g < groups_.size(); ++g)
      for (size_t i = 0; i + 1 < groups_[g].rule.hyper.size(); ++i)
        parts.numbers[std::to_string(g) + "/" + groups_[g].rule.hyper[i].first] =
            groups_[g].hyper.mutable_data<double>() + i;
    parts.counters = {
        {"updates", {&updates_}}, {"batches", {&batches_, options_.accumulate - 1}}, {"steps", {&steps_}}};
    return parts;
  }

  std::string profile() {
    if (!options_.profile || !latest_step_)
      throw InputError("profile", "option 'profile' and a step", "none");
    return latest_step_->profile();
  }

  struct Group {
    OptimizerRule rule;
    Tensor hyper;
    std::vector<std::string> parameters;
  };
  Group& group(int index) {
    const int count = static_cast<int>(groups_.size());
    const int at = index < 0 ? index + count : index;
    if (at < 0 || at >= count)
      throw InputError("parameter group", "0 to " + std::to_string(count - 1), std::to_string(index));
    return groups_[static_cast<size_t>(at)];
  }
  double& hyper(const std::string& name, int index) {
    Group& g = group(index);
    std::string list;
    for (size_t i = 0; i + 1 < g.rule.hyper.size(); ++i) {
      if (g.rule.hyper[i].first == name) return g.hyper.mutable_data<double>()[i];
      list += (list.empty() ? "'" : ", '") + g.rule.hyper[i].first + "'";
    }
    throw InputError("number of the optimizer", "one of " + list, "'" + name + "'");
  }

  LoadedModel model() const {
    auto model = std::make_shared<Model>(*model_);
    GraphBuilder builder(*inference_mode(model_->graph));
    const auto set = [&](const Parameter& p) {
      const ValueId id = builder.graph().find(p.name);
      if (id != kNone) builder.info(id).constant = p.value.clone();
    };
    for (const Parameter& p : forward_.parameters) set(p);
    for (const Statistic& s : forward_.statistics) set(s.parameter);
    model->graph = std::move(builder).build();
    return LoadedModel(model);
  }

  TrainerOptions options_;
  Pipeline pipeline_;
  std::shared_ptr<const Model> model_;  // as loaded, its weights sharing memory with the parameters
  TrainingForward forward_;
  std::vector<Group> groups_;
  std::map<std::string, Tensor> states_, accumulated_, gradients_;
  std::vector<ParameterInfo> info_;
  std::vector<ValueDescription> inputs_;
  int64_t updates_ = 0, steps_ = 0;  // the steps number what is drawn at random

 private:
  void check_options() const {
    const auto refuse = [](const std::string& what, const std::string& expected, const std::string& got) {
      throw InputError("option '" + what + "'", expected, got);
    };
    if (options_.batch_norm != "train" && options_.batch_norm != "frozen")
      refuse("batch_norm", "'train' or 'frozen'", "'" + options_.batch_norm + "'");
    if (options_.accumulate < 1) refuse("accumulate", "at least 1", std::to_string(options_.accumulate));
    if (options_.recompute_pieces < 0 || options_.recompute_bytes < 0)
      refuse("recompute", "at least 0",
             std::to_string(std::min<int64_t>(options_.recompute_pieces, options_.recompute_bytes)));
    if (!(options_.clip_norm >= 0)) refuse("clip_norm", "at least 0", std::to_string(options_.clip_norm));
    if (!(options_.clip_value >= 0)) refuse("clip_value", "at least 0", std::to_string(options_.clip_value));
  }

  // The parameters get memory of their own, which the model's constants share.
  void adopt_weights(Model& model) {
    GraphBuilder builder(*model.graph);
    const auto adopt = [&](Parameter& p) {
      p.value = p.value.clone();
      const ValueId id = builder.graph().find(p.name);
      if (id != kNone) builder.info(id).constant = p.value;
    };
    for (Parameter& p : forward_.parameters) {
      adopt(p);
      info_.push_back({p.name, p.value.dtype(), p.value.dims(), false});
    }
    for (Statistic& s : forward_.statistics) adopt(s.parameter);
    model.graph = std::move(builder).build();
  }

  void make_groups() {
    const Optimizer& optimizer = find_optimizer(options_.optimizer.name);
    const auto add = [&](const Arguments& own) {
      Arguments arguments = options_.optimizer.arguments;
      for (const auto& [name, value] : own) arguments[name] = value;
      Group group;
      group.rule = optimizer_rule(optimizer, arguments);
      std::vector<double> numbers;
      for (const auto& [name, value] : group.rule.hyper) numbers.push_back(value);
      group.hyper = Tensor::of(numbers);
      groups_.push_back(std::move(group));
    };
    for (const ParameterGroup& group : options_.groups) add(group.arguments);
    add({});
    for (const Parameter& p : forward_.parameters) {
      size_t g = 0;
      for (; g < options_.groups.size(); ++g) {
        const auto& globs = options_.groups[g].parameters;
        if (std::any_of(globs.begin(), globs.end(),
                        [&](const auto& glob) { return matches_glob(glob, p.name); }))
          break;
      }
      groups_[g].parameters.push_back(p.name);
      for (const std::string& state : groups_[g].rule.states)
        states_[StepNames::state(state, p.name)] = Tensor::zeros(p.value.dtype(), p.value.dims());
      if (options_.accumulate > 1)
        accumulated_[StepNames::accumulated(p.name)] = Tensor::zeros(p.value.dtype(), p.value.dims());
    }
  }

  void describe_inputs() {
    for (const ValueId id : model_->graph->inputs()) {
      const ValueInfo& info = model_->graph->value(id);
      if (!find_value(info.name)) inputs_.push_back(describe_value(info));
    }
  }

  SessionOptions session_options() const {
    SessionOptions options;
    options.providers = options_.providers;
    options.threads = options_.threads;
    options.precision = options_.precision;
    options.seed = options_.seed;
    options.profile = options_.profile;
    return options;
  }

  std::vector<std::string> model_outputs() const {
    std::vector<std::string> names;
    for (const ValueId id : model_->graph->outputs()) names.push_back(model_->graph->value(id).name);
    return names;
  }

  // Targets of these dtypes and ranks.
  Objective objective(const std::vector<Value>& targets) const {
    Objective result;
    result.target_name = StepNames::target;
    result.terms = loss_terms(options_, pipeline_.evaluator.get());
    for (size_t i = 0; i < targets.size(); ++i) {
      if (!targets[i].is_tensor())
        throw InputError("target " + std::to_string(i), "a tensor", targets[i].kind_name());
      Shape shape;
      for (int d = 0; d < targets[i].tensor().rank(); ++d)
        shape.push_back(Dim("target" + std::to_string(i) + "_" + std::to_string(d)));
      result.targets.push_back(Type::tensor(targets[i].tensor().dtype(), std::move(shape)));
    }
    const size_t wanted = sardonyx::target_count(result, model_outputs());
    if (targets.size() != wanted)
      throw InputError("targets", std::to_string(wanted) + " for the loss", std::to_string(targets.size()));
    return result;
  }

  GraphPtr ready(const GraphPtr& graph) const { return infer_types(graph, pipeline_.evaluator.get()); }

  LoadedModel as_model(GraphPtr graph) const {
    auto model = std::make_shared<Model>(*model_);
    model->graph = std::move(graph);
    return LoadedModel(model);
  }

  // Made once for each kind and for the dtypes and ranks of the targets.
  Program& program_for(const std::string& kind, const Feeds& inputs, const std::vector<Value>& targets) {
    std::string key = kind;
    for (const Value& target : targets)
      if (target.is_tensor())
        key +=
            std::string(" ") + dtype_name(target.tensor().dtype()) + std::to_string(target.tensor().rank());
    auto it = programs_.find(key);
    if (it != programs_.end()) return it->second;
    Program program;
    try {
      program = kind == "predict" || kind == "evaluate" ? inference_program(kind, targets)
                                                        : step_program(kind == "update", inputs, targets);
    } catch (Error& e) {
      e.add_file(model_->path);
      throw;
    }
    return programs_.emplace(key, std::move(program)).first->second;
  }

  Program inference_program(const std::string& kind, const std::vector<Value>& targets) {
    GraphPtr graph = inference_mode(forward_.graph);
    if (kind == "evaluate") {
      std::string loss;
      graph = with_loss(graph, objective(targets), model_outputs(), {}, &loss);
    } else {
      GraphBuilder builder(*graph);
      std::vector<ValueId> outputs(
          graph->outputs().begin(),
          graph->outputs().begin() + static_cast<ptrdiff_t>(model_->graph->outputs().size()));
      builder.set_outputs(std::move(outputs));
      graph = std::move(builder).build_pruned();
    }
    return finish(graph);
  }

  GraphPtr loss_graph(const std::vector<Value>& targets, std::string* loss_name) {
    std::vector<std::string> keep;
    for (const Statistic& s : forward_.statistics) keep.push_back(s.next);
    return ready(with_loss(forward_.graph, objective(targets), model_outputs(), keep, loss_name));
  }

  // What exporters write for one operator becomes that operator, where it has a gradient rule of its own.
  GraphPtr with_fusions(const GraphPtr& graph) const {
    Evaluator& evaluator = *pipeline_.evaluator;
    return ready(fused(simplify(graph, evaluator, {}), evaluator, {{}, has_gradient, {}}));
  }

  // Where the step is to be cut, which may depend on the sizes of a batch.
  std::vector<std::string> cuts(const GraphPtr& graph, const StepRequest& request, const Feeds& inputs,
                                const std::vector<Value>& targets) const {
    if (options_.recompute_pieces < 2 && options_.recompute_bytes == 0) return options_.recompute;
    std::map<std::string, Dims> dims;
    for (const auto& [name, value] : inputs)
      if (value.is_tensor()) dims[name] = value.tensor().dims();
    for (size_t i = 0; i < targets.size(); ++i) dims[StepNames::target(i)] = targets[i].tensor().dims();
    const GraphPtr sized = with_dims(graph, dims, pipeline_.evaluator.get());
    return options_.recompute_bytes > 0
               ? cuts_within(sized, request, static_cast<double>(options_.recompute_bytes),
                             pipeline_.evaluator.get())
               : cut_points(*sized, options_.recompute_pieces);
  }

  // For a batch of these inputs; without, the step is not cut.
  GraphPtr step_graph(StepRequest& request, const Feeds* inputs, const std::vector<Value>& targets) {
    const GraphPtr graph =
        differentiable(with_fusions(loss_graph(targets, &request.loss_name)), pipeline_.evaluator.get());
    for (const Group& g : groups_) request.groups.push_back({g.rule, g.parameters});
    if (inputs) request.cuts = cuts(graph, request, *inputs, targets);
    return append_step(graph, request);
  }

  Program step_program(bool updates, const Feeds& inputs, const std::vector<Value>& targets) {
    StepRequest request;
    request.clip_norm = options_.clip_norm;
    request.clip_value = options_.clip_value;
    request.accumulate = options_.accumulate;
    request.updates = updates;
    request.keep_gradients = options_.keep_gradients && updates;
    const GraphPtr step = step_graph(request, &inputs, targets);
    std::set<std::string> trained;
    for (const auto& group : request.groups) trained.insert(group.parameters.begin(), group.parameters.end());
    for (ParameterInfo& info : info_) info.trained = trained.count(info.name) != 0;
    return finish(step);
  }

  // The value that a step reads under a name; null for inputs of the model and targets.
  const Tensor* find_value(const std::string& name) const {
    for (const Parameter& p : forward_.parameters)
      if (p.name == name) return &p.value;
    for (const Statistic& s : forward_.statistics)
      if (s.parameter.name == name) return &s.parameter.value;
    for (const auto* map : {&states_, &accumulated_})
      if (const auto it = map->find(name); it != map->end()) return &it->second;
    for (size_t g = 0; g < groups_.size(); ++g)
      if (name == StepNames::hyper(g)) return &groups_[g].hyper;
    return nullptr;
  }

  Program finish(const GraphPtr& graph) {
    Program program;
    program.session = std::make_unique<Session>(as_model(graph), session_options());
    for (const auto& input : program.session->inputs())
      if (const Tensor* value = find_value(input.name)) program.feeds[input.name] = *value;
    std::map<std::string, size_t> places;
    for (const auto& output : program.session->outputs()) places.emplace(output.name, places.size());
    if (const auto it = places.find(kScaleOutput); it != places.end()) program.scale = it->second;
    for (size_t i = 0; i < forward_.statistics.size(); ++i)
      if (const auto it = places.find(forward_.statistics[i].next); it != places.end())
        program.statistics.emplace_back(it->second, i);
    for (const Parameter& p : forward_.parameters) {
      const std::string name = StepNames::gradient(p.name);
      if (!places.count(name)) continue;
      Tensor& kept = gradients_[p.name];
      if (!kept.defined()) kept = Tensor::zeros(p.value.dtype(), p.value.dims());
      program.options.output_buffers[name] = kept;
    }
    for (const Graph::Update& update : graph->updates()) {
      const std::string& input = graph->value(update.input).name;
      program.options.output_buffers[graph->value(update.output).name] = program.feeds.at(input).tensor();
    }
    return program;
  }

  std::vector<Value> run(Program& program, const Feeds& inputs, const std::vector<Value>& targets) {
    Feeds feeds = program.feeds;
    for (const auto& [key, value] : inputs) {
      const std::string& name = key;
      if (!batch_pin_.empty() && value.is_tensor() && value.tensor().rank() > 1 && value.tensor().dim(0) != 1)
        throw InputError("input '" + name + "' dim 0", "1: the batch is fixed by " + batch_pin_,
                         std::to_string(value.tensor().dim(0)));
      if (std::none_of(inputs_.begin(), inputs_.end(), [&](const auto& d) { return d.name == name; }))
        throw InputError("feed", suggest(name, inputs_), "'" + name + "'");
      feeds[name] = value;
    }
    for (size_t i = 0; i < targets.size(); ++i) feeds[StepNames::target(i)] = targets[i];
    return program.session->run(feeds, {}, program.options);
  }

  // "first in output .. of .."; empty where all values are finite.
  std::string first_not_finite(const GraphPtr& graph, const Feeds& inputs,
                               const std::vector<Value>& targets) {
    Feeds feeds = inputs;
    for (const ValueId id : graph->inputs())
      if (const Tensor* value = find_value(graph->value(id).name)) feeds[graph->value(id).name] = *value;
    for (size_t i = 0; i < targets.size(); ++i) feeds[StepNames::target(i)] = targets[i];
    for (const TracedValue& value : trace(as_model(graph), "upgraded", feeds, session_options())) {
      if (!value.value.is_tensor() || !is_float(value.value.tensor().dtype())) continue;
      const auto numbers = value.value.tensor().to_doubles();
      if (!std::all_of(numbers.begin(), numbers.end(), [](double v) { return std::isfinite(v); }))
        return "first in output '" + value.name + "' of " + value.node;
    }
    return "";
  }

  [[noreturn]] void report_not_finite(double loss, const Feeds& inputs, const std::vector<Value>& targets) {
    std::string name;
    std::string where = first_not_finite(loss_graph(targets, &name), inputs, targets);
    if (where.empty()) {
      StepRequest gradients;
      gradients.updates = false;
      where = first_not_finite(ready(step_graph(gradients, nullptr, targets)), inputs, targets);
    }
    if (where.empty()) where = "in no node at full precision";
    InputError error("loss and gradients of the step", "finite numbers", std::to_string(loss) + ", " + where);
    error.add_file(model_->path);
    throw error;
  }

  static void copy(const std::string& what, const Tensor& from, Tensor& to) {
    if (from.dtype() != to.dtype() || from.dims() != to.dims())
      throw InputError(what, std::string(dtype_name(to.dtype())) + to_string(to.dims()),
                       std::string(dtype_name(from.dtype())) + to_string(from.dims()));
    std::memcpy(to.mutable_data(), from.data(), from.bytes());
  }

  std::map<std::string, Program> programs_;
  Session* latest_step_ = nullptr;
  std::string batch_pin_;  // what fixes the batch at one, if anything does
  int64_t batches_ = 0;    // since the last update
};

LoadedModel replace_head(const LoadedModel& loaded, int64_t classes, uint64_t seed,
                         const std::string& output) {
  auto model = std::make_shared<Model>(*loaded.get());
  try {
    const Pipeline pipeline({"cpu"});
    Evaluator* evaluator = pipeline.evaluator.get();
    // As written: upgraded operators may stand for one of an older opset together.
    const GraphPtr graph = infer_types(model->graph, evaluator);
    model->graph = infer_types(replace_head(graph, classes, seed, output), evaluator);
  } catch (Error& e) {
    e.add_file(model->path);
    throw;
  }
  return LoadedModel(model);
}

Trainer::Trainer(const LoadedModel& model, TrainerOptions options)
    : impl_(std::make_unique<Impl>(model, std::move(options))) {}
Trainer::Trainer(const std::string& path, TrainerOptions options)
    : Trainer(LoadedModel::from_file(path), std::move(options)) {}
Trainer::~Trainer() = default;
Trainer::Trainer(Trainer&&) noexcept = default;
Trainer& Trainer::operator=(Trainer&&) noexcept = default;

double Trainer::step(const Feeds& inputs, const std::vector<Value>& targets) {
  return impl_->step(inputs, targets);
}
double Trainer::evaluate(const Feeds& inputs, const std::vector<Value>& targets) {
  return impl_->evaluate(inputs, targets);
}
std::vector<Value> Trainer::predict(const Feeds& inputs) { return impl_->predict(inputs); }
const std::vector<ParameterInfo>& Trainer::parameter_info() const { return impl_->info_; }
std::map<std::string, Tensor> Trainer::parameters(bool buffers) const { return impl_->parameters(buffers); }
void Trainer::set_parameter(const std::string& name, const Tensor& value) {
  impl_->set_parameter(name, value);
}
std::map<std::string, Tensor> Trainer::gradients() const { return impl_->gradients_; }
std::map<std::string, Tensor> Trainer::optimizer_state() const { return impl_->states_; }
int64_t Trainer::update_count() const { return impl_->updates_; }
int64_t Trainer::step_count() const { return impl_->steps_; }
void Trainer::save(const std::string& path) const { save_checkpoint(path, impl_->checkpoint()); }
void Trainer::load(const std::string& path) { load_checkpoint(path, impl_->checkpoint()); }
std::vector<std::string> Trainer::hyper_names() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : impl_->groups_[0].rule.hyper) names.push_back(name);
  names.pop_back();
  return names;
}
double Trainer::hyper(const std::string& name, int group) const { return impl_->hyper(name, group); }
void Trainer::set_hyper(const std::string& name, double value, int group) {
  impl_->hyper(name, group) = value;
}
std::string Trainer::profile() { return impl_->profile(); }
size_t Trainer::group_count() const { return impl_->groups_.size(); }
const std::vector<ValueDescription>& Trainer::inputs() const { return impl_->inputs_; }
size_t Trainer::target_count() const { return impl_->target_count(); }
LoadedModel Trainer::model() const { return impl_->model(); }

}  // namespace sardonyx
