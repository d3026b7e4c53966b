// Arguments by name, as of a constructor of torch.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <variant>

#include "sardonyx/tensor.h"

namespace sardonyx {

struct Model;

// None, a flag, a number, a word, a tensor, or a model that stands for a function (`LoadedModel::get`).
using Argument =
    std::variant<std::monostate, bool, int64_t, double, std::string, Tensor, std::shared_ptr<const Model>>;
using Arguments = std::map<std::string, Argument>;

}  // namespace sardonyx
