// Packed forms of constants, kept once and shared by every kernel prepared from the same constant.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "sardonyx/tensor.h"

namespace sardonyx::cpu {

// The packed form of `source` under `layout` (which must name everything that `pack` depends on), made by
// `pack` into `floats` floats when no living kernel holds it.
std::shared_ptr<Buffer> packed_constant(const Tensor& source, const std::string& layout, int64_t floats,
                                        const std::function<void(float*)>& pack);

}  // namespace sardonyx::cpu
