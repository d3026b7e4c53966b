// Where the host memory of tensors comes from while a run is under way.
#pragma once

#include <cstddef>
#include <memory>

#include "sardonyx/tensor.h"

namespace sardonyx {

// For as long as it lives, Buffer::host on this thread asks `allocate(context, bytes)`: what kernels make for
// themselves comes out of the run's pool and counts towards its limit. Scopes nest; the innermost counts.
class AllocationScope {
 public:
  using Allocate = std::shared_ptr<Buffer> (*)(void* context, size_t bytes);
  AllocationScope(Allocate allocate, void* context);
  ~AllocationScope();
  AllocationScope(const AllocationScope&) = delete;
  AllocationScope& operator=(const AllocationScope&) = delete;

 private:
  Allocate outer_allocate_;
  void* outer_context_;
};

}  // namespace sardonyx
