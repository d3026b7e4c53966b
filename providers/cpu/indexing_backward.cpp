// The backward of Gather: the rows of dY are sorted by the row of the table that they came from, so that
// every row of the result is summed and written once, in the order of the indices, whatever the number of
// threads.
#include <algorithm>

#include "ops/indexing.h"
#include "ops/registry/operator.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/indices.h"
#include "providers/cpu/support/parallel.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

namespace {

// Elements of a row that are summed before they are rounded.
constexpr int64_t kBlock = 256;

// The rows of dY that came from row i of the table are order[first[i]] to order[first[i + 1]].
struct Sorted {
  int64_t *first, *order;
};

Sorted sort_rows(const Tensor& tensor, int64_t n, int64_t rows, int64_t* memory) {
  const Indices indices(tensor);
  Sorted sorted{memory, memory + rows + 1};
  std::fill_n(sorted.first, rows + 1, int64_t{0});
  for (int64_t i = 0; i < n; ++i) ++sorted.first[indices.at(i, rows)];
  // Counts become ends, and placing from the back turns ends into begins.
  int64_t sum = 0;
  for (int64_t row = 0; row <= rows; ++row) sorted.first[row] = sum += row < rows ? sorted.first[row] : 0;
  for (int64_t i = n; i-- > 0;) sorted.order[--sorted.first[indices.at(i, rows)]] = i;
  return sorted;
}

template <typename T>
void sum_row(const T* dy, const int64_t* order, int64_t count, int64_t inner, int64_t begin, int64_t end,
             T* out) {
  if (count == 0) {
    std::fill(out + begin, out + end, T(0.0f));
  } else if (count == 1) {
    std::copy(dy + order[0] * inner + begin, dy + order[0] * inner + end, out + begin);
  } else {
    Compute<T> sum[kBlock];
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t width = std::min(kBlock, end - at);
      std::fill_n(sum, width, Compute<T>(0));
      for (int64_t k = 0; k < count; ++k) {
        const T* row = dy + order[k] * inner + at;
        for (int64_t i = 0; i < width; ++i) sum[i] += static_cast<Compute<T>>(row[i]);
      }
      for (int64_t i = 0; i < width; ++i) out[at + i] = static_cast<T>(sum[i]);
    }
  }
}

Prepared prepare_gather_backward(PrepareContext& ctx) {
  const Dims dims = ctx.host_ints(2);
  for (const int64_t dim : dims) ctx.expect(dim >= 0, "input 'shape'", "dimensions >= 0", to_string(dims));
  const int64_t axis_attribute = ctx.attributes<GatherAttributes>().axis;
  const size_t axis = static_cast<size_t>(normalize_axis(axis_attribute, static_cast<int>(dims.size())));
  const DType dtype = ctx.dtype(0);
  const int64_t total = element_count(dims), n = ctx.input(1).size();
  const AxisView view(dims, axis);
  const int64_t expected =
      checked_mul(view.outer, checked_mul(n, view.inner, "elements of dY"), "elements of dY");
  ctx.expect(view.outer == 0 || ctx.input(0).size() == expected, "elements of input 'dY'",
             std::to_string(expected), std::to_string(ctx.input(0).size()));
  if (!is_float(dtype)) return decline("only floats");
  ctx.output(0, dtype, dims);
  ctx.scratch(static_cast<size_t>(
      checked_mul(checked_add(checked_add(view.size, 1, "rows"), n, "rows"), sizeof(int64_t), "scratch")));
  Prepared prepared = decline(std::string("no kernel for ") + dtype_name(dtype));
  visit<AllFloats>(dtype, [&]<typename T>() {
    prepared = [view, n, total](RunContext& run) {
      const Sorted sorted = sort_rows(run.input(1), n, view.size, reinterpret_cast<int64_t*>(run.scratch()));
      if (total == 0) return;
      const T* dy = run.in<T>(0);
      T* dx = run.out<T>(0);
      // Rows that many indices name are summed by columns; with short rows every thread has rows of its own.
      constexpr int64_t kColumns = 64;
      const int64_t stripes = std::min<int64_t>(thread_count(), view.inner / kColumns);
      const double bytes = static_cast<double>(view.inner * static_cast<int64_t>(sizeof(T)));
      const auto rows = [&](int64_t first, int64_t last, int64_t begin, int64_t end) {
        for (int64_t i = first; i < last; ++i) {
          const int64_t outer = i / view.size, row = i % view.size;
          sum_row(dy + outer * n * view.inner, sorted.order + sorted.first[row],
                  sorted.first[row + 1] - sorted.first[row], view.inner, begin, end, dx + i * view.inner);
        }
      };
      const int64_t all = view.outer * view.size;
      const double work = (static_cast<double>(all) + static_cast<double>(view.outer * n)) * bytes * 0.1;
      if (stripes > 1)
        parallel_for(stripes, grain_for(work / static_cast<double>(stripes)),
                     [&](int64_t first, int64_t last) {
                       const int64_t whole = view.inner / kColumns;
                       const auto column = [&](int64_t stripe) {
                         return stripe == stripes ? view.inner : whole * stripe / stripes * kColumns;
                       };
                       rows(0, all, column(first), column(last));
                     });
      else
        parallel_for(all, grain_for(work / static_cast<double>(all) + 3),
                     [&](int64_t first, int64_t last) { rows(first, last, 0, view.inner); });
    };
  });
  return prepared;
}

}  // namespace

void register_indexing_backward(KernelRegistry& registry) {
  registry.ref("GatherBackward", prepare_gather_backward, kOwnDomain);
}

}  // namespace sardonyx::cpu
