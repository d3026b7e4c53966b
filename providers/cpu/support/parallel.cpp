#include "providers/cpu/support/parallel.h"

#include <omp.h>

#include <algorithm>
#include <mutex>

namespace sardonyx::cpu {

int thread_count() { return omp_in_parallel() ? 1 : omp_get_max_threads(); }

namespace detail {

void parallel_ranges(int64_t n, int64_t grain, void (*body)(void*, int64_t, int64_t), void* context) {
  const int64_t parts = std::min<int64_t>(thread_count(), n / std::max<int64_t>(grain, 1));
  if (parts <= 1) return body(context, 0, n);
  std::exception_ptr failure;
  std::mutex mutex;
#pragma omp parallel for num_threads(static_cast <int>(parts)) schedule(static, 1)
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t base = n / parts, extra = n % parts;
    const int64_t begin = part * base + std::min(part, extra);
    const int64_t end = begin + base + (part < extra ? 1 : 0);
    try {
      body(context, begin, end);
    } catch (...) {
      std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace detail
}  // namespace sardonyx::cpu
