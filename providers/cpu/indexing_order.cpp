// Operators that compare the elements along an axis: TopK, ArgMax, ArgMin, Hardmax.
#include <algorithm>
#include <vector>

#include "ops/indexing.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/indices.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/strided.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

namespace {

template <typename T>
Compute<T> key(const T& value) {
  return static_cast<Compute<T>>(value);
}
template <typename K>
bool is_nan(K value) {
  if constexpr (std::is_floating_point_v<K>) return value != value;
  return false;
}

// NaN is above every number, and equal to NaN.
template <typename K>
bool above(K a, K b) {
  return a > b || (is_nan(a) && !is_nan(b));
}

template <typename K, typename I>
struct Entry {
  K value;
  I index;
};
template <bool kLargest, typename K, typename I>
bool better(const Entry<K, I>& a, const Entry<K, I>& b) {
  if (kLargest ? above(a.value, b.value) : above(b.value, a.value)) return true;
  if (kLargest ? above(b.value, a.value) : above(a.value, b.value)) return false;
  return a.index < b.index;
}

// The first position from `at` on whose element is better than `worst`; n if there is none.
template <bool kLargest, typename T>
int64_t skip_worse(const T* in, int64_t at, int64_t n, Compute<T> worst) {
  constexpr int64_t block = 64;
  if constexpr (std::is_same_v<T, Compute<T>>) {
    for (; at + block <= n; at += block) {
      int found = 0;
#pragma omp simd reduction(| : found)
      for (int64_t j = 0; j < block; ++j) found |= kLargest ? !(in[at + j] <= worst) : !(in[at + j] >= worst);
      if (found) break;
    }
  }
  while (at < n && !(kLargest ? above(key(in[at]), worst) : above(worst, key(in[at])))) ++at;
  return at;
}

// The k best of n elements that lie `stride` apart, in front of `entries`, in order if `sorted`.
template <bool kLargest, typename T, typename I>
void select(const T* in, int64_t stride, int64_t n, int64_t k, bool sorted,
            std::vector<Entry<Compute<T>, I>>& entries) {
  using E = Entry<Compute<T>, I>;
  const auto order = [](const E& a, const E& b) { return better<kLargest>(a, b); };
  entries.clear();
  if (k > 0 && k <= n / 8) {
    // A heap of the best so far, its worst on top: most elements are turned away by one comparison.
    for (int64_t i = 0; i < k; ++i) entries.push_back({key(in[i * stride]), static_cast<I>(i)});
    std::make_heap(entries.begin(), entries.end(), order);
    for (int64_t i = k; i < n; ++i) {
      if (stride == 1) i = skip_worse<kLargest>(in, i, n, entries.front().value);
      if (i == n) break;
      const E next{key(in[i * stride]), static_cast<I>(i)};
      if (!order(next, entries.front())) continue;
      std::pop_heap(entries.begin(), entries.end(), order);
      entries.back() = next;
      std::push_heap(entries.begin(), entries.end(), order);
    }
    if (sorted) std::sort_heap(entries.begin(), entries.end(), order);
    return;
  }
  for (int64_t i = 0; i < n; ++i) entries.push_back({key(in[i * stride]), static_cast<I>(i)});
  if (k < n) std::nth_element(entries.begin(), entries.begin() + k, entries.end(), order);
  if (sorted) std::sort(entries.begin(), entries.begin() + k, order);
}

// I holds positions along the axis.
template <typename T, typename I>
void top_k(RunContext& run, const AxisView& view, int64_t k, bool largest, bool sorted) {
  const T* in = run.in<T>(0);
  T* values = run.out<T>(0);
  int64_t* indices = run.out<int64_t>(1);
  const double cost = static_cast<double>(view.size) * (k <= view.size / 8 ? 2 : 20);
  parallel_for(view.outer * view.inner, grain_for(cost), [&](int64_t begin, int64_t end) {
    std::vector<Entry<Compute<T>, I>> entries;
    for (int64_t line = begin; line < end; ++line) {
      const int64_t outer = line / view.inner, inner = line % view.inner;
      const T* from = in + outer * view.size * view.inner + inner;
      if (largest)
        select<true>(from, view.inner, view.size, k, sorted, entries);
      else
        select<false>(from, view.inner, view.size, k, sorted, entries);
      const int64_t to = outer * k * view.inner + inner;
      for (int64_t i = 0; i < k; ++i) {
        const int64_t index = entries[static_cast<size_t>(i)].index;
        if (values) values[to + i * view.inner] = from[index * view.inner];
        if (indices) indices[to + i * view.inner] = index;
      }
    }
  });
}

Prepared prepare_top_k(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<TopKAttributes>();
  const size_t axis = static_cast<size_t>(normalize_axis(attributes.axis, ctx.rank(0)));
  const auto wanted = ctx.host_ints(1);
  ctx.expect(wanted.size() == 1, "elements of input 'K'", "1", std::to_string(wanted.size()));
  const int64_t k = wanted[0];
  Dims dims = ctx.dims(0);
  ctx.expect(k >= 0 && k <= dims[axis], "input 'K'", "0 to " + std::to_string(dims[axis]), std::to_string(k));
  const AxisView view(dims, axis);
  dims[axis] = k;
  const bool largest = attributes.largest != 0, sorted = attributes.sorted != 0;
  Prepared result = decline("no order of this type");
  visit<AllNumbers>(ctx.dtype(0), [&]<typename T>() {
    ctx.output(0, ctx.dtype(0), dims);
    ctx.output(1, DType::Int64, dims);
    result = [=](RunContext& run) {
      if (k == 0) return;
      if (view.size < (int64_t{1} << 31))
        top_k<T, int32_t>(run, view, k, largest, sorted);
      else
        top_k<T, int64_t>(run, view, k, largest, sorted);
    };
  });
  return result;
}

// Whether a takes the place of b, which stands before it; NaN takes the place of a number, as in numpy.
template <bool kMax, bool kLast, typename K>
inline bool replaces(K a, K b) {
  const bool ahead = kLast ? (kMax ? a >= b : a <= b) : (kMax ? a > b : a < b);
  if constexpr (std::is_floating_point_v<K>) return ahead | ((a != a) & (kLast | (b == b)));
  return ahead;
}

// The position of the extreme of n contiguous elements: its value in lanes first, then its place.
template <bool kMax, bool kLast, typename T>
int64_t extreme_in_row(const T* in, int64_t n) {
  using K = Compute<T>;
  constexpr int64_t lanes = 16;
  if constexpr (std::is_same_v<K, T>) {
    if (n >= 4 * lanes) {
      K best[lanes];
      bool any_nan = false;
      std::copy(in, in + lanes, best);
      int64_t i = 0;
      for (; i + lanes <= n; i += lanes) {
        for (int64_t l = 0; l < lanes; ++l)
          best[l] = (kMax ? in[i + l] > best[l] : in[i + l] < best[l]) ? in[i + l] : best[l];
        if constexpr (std::is_floating_point_v<K>) {
          int nans = 0;
          for (int64_t l = 0; l < lanes; ++l) nans |= in[i + l] != in[i + l] ? 1 : 0;
          any_nan |= nans != 0;
        }
      }
      for (int64_t rest = i; rest < n; ++rest) any_nan |= is_nan(in[rest]);
      if (!any_nan) {
        K top = best[0];
        for (int64_t l = 1; l < lanes; ++l) top = (kMax ? best[l] > top : best[l] < top) ? best[l] : top;
        for (; i < n; ++i) top = (kMax ? in[i] > top : in[i] < top) ? in[i] : top;
        if (kLast) {
          for (i = n - 1; in[i] != top; --i) {
          }
        } else {
          for (i = 0; in[i] != top; ++i) {
          }
        }
        return i;
      }
    }
  }
  int64_t at = 0;
  K best = key(in[0]);
  for (int64_t i = 1; i < n; ++i) {
    const K value = key(in[i]);
    if (replaces<kMax, kLast>(value, best)) best = value, at = i;
  }
  return at;
}

// The same for lines that lie side by side; positions are kept in I while they are looked for.
template <bool kMax, bool kLast, typename I, typename T>
void extremes_side_by_side(const T* in, int64_t* out, const AxisView& view) {
  using K = Compute<T>;
  constexpr int64_t width = 256;
  const int64_t blocks = (view.inner + width - 1) / width;
  parallel_for(view.outer * blocks, grain_for(static_cast<double>(view.size * width) * 0.5),
               [&](int64_t begin, int64_t end) {
                 for (int64_t block = begin; block < end; ++block) {
                   const int64_t first = block % blocks * width, n = std::min(width, view.inner - first);
                   const T* from = in + block / blocks * view.size * view.inner + first;
                   K best[width];
                   I at[width] = {};
                   for (int64_t j = 0; j < n; ++j) best[j] = key(from[j]);
                   for (int64_t i = 1; i < view.size; ++i) {
                     const T* row = from + i * view.inner;
#pragma omp simd
                     for (int64_t j = 0; j < n; ++j) {
                       const K value = key(row[j]);
                       const bool take = replaces<kMax, kLast>(value, best[j]);
                       best[j] = take ? value : best[j];
                       at[j] = take ? static_cast<I>(i) : at[j];
                     }
                   }
                   std::copy(at, at + n, out + block / blocks * view.inner + first);
                 }
               });
}

// The positions of the extremes along the axis, for each of outer * inner lines.
template <bool kMax, bool kLast, typename T>
void extremes(const T* in, int64_t* out, const AxisView& view) {
  if (view.inner == 1) {
    parallel_for(view.outer, grain_for(static_cast<double>(view.size) * 0.5 + 3),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t o = begin; o < end; ++o)
                     out[o] = extreme_in_row<kMax, kLast>(in + o * view.size, view.size);
                 });
    return;
  }
  if (sizeof(T) < 8 && view.size < (int64_t{1} << 31))
    extremes_side_by_side<kMax, kLast, int32_t>(in, out, view);
  else
    extremes_side_by_side<kMax, kLast, int64_t>(in, out, view);
}

template <bool kMax>
Prepared prepare_arg_extreme(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<ArgExtremeAttributes>();
  Dims dims = ctx.dims(0);
  Prepared result = decline("no order of this type");
  const bool scalar = dims.empty();
  const size_t axis = static_cast<size_t>(normalize_axis(attributes.axis, scalar ? 1 : ctx.rank(0)));
  const AxisView view(scalar ? Dims{1} : dims, axis);
  if (!scalar) {
    if (attributes.keepdims)
      dims[axis] = 1;
    else
      dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axis));
  }
  const bool empty = element_count(dims) == 0;
  ctx.expect(empty || view.size > 0, "dim " + std::to_string(axis) + " of " + to_string(ctx.dims(0)),
             "1 or more elements", "0");
  const bool last = attributes.select_last_index != 0;
  visit<AllNumbers>(ctx.dtype(0), [&]<typename T>() {
    ctx.output(0, DType::Int64, dims);
    result = [=](RunContext& run) {
      if (empty) return;
      if (last)
        extremes<kMax, true>(run.in<T>(0), run.out<int64_t>(0), view);
      else
        extremes<kMax, false>(run.in<T>(0), run.out<int64_t>(0), view);
    };
  });
  return result;
}

Prepared prepare_hardmax(PrepareContext& ctx) {
  const Dims& dims = ctx.dims(0);
  const AxisView view(
      dims, static_cast<size_t>(normalize_axis(ctx.attributes<HardmaxAttributes>().axis, ctx.rank(0))));
  const int64_t total = ctx.input(0).size();
  Prepared result = decline("no order of this type");
  visit<AllFloats>(ctx.dtype(0), [&]<typename T>() {
    ctx.output(0, ctx.dtype(0), dims);
    ctx.scratch(static_cast<size_t>(view.outer * view.inner) * sizeof(int64_t));
    result = [=](RunContext& run) {
      if (total == 0) return;
      int64_t* at = reinterpret_cast<int64_t*>(run.scratch());
      extremes<true, false>(run.in<T>(0), at, view);
      T* out = run.out<T>(0);
      fill_zero(dtype_of<T>, out, total);
      for (int64_t line = 0; line < view.outer * view.inner; ++line)
        out[(line / view.inner * view.size + at[line]) * view.inner + line % view.inner] = T(1.0f);
    };
  });
  return result;
}

}  // namespace

void register_indexing_order(KernelRegistry& registry) {
  registry.ref("TopK", prepare_top_k);
  registry.ref("ArgMax", prepare_arg_extreme<true>);
  registry.ref("ArgMin", prepare_arg_extreme<false>);
  registry.ref("Hardmax", prepare_hardmax);
}

}  // namespace sardonyx::cpu
