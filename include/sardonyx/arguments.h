// Arguments by name, as of a constructor of torch.
#pragma once

#include <map>
#include <string>
#include <variant>

#include "sardonyx/tensor.h"

namespace sardonyx {

// None, a flag, a number, a word or a tensor.
using Argument = std::variant<std::monostate, bool, int64_t, double, std::string, Tensor>;
using Arguments = std::map<std::string, Argument>;

}  // namespace sardonyx
