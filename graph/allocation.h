// Where the host memory of tensors comes from while a run is under way.
#pragma once

#include <cstddef>
#include <memory>

#include "sardonyx/tensor.h"

namespace sardonyx {

// Under AddressSanitizer every tensor has an allocation of exactly its size, given back at its end: an access
// past it, or after it, is then seen.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kExactAllocations = true;
#elif defined(__has_feature)
inline constexpr bool kExactAllocations = __has_feature(address_sanitizer);
#else
inline constexpr bool kExactAllocations = false;
#endif

// 64-byte aligned and uninitialised, for std::free; null when there is none. Kernels may read a whole vector
// past the end, except with kExactAllocations.
void* allocate_aligned(size_t bytes);

// LimitError when there is not that much memory: the kernel would promise the pages and kill the process when
// they are touched.
void check_available(size_t bytes);

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
