// Between Python objects and values.
#pragma once

#include <nanobind/nanobind.h>

#include "sardonyx/tensor.h"

namespace sardonyx::python {

// (storage array, dtype code) -> tensor sharing the array's memory; a list of strings with dims for
// strings; list -> sequence; dict -> map; None -> empty optional. The Python layer (_values.py) prepares
// arrays: contiguous, viewed as an unsigned integer of the element's size where numpy has no buffer format.
Value value_from_python(nanobind::handle object);
// The inverse, an array takes the tensor's memory over if nothing else holds it: (storage array, dtype code)
// tuples, ("strings", list, dims), lists, dicts, None.
nanobind::object value_to_python(Value value);

}  // namespace sardonyx::python
