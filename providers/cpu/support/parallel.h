// The one way to use threads in a CPU kernel.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>

namespace sardonyx::cpu {

// Threads of a parallel region started now by this thread; 1 inside a region and after fork().
int thread_count();

namespace detail {
void parallel_ranges(int64_t n, int64_t grain, void (*body)(void*, int64_t, int64_t), void* context);
}

// Splits [0, n) into contiguous ranges of at least `grain` items, one a thread, and calls f(begin, end)
// for each. Runs on the calling thread when n < 2 * grain. The split depends only on n, grain and the thread
// count, so results are reproducible. The first exception of a range is rethrown.
template <typename F>
void parallel_for(int64_t n, int64_t grain, F&& f) {
  if (n <= 0) return;
  if (n / 2 < grain) return f(int64_t{0}, n);
  using Fn = std::remove_reference_t<F>;
  detail::parallel_ranges(
      n, grain, [](void* context, int64_t begin, int64_t end) { (*static_cast<Fn*>(context))(begin, end); },
      const_cast<void*>(static_cast<const void*>(&f)));
}

// A grain for loops whose item costs about `ns` nanoseconds: a range is worth a thread from about 20
// microseconds on.
inline int64_t grain_for(double ns) { return ns >= 20000 ? 1 : static_cast<int64_t>(20000 / ns) + 1; }

}  // namespace sardonyx::cpu
