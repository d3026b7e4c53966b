// The training part of the binding.
#pragma once

#include <nanobind/nanobind.h>

namespace sardonyx::python {

void bind_training(nanobind::module_& m);

}  // namespace sardonyx::python
