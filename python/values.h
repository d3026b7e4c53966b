// Between Python objects and values.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "sardonyx/session.h"

namespace sardonyx::python {

// (storage array, dtype code) -> tensor sharing the array's memory; a list of strings with dims for
// strings; list -> sequence; dict -> map; None -> empty optional. The Python layer (_values.py) prepares
// arrays: contiguous, viewed as an unsigned integer of the element's size where numpy has no buffer format.
Value value_from_python(nanobind::handle object);
// The inverse, an array takes the tensor's memory over if nothing else holds it: (storage array, dtype code)
// tuples, ("strings", list, dims), lists, dicts, None.
nanobind::object value_to_python(Value value);

// {name: value}, and a list of values, both ways.
Feeds feeds_from_python(const nanobind::dict& feeds);
nanobind::list values_to_python(std::vector<Value> values);

// Sets what sessions and trainers both take (providers, threads, precision, seed, profile); false for another
// key.
template <typename Options>
bool set_common_option(Options& options, const std::string& key, nanobind::handle value) {
  namespace nb = nanobind;
  if (key == "providers")
    options.providers = nb::cast<std::vector<std::string>>(value);
  else if (key == "threads")
    options.threads = nb::cast<int>(value);
  else if (key == "precision")
    options.precision = nb::cast<std::string>(value);
  else if (key == "seed")
    options.seed = nb::cast<uint64_t>(value);
  else if (key == "profile")
    options.profile = nb::cast<bool>(value);
  else
    return false;
  return true;
}

}  // namespace sardonyx::python
