// Which kernel of an operator takes a node.
#pragma once

#include <string>
#include <vector>

#include "providers/kernel.h"

namespace sardonyx {

// The kernels in the order they are asked; one named `prefer` comes first.
std::vector<const KernelEntry*> in_order(const std::vector<KernelEntry>& kernels, const std::string& prefer);

// What the kernel answers. One that does nothing, where every output that the node has is known to have no
// elements: there may be many rows of nothing to walk through.
Prepared prepare_kernel(const KernelEntry& kernel, PrepareContext& ctx);

// Prepares the node with the first kernel that does not decline, whose name goes to `chosen`;
// UnsupportedError with every reason when there is none. All inputs are in plain order.
Prepared prepare_first(const std::vector<KernelEntry>& kernels, const std::string& prefer,
                       PrepareContext& ctx, const std::string& description, std::string& chosen);

}  // namespace sardonyx
