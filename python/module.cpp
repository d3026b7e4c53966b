// The binding: thin; what users see is in sardonyx/*.py.
#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "sardonyx/session.h"
#include "sardonyx/tools.h"
#include "training.h"
#include "values.h"

namespace nb = nanobind;
using namespace sardonyx;

namespace {

SessionOptions options_from(const nb::dict& given) {
  SessionOptions options;
  for (auto [key_object, value] : given) {
    const auto key = nb::cast<std::string>(key_object);
    if (python::set_common_option(options, key, value)) continue;
    if (key == "optimize")
      options.optimize = nb::cast<std::string>(value);
    else if (key == "disabled_passes")
      options.disabled_passes = nb::cast<std::vector<std::string>>(value);
    else if (key == "free_dimensions")
      options.free_dimensions = nb::cast<std::map<std::string, int64_t>>(value);
    else if (key == "prefer_kernel")
      options.prefer_kernel = nb::cast<std::string>(value);
    else if (key == "max_nodes")
      options.limits.max_nodes = nb::cast<int64_t>(value);
    else if (key == "max_nesting")
      options.limits.max_nesting = nb::cast<int64_t>(value);
    else if (key == "max_loop_iterations")
      options.limits.max_loop_iterations = nb::cast<int64_t>(value);
    else if (key == "max_bytes")
      options.limits.max_bytes = nb::cast<int64_t>(value);
    else
      throw InputError("option", "one that InferenceSession documents", "'" + key + "'");
  }
  return options;
}

LoadedModel load(nb::handle source, const std::string& folder) {
  if (nb::isinstance<nb::bytes>(source)) {
    const auto bytes = nb::borrow<nb::bytes>(source);
    const char* data = bytes.c_str();
    const size_t size = bytes.size();
    nb::gil_scoped_release release;
    return LoadedModel::from_bytes(data, size, folder);
  }
  const auto path = nb::cast<std::string>(source);
  nb::gil_scoped_release release;
  return LoadedModel::from_file(path);
}

nb::list describe(const std::vector<ValueDescription>& values) {
  nb::list list;
  for (const auto& v : values) {
    nb::object shape = nb::none();
    if (v.has_shape) {
      nb::list dims;
      for (const auto& d : v.shape) {
        if (d.value >= 0)
          dims.append(d.value);
        else if (d.name.empty())
          dims.append(nb::none());
        else
          dims.append(d.name);
      }
      shape = dims;
    }
    list.append(nb::make_tuple(v.name, v.type, shape, v.has_default));
  }
  return list;
}

struct PySession {
  Session session;
  PySession(const LoadedModel& model, SessionOptions options) : session(model, std::move(options)) {}

  std::string plan(const nb::dict& feeds) {
    const Feeds values = python::feeds_from_python(feeds);
    nb::gil_scoped_release release;
    return session.plan(values);
  }

  nb::list run(const std::vector<std::string>& outputs, const nb::dict& feeds, const nb::dict& buffers,
               CancelToken* cancel) {
    const Feeds values = python::feeds_from_python(feeds);
    RunOptions options;
    for (auto [name, value] : buffers)
      options.output_buffers[nb::cast<std::string>(name)] = python::value_from_python(value).tensor();
    if (cancel) options.cancel = *cancel;
    std::vector<Value> results;
    {
      nb::gil_scoped_release release;
      results = session.run(values, outputs, options);
    }
    return python::values_to_python(std::move(results));
  }
};

}  // namespace

NB_MODULE(_sardonyx, m) {
  m.def("version", &version);

  static PyObject* base = PyErr_NewExceptionWithDoc(
      "sardonyx.Error", "Any error of Sardonyx; .file .node .what .expected .got hold its parts.",
      PyExc_Exception, nullptr);
  m.attr("Error") = nb::borrow(base);
  const auto derive = [&](const char* name, const char* doc) {
    PyObject* type = PyErr_NewExceptionWithDoc((std::string("sardonyx.") + name).c_str(), doc, base, nullptr);
    m.attr(name) = nb::borrow(type);
    return type;
  };
  static PyObject* model_error =
      derive("ModelError", "The file or bytes are not a model that can be accepted.");
  static PyObject* unsupported =
      derive("UnsupportedError", "No implementation of an operator, version or type.");
  static PyObject* input_error = derive("InputError", "What the caller passed does not fit the model.");
  static PyObject* limit_error = derive("LimitError", "A configured limit would be exceeded.");
  static PyObject* cancelled = derive("CancelledError", "The run was cancelled.");
  static PyObject* provider_error = derive("ProviderError", "A device or library failed.");
  static PyObject* file_error = derive("FileError", "A file could not be read or written.");
  nb::register_exception_translator([](const std::exception_ptr& p, void*) {
    const auto raise = [](PyObject* type, const Error& e) {
      nb::object instance = nb::borrow(type)(e.what());
      instance.attr("file") = e.parts().file;
      instance.attr("node") = e.parts().node;
      instance.attr("what") = e.parts().what;
      instance.attr("expected") = e.parts().expected;
      instance.attr("got") = e.parts().got;
      PyErr_SetObject(type, instance.ptr());
    };
    try {
      std::rethrow_exception(p);
    } catch (const ModelError& e) {
      raise(model_error, e);
    } catch (const UnsupportedError& e) {
      raise(unsupported, e);
    } catch (const InputError& e) {
      raise(input_error, e);
    } catch (const LimitError& e) {
      raise(limit_error, e);
    } catch (const CancelledError& e) {
      raise(cancelled, e);
    } catch (const ProviderError& e) {
      raise(provider_error, e);
    } catch (const FileError& e) {
      raise(file_error, e);
    } catch (const Error& e) {
      raise(base, e);
    }
  });

  nb::class_<CancelToken>(m, "CancelToken",
                          "Stops the runs it was given to: token.cancel(), from any thread.")
      .def(nb::init<>())
      .def("cancel", &CancelToken::cancel);
  nb::class_<LoadedModel>(m, "Model", "A loaded model; sessions made from one share its weights.")
      .def(
          "__init__",
          [](LoadedModel* self, nb::handle source, const std::string& folder) {
            new (self) LoadedModel(load(source, folder));
          },
          nb::arg("source"), nb::arg("folder") = "");
  nb::class_<PySession>(m, "Session")
      .def("__init__",
           [](PySession* self, const LoadedModel& model, const nb::dict& options) {
             SessionOptions converted = options_from(options);
             nb::gil_scoped_release release;
             new (self) PySession(model, std::move(converted));
           })
      .def("inputs", [](PySession& s) { return describe(s.session.inputs()); })
      .def("outputs", [](PySession& s) { return describe(s.session.outputs()); })
      .def("metadata", [](PySession& s) { return s.session.metadata(); })
      .def("run", &PySession::run, nb::arg("outputs"), nb::arg("feeds"), nb::arg("buffers"),
           nb::arg("cancel").none())
      .def("warm_up",
           [](PySession& s, const std::vector<std::map<std::string, std::vector<int64_t>>>& shapes) {
             nb::gil_scoped_release release;
             s.session.warm_up(shapes);
           })
      .def("plan", &PySession::plan)
      .def("trim", [](PySession& s) { s.session.trim(); })
      .def("profile", [](PySession& s) { return s.session.profile(); });

  m.def("convert", [](const LoadedModel& model, bool optimize, int opset) {
    std::string bytes;
    {
      nb::gil_scoped_release release;
      ConvertOptions options;
      options.optimize = optimize;
      options.opset = opset;
      bytes = convert_to_bytes(model, options);
    }
    return nb::bytes(bytes.data(), bytes.size());
  });
  m.def("convert_to_file", [](const LoadedModel& model, const std::string& path, bool optimize, int opset,
                              int64_t external_bytes) {
    ConvertOptions options;
    options.optimize = optimize;
    options.opset = opset;
    options.external_bytes = external_bytes;
    nb::gil_scoped_release release;
    convert_to_file(model, path, options);
  });
  m.def("inspect", [](const LoadedModel& model, const nb::dict& options, bool placement) {
    return inspect_json(model, options_from(options), placement);
  });
  m.def("print_stage", [](const LoadedModel& model, const std::string& stage, const nb::dict& options) {
    return print_stage(model, stage, options_from(options));
  });
  m.def("pass_names", [](const std::string& stage) { return pass_names(stage); });
  m.def("operators", &operators_json);
  python::bind_training(m);
}
