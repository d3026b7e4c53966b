// Writing updates at indices. Updates of one place are applied in the order of the indices, whatever the
// number of threads.
#include <algorithm>
#include <optional>

#include "ops/indexing.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/indices.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/strided.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

namespace {

enum class Reduction { None, Add, Mul, Max, Min };

Reduction reduction_of(PrepareContext& ctx, const std::string& name) {
  if (name == "none") return Reduction::None;
  if (name == "add") return Reduction::Add;
  if (name == "mul") return Reduction::Mul;
  if (name == "max") return Reduction::Max;
  if (name == "min") return Reduction::Min;
  ctx.fail("attribute 'reduction'", "none, add, mul, max or min", name);
}

template <typename T>
constexpr bool kComplex = std::is_same_v<T, std::complex<float>> || std::is_same_v<T, std::complex<double>>;

// Integers wrap, bool adds as "or" and multiplies as "and", NaN wins over every number.
template <Reduction kReduction, typename T>
T combine(const T& old, const T& update) {
  if constexpr (kReduction == Reduction::None) {
    return update;
  } else if constexpr (std::is_same_v<T, bool>) {
    return kReduction == Reduction::Add || kReduction == Reduction::Max ? old || update : old && update;
  } else if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>) {
    return T(combine<kReduction>(static_cast<float>(old), static_cast<float>(update)));
  } else if constexpr (kReduction == Reduction::Add || kReduction == Reduction::Mul) {
    if constexpr (std::is_integral_v<T>) {
      const auto a = static_cast<uint64_t>(old), b = static_cast<uint64_t>(update);
      return static_cast<T>(kReduction == Reduction::Add ? a + b : a * b);
    } else {
      return kReduction == Reduction::Add ? old + update : old * update;
    }
  } else {
    if constexpr (std::is_floating_point_v<T>) {
      if (old != old) return old;
      if (update != update) return update;
    }
    return (kReduction == Reduction::Max ? update > old : update < old) ? update : old;
  }
}

// Calls f.template operator()<T, kReduction>(); false where the reduction has no meaning for the type.
template <typename F>
bool visit_reduction(DType dtype, Reduction reduction, F&& f) {
  if (reduction == Reduction::None) {
    visit_storage(dtype, [&]<typename T>() { f.template operator()<T, Reduction::None>(); });
    return true;
  }
  const bool sums = reduction == Reduction::Add || reduction == Reduction::Mul;
  if (sums && is_complex(dtype))
    return visit<Complexes>(dtype, [&]<typename T>() {
      if (reduction == Reduction::Add)
        f.template operator()<T, Reduction::Add>();
      else
        f.template operator()<T, Reduction::Mul>();
    });
  return visit<Join<AllNumbers, Types<bool>>>(dtype, [&]<typename T>() {
    switch (reduction) {
      case Reduction::Add:
        return f.template operator()<T, Reduction::Add>();
      case Reduction::Mul:
        return f.template operator()<T, Reduction::Mul>();
      case Reduction::Max:
        return f.template operator()<T, Reduction::Max>();
      default:
        return f.template operator()<T, Reduction::Min>();
    }
  });
}

bool supported(DType dtype, Reduction reduction) {
  return visit_reduction(dtype, reduction, []<typename T, Reduction kReduction>() {});
}

// What both scatters share: the types, and an output that begins as the data.
void begin(PrepareContext& ctx) {
  ctx.expect(is_index_type(ctx.dtype(1)), "type of the indices", "int32 or int64", dtype_name(ctx.dtype(1)));
  ctx.expect(ctx.dtype(2) == ctx.dtype(0), "type of the updates", dtype_name(ctx.dtype(0)),
             dtype_name(ctx.dtype(2)));
  ctx.output(0, ctx.dtype(0), ctx.dims(0));
  if (ctx.node().input(0) != ctx.node().input(2)) ctx.may_share(0, 0);
}

void copy_data(RunContext& run) {
  Tensor& out = run.output(0);
  const Tensor& in = run.input(0);
  if (out.data() != in.data()) copy(in.dtype(), out.mutable_data(), in.data(), in.size());
}

Prepared scatter_elements(PrepareContext& ctx, int64_t axis_attribute, Reduction reduction) {
  const Dims& data = ctx.dims(0);
  const Dims dims = ctx.dims(1);
  const size_t rank = data.size();
  ctx.expect(rank > 0, "rank of input 'data'", "1 or more", "0");
  ctx.expect(dims.size() == rank, "rank of input 'indices'", std::to_string(rank),
             std::to_string(dims.size()));
  ctx.expect(ctx.dims(2) == dims, "dims of input 'updates'", to_string(dims), to_string(ctx.dims(2)));
  const size_t axis = static_cast<size_t>(normalize_axis(axis_attribute, ctx.rank(0)));
  for (size_t d = 0; d < rank; ++d)
    ctx.expect(d == axis || dims[d] <= data[d], "input 'indices' dim " + std::to_string(d),
               "at most " + std::to_string(data[d]), std::to_string(dims[d]));
  const DType dtype = ctx.dtype(0);
  if (!supported(dtype, reduction)) return decline(std::string("no such reduction of ") + dtype_name(dtype));
  begin(ctx);
  Dims strides = contiguous_strides(data);
  const int64_t size = data[axis], axis_stride = strides[axis], n = element_count(dims);
  strides[axis] = 0;
  const AxisView view(dims, axis);
  return [=](RunContext& run) {
    copy_data(run);
    if (n == 0) return;
    const Indices indices(run.input(1));
    // Places with the same coordinates before the axis are written by one thread.
    const int64_t columns = dims.back(), column_stride = strides.back(), per_outer = n / view.outer;
    visit_reduction(dtype, reduction, [&]<typename T, Reduction kReduction>() {
      const T* updates = run.in<T>(2);
      T* out = run.out<T>(0);
      parallel_for(
          view.outer, grain_for(static_cast<double>(per_outer) * 3), [&](int64_t first, int64_t last) {
            for (int64_t row = first * per_outer / columns; row < last * per_outer / columns; ++row) {
              int64_t base = 0;
              for (size_t d = rank - 1, rest = static_cast<size_t>(row); d-- > 0;) {
                base += static_cast<int64_t>(rest % static_cast<size_t>(dims[d])) * strides[d];
                rest /= static_cast<size_t>(dims[d]);
              }
              for (int64_t j = 0; j < columns; ++j) {
                const int64_t i = row * columns + j;
                T& place = out[base + j * column_stride + indices.at(i, size) * axis_stride];
                place = combine<kReduction>(place, updates[i]);
              }
            }
          });
    });
  };
}

Prepared prepare_scatter_elements(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<ScatterElementsAttributes>();
  return scatter_elements(ctx, attributes.axis, reduction_of(ctx, attributes.reduction));
}

Prepared prepare_scatter(PrepareContext& ctx) {
  return scatter_elements(ctx, ctx.attributes<GatherAttributes>().axis, Reduction::None);
}

Prepared prepare_scatter_nd(PrepareContext& ctx) {
  const Reduction reduction = reduction_of(ctx, ctx.attributes<ScatterNdAttributes>().reduction);
  const Dims& data = ctx.dims(0);
  const Dims& indices = ctx.dims(1);
  ctx.expect(!data.empty() && !indices.empty(), "ranks of data and indices", "1 or more",
             std::to_string(data.size()) + " and " + std::to_string(indices.size()));
  const int64_t k = indices.back();
  ctx.expect(k >= 0 && k <= ctx.rank(0), "last dimension of the indices",
             "0 to " + std::to_string(data.size()), std::to_string(k));
  Dims wanted(indices.begin(), indices.end() - 1);
  wanted.insert(wanted.end(), data.begin() + static_cast<std::ptrdiff_t>(k), data.end());
  ctx.expect(ctx.dims(2) == wanted, "dims of input 'updates'", to_string(wanted), to_string(ctx.dims(2)));
  const DType dtype = ctx.dtype(0);
  if (!supported(dtype, reduction)) return decline(std::string("no such reduction of ") + dtype_name(dtype));
  begin(ctx);
  const Dims sizes(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(k)),
      strides = contiguous_strides(data);
  const int64_t tuples = element_count(Dims(indices.begin(), indices.end() - 1));
  const int64_t inner = element_count(Dims(data.begin() + static_cast<std::ptrdiff_t>(k), data.end()));
  ctx.scratch(static_cast<size_t>(checked_mul(tuples, sizeof(int64_t), "scratch of ScatterND")));
  return [=](RunContext& run) {
    copy_data(run);
    const Indices indices(run.input(1));
    int64_t* places = reinterpret_cast<int64_t*>(run.scratch());
    for (int64_t t = 0; t < tuples; ++t) {
      places[t] = 0;
      for (size_t d = 0; d < sizes.size(); ++d)
        places[t] += indices.at(t * static_cast<int64_t>(sizes.size()) + static_cast<int64_t>(d), sizes[d]) *
                     strides[d];
    }
    if (tuples == 0 || inner == 0) return;
    visit_reduction(dtype, reduction, [&]<typename T, Reduction kReduction>() {
      const T* updates = run.in<T>(2);
      T* out = run.out<T>(0);
      // Every thread takes its columns of all slices.
      parallel_for(inner, grain_for(static_cast<double>(tuples)), [&](int64_t first, int64_t last) {
        for (int64_t t = 0; t < tuples; ++t) {
          const T* from = updates + t * inner;
          T* to = out + places[t];
          if constexpr (kReduction == Reduction::None) {
            std::copy(from + first, from + last, to + first);
          } else {
            for (int64_t i = first; i < last; ++i) to[i] = combine<kReduction>(to[i], from[i]);
          }
        }
      });
    });
  };
}

}  // namespace

void register_indexing_scatter(KernelRegistry& registry) {
  registry.ref("Scatter", prepare_scatter);
  registry.ref("ScatterElements", prepare_scatter_elements);
  registry.ref("ScatterND", prepare_scatter_nd);
}

}  // namespace sardonyx::cpu
