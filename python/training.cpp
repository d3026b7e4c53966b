#include "training.h"

#include <nanobind/stl/map.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "sardonyx/gradient.h"
#include "sardonyx/trainer.h"
#include "values.h"

namespace nb = nanobind;

namespace sardonyx::python {

namespace {

Arguments arguments_from(const nb::dict& dict) {
  Arguments arguments;
  for (auto [key, value] : dict) {
    Argument& to = arguments[nb::cast<std::string>(key)];
    if (value.is_none())
      to = std::monostate();
    else if (nb::isinstance<nb::bool_>(value))
      to = nb::cast<bool>(value);
    else if (nb::isinstance<nb::int_>(value))
      to = nb::cast<int64_t>(value);
    else if (nb::isinstance<nb::float_>(value))
      to = nb::cast<double>(value);
    else if (nb::isinstance<nb::str>(value))
      to = nb::cast<std::string>(value);
    else if (nb::isinstance<LoadedModel>(value))
      to = nb::cast<LoadedModel>(value).get();
    else
      // The array may change after the call.
      to = value_from_python(value).tensor().clone();
  }
  return arguments;
}

Named named_from(nb::handle pair) {
  const auto tuple = nb::cast<nb::tuple>(pair);
  return {nb::cast<std::string>(tuple[0]), arguments_from(nb::cast<nb::dict>(tuple[1]))};
}

std::vector<LossOptions> losses_from(nb::handle list) {
  std::vector<LossOptions> losses;
  for (nb::handle term : nb::cast<nb::list>(list)) {
    const auto tuple = nb::cast<nb::tuple>(term);
    LossOptions loss;
    if (nb::isinstance<LoadedModel>(tuple[0]))
      loss.graph = nb::cast<LoadedModel>(tuple[0]);
    else
      loss.loss = named_from(tuple[0]);
    loss.weight = nb::cast<double>(tuple[1]);
    loss.predictions = nb::cast<std::vector<std::string>>(tuple[2]);
    losses.push_back(std::move(loss));
  }
  return losses;
}

TrainerOptions options_from(const nb::dict& dict) {
  TrainerOptions options;
  for (auto [key_handle, value] : dict) {
    const auto key = nb::cast<std::string>(key_handle);
    if (set_common_option(options, key, value)) continue;
    if (key == "losses")
      options.losses = losses_from(value);
    else if (key == "optimizer")
      options.optimizer = named_from(value);
    else if (key == "groups")
      for (nb::handle group : nb::cast<nb::list>(value)) {
        const auto tuple = nb::cast<nb::tuple>(group);
        options.groups.push_back(
            {nb::cast<std::vector<std::string>>(tuple[0]), arguments_from(nb::cast<nb::dict>(tuple[1]))});
      }
    else if (key == "trainable")
      options.trainable = nb::cast<std::vector<std::string>>(value);
    else if (key == "batch_norm")
      options.batch_norm = nb::cast<std::string>(value);
    else if (key == "clip_norm")
      options.clip_norm = nb::cast<double>(value);
    else if (key == "clip_value")
      options.clip_value = nb::cast<double>(value);
    else if (key == "accumulate")
      options.accumulate = nb::cast<int>(value);
    else if (key == "keep_gradients")
      options.keep_gradients = nb::cast<bool>(value);
    else if (key == "recompute")
      options.recompute = nb::cast<std::vector<std::string>>(value);
    else if (key == "recompute_pieces")
      options.recompute_pieces = nb::cast<int>(value);
    else if (key == "recompute_bytes")
      options.recompute_bytes = nb::cast<int64_t>(value);
    else
      throw InputError("option", "one that Trainer documents", "'" + key + "'");
  }
  return options;
}

std::vector<Value> values_from(const nb::list& list) {
  std::vector<Value> values;
  for (nb::handle value : list) values.push_back(value_from_python(value));
  return values;
}

nb::dict copies(const std::map<std::string, Tensor>& tensors) {
  nb::dict dict;
  for (const auto& [name, tensor] : tensors) dict[nb::cast(name)] = value_to_python(tensor.clone());
  return dict;
}

// Runs f without the interpreter's lock.
template <typename F>
auto released(F&& f) {
  nb::gil_scoped_release release;
  return f();
}

nb::list input_names(const std::vector<ValueDescription>& inputs) {
  nb::list names;
  for (const auto& input : inputs) names.append(input.name);
  return names;
}

}  // namespace

void bind_training(nb::module_& m) {
  nb::class_<Trainer>(m, "Trainer")
      .def("__init__",
           [](Trainer* self, const LoadedModel& model, const nb::dict& options) {
             TrainerOptions converted = options_from(options);
             nb::gil_scoped_release release;
             new (self) Trainer(model, std::move(converted));
           })
      .def("step",
           [](Trainer& t, const nb::dict& inputs, const nb::list& targets) {
             const Feeds feeds = feeds_from_python(inputs);
             const auto values = values_from(targets);
             return released([&] { return t.step(feeds, values); });
           })
      .def("evaluate",
           [](Trainer& t, const nb::dict& inputs, const nb::list& targets) {
             const Feeds feeds = feeds_from_python(inputs);
             const auto values = values_from(targets);
             return released([&] { return t.evaluate(feeds, values); });
           })
      .def("predict",
           [](Trainer& t, const nb::dict& inputs) {
             const Feeds feeds = feeds_from_python(inputs);
             std::vector<Value> results = released([&] { return t.predict(feeds); });
             return values_to_python(std::move(results));
           })
      .def("parameter_info",
           [](Trainer& t) {
             nb::list list;
             for (const ParameterInfo& p : t.parameter_info())
               list.append(nb::make_tuple(p.name, dtype_name(p.dtype), nb::cast(p.dims), p.trained));
             return list;
           })
      .def("parameters", [](Trainer& t, bool buffers) { return copies(t.parameters(buffers)); })
      .def("set_parameter",
           [](Trainer& t, const std::string& name, nb::handle value) {
             t.set_parameter(name, value_from_python(value).tensor());
           })
      .def("gradients", [](Trainer& t) { return copies(t.gradients()); })
      .def("save", [](Trainer& t, const std::string& path) { released([&] { t.save(path); }); })
      .def("load", [](Trainer& t, const std::string& path) { released([&] { t.load(path); }); })
      .def("profile", &Trainer::profile)
      .def("hyper", &Trainer::hyper)
      .def("hyper_names", &Trainer::hyper_names)
      .def("set_hyper", &Trainer::set_hyper)
      .def("group_count", &Trainer::group_count)
      .def("inputs", [](Trainer& t) { return input_names(t.inputs()); })
      .def("model", [](Trainer& t) { return released([&] { return t.model(); }); });

  m.def("gradient_model", [](const LoadedModel& model, const std::vector<std::string>& wrt, nb::handle losses,
                             bool batch_statistics, bool dropout) {
    GradientOptions options;
    options.wrt = wrt;
    options.losses = losses_from(losses);
    options.batch_statistics = batch_statistics;
    options.dropout = dropout;
    return released([&] { return gradient_model(model, options); });
  });
  m.def("replace_head", [](const LoadedModel& model, int64_t classes, uint64_t seed,
                           const std::string& output) { return replace_head(model, classes, seed, output); });
  m.def("vjp_model", [](const LoadedModel& model, const std::vector<std::string>& wrt) {
    return released([&] { return vjp_model(model, wrt); });
  });
  m.def("loss_model", [](nb::handle loss, const std::vector<std::pair<int, int>>& types) {
    std::vector<PortType> ports;
    for (const auto& [dtype, rank] : types) ports.push_back({static_cast<DType>(dtype), rank});
    return loss_model(named_from(loss), ports);
  });
  m.def("loss_ports", &loss_ports);
  m.def("loss_names", &loss_names);
  m.def("optimizer_names", &optimizer_names);
}

}  // namespace sardonyx::python
