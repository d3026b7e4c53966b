// Unique: the distinct elements of a tensor, or its distinct slices along an axis.
#include <algorithm>
#include <numeric>

#include "ops/indexing.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/indices.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

namespace {

// -1, 0 or 1. Complex numbers are ordered by real, then imaginary part; NaN is above every number and equal
// to NaN.
template <typename T>
int compare(const T& a, const T& b) {
  if constexpr (std::is_same_v<T, std::complex<float>> || std::is_same_v<T, std::complex<double>>) {
    const int real = compare(a.real(), b.real());
    return real ? real : compare(a.imag(), b.imag());
  } else if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>) {
    return compare(static_cast<float>(a), static_cast<float>(b));
  } else {
    if constexpr (std::is_floating_point_v<T>) {
      const bool a_nan = a != a, b_nan = b != b;
      if (a_nan || b_nan) return static_cast<int>(a_nan) - static_cast<int>(b_nan);
    }
    return a < b ? -1 : b < a ? 1 : 0;
  }
}

struct Groups {
  std::vector<int64_t> first, inverse, counts;  // by group; inverse by item
};

// Items that are equal form a group; groups are numbered in ascending order, or in the order in which they
// first occur.
template <typename Less>
Groups group(int64_t n, bool sorted, Less&& less) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), less);
  Groups groups;
  groups.inverse.resize(static_cast<size_t>(n));
  for (size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || less(order[i - 1], order[i])) {
      groups.first.push_back(order[i]);
      groups.counts.push_back(0);
    }
    ++groups.counts.back();
    groups.inverse[static_cast<size_t>(order[i])] = static_cast<int64_t>(groups.first.size()) - 1;
  }
  if (sorted) return groups;
  std::vector<size_t> by_first(groups.first.size()), rank(groups.first.size());
  std::iota(by_first.begin(), by_first.end(), 0);
  std::sort(by_first.begin(), by_first.end(),
            [&](size_t a, size_t b) { return groups.first[a] < groups.first[b]; });
  Groups reordered = groups;
  for (size_t i = 0; i < by_first.size(); ++i) {
    rank[by_first[i]] = i;
    reordered.first[i] = groups.first[by_first[i]];
    reordered.counts[i] = groups.counts[by_first[i]];
  }
  for (int64_t& g : reordered.inverse) g = static_cast<int64_t>(rank[static_cast<size_t>(g)]);
  return reordered;
}

void write(RunContext& run, size_t i, const std::vector<int64_t>& values) {
  if (!run.wants(i)) return;
  Tensor& out = run.allocate(i, DType::Int64, {static_cast<int64_t>(values.size())});
  std::copy(values.begin(), values.end(), out.mutable_data<int64_t>());
}

// Slices without elements are all the same, and may be more than there is memory to number them in.
template <typename T>
void unique_of_nothing(RunContext& run, Dims dims, size_t axis) {
  const int64_t slices = dims[axis];
  dims[axis] = std::min<int64_t>(slices, 1);
  run.allocate(0, dtype_of<T>, dims);
  const size_t groups = static_cast<size_t>(dims[axis]);
  write(run, 1, std::vector<int64_t>(groups, 0));
  if (run.wants(2)) std::fill_n(run.allocate(2, DType::Int64, {slices}).mutable_data<int64_t>(), slices, 0);
  write(run, 3, std::vector<int64_t>(groups, slices));
}

Prepared prepare_unique(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<UniqueAttributes>();
  ctx.expect(attributes.sorted == 0 || attributes.sorted == 1, "attribute 'sorted'", "0 or 1",
             std::to_string(attributes.sorted));
  Dims dims{ctx.input(0).size()};
  size_t axis = 0;
  if (attributes.axis) {
    axis = static_cast<size_t>(normalize_axis(*attributes.axis, ctx.rank(0)));
    dims = ctx.dims(0);
  }
  const AxisView view(dims, axis);
  const bool sorted = attributes.sorted != 0;
  Prepared result = decline("no order of this type");
  visit<Join<Join<AllNumbers, Complexes>, Types<bool, std::string>>>(ctx.dtype(0), [&]<typename T>() {
    result = [=](RunContext& run) {
      if (view.outer == 0) return unique_of_nothing<T>(run, dims, axis);
      const T* in = run.in<T>(0);
      // Slices are compared element by element, in their own row-major order.
      auto less = [&](int64_t a, int64_t b) {
        for (int64_t o = 0; o < view.outer; ++o) {
          const T* left = in + (o * view.size + a) * view.inner;
          const T* right = in + (o * view.size + b) * view.inner;
          for (int64_t i = 0; i < view.inner; ++i)
            if (const int c = compare(left[i], right[i])) return c < 0;
        }
        return false;
      };
      const Groups groups = group(view.size, sorted, less);
      const int64_t count = static_cast<int64_t>(groups.first.size());
      Dims out_dims = dims;
      out_dims[axis] = count;
      T* out = run.allocate(0, dtype_of<T>, out_dims).template mutable_data<T>();
      for (int64_t row = 0; row < view.outer * count; ++row) {
        const T* from =
            in + (row / count * view.size + groups.first[static_cast<size_t>(row % count)]) * view.inner;
        std::copy(from, from + view.inner, out + row * view.inner);
      }
      write(run, 1, groups.first);
      write(run, 2, groups.inverse);
      write(run, 3, groups.counts);
    };
  });
  return result;
}

}  // namespace

void register_indexing_unique(KernelRegistry& registry) { registry.ref("Unique", prepare_unique); }

}  // namespace sardonyx::cpu
