// Which kernel of an operator takes a node.
#pragma once

#include <new>
#include <string>
#include <vector>

#include "providers/kernel.h"

namespace sardonyx {

// The kernels in the order they are asked; one named `prefer` comes first.
std::vector<const KernelEntry*> in_order(const std::vector<KernelEntry>& kernels, const std::string& prefer);

// Calls f: its errors get the node's description, and what else it or a library throws becomes an error.
template <typename F>
void at_node(const std::string& description, F&& f) {
  try {
    f();
  } catch (Error& e) {
    e.add_node(description);
    throw;
  } catch (const std::bad_alloc&) {
    LimitError error("allocation", "enough memory", "none");
    error.add_node(description);
    throw error;
  } catch (const std::exception& e) {
    ProviderError error(std::string("kernel failed: ") + e.what());
    error.add_node(description);
    throw error;
  }
}

// What the kernel answers. One that does nothing, where every output that the node has is known to have no
// elements: there may be many rows of nothing to walk through.
Prepared prepare_kernel(const KernelEntry& kernel, PrepareContext& ctx);

// Prepares the node with the first kernel that does not decline, whose name goes to `chosen`;
// UnsupportedError with every reason when there is none. All inputs are in plain order.
Prepared prepare_first(const std::vector<KernelEntry>& kernels, const std::string& prefer,
                       PrepareContext& ctx, const std::string& description, std::string& chosen);

}  // namespace sardonyx
