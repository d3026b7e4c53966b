// Operators that read or write elements at given indices of an axis.
#include "ops/indexing.h"

#include <algorithm>
#include <limits>

#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/indices.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/strided.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

namespace {

void expect_indices(PrepareContext& ctx, size_t i) {
  ctx.expect(is_index_type(ctx.dtype(i)), "type of the indices", "int32 or int64", dtype_name(ctx.dtype(i)));
}

Prepared prepare_gather(PrepareContext& ctx) {
  const Dims& in = ctx.dims(0);
  const Dims& indices = ctx.dims(1);
  expect_indices(ctx, 1);
  const size_t axis =
      static_cast<size_t>(normalize_axis(ctx.attributes<GatherAttributes>().axis, ctx.rank(0)));
  Dims dims(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(axis));
  dims.insert(dims.end(), indices.begin(), indices.end());
  dims.insert(dims.end(), in.begin() + static_cast<std::ptrdiff_t>(axis) + 1, in.end());
  const int64_t total = element_count(dims), n = ctx.input(1).size();
  const DType dtype = ctx.dtype(0);
  ctx.output(0, dtype, std::move(dims));
  const AxisView view(in, axis);
  return [dtype, view, n, total](RunContext& run) {
    const Indices indices(run.input(1));
    if (total == 0) {
      for (int64_t i = 0; i < n; ++i) indices.at(i, view.size);
      return;
    }
    visit_storage(dtype, [&]<typename T>() {
      const T* in = run.in<T>(0);
      T* out = run.out<T>(0);
      parallel_for(view.outer * n, grain_for(2 + static_cast<double>(view.inner * sizeof(T)) * 0.1),
                   [&](int64_t begin, int64_t end) {
                     int64_t outer = begin / n, i = begin % n;
                     for (int64_t row = begin; row < end; ++row) {
                       const T* from = in + (outer * view.size + indices.at(i, view.size)) * view.inner;
                       if (view.inner == 1)
                         out[row] = *from;
                       else
                         std::copy(from, from + view.inner, out + row * view.inner);
                       if (++i == n) i = 0, ++outer;
                     }
                   });
    });
  };
}

Prepared prepare_gather_elements(PrepareContext& ctx) {
  const Dims& in = ctx.dims(0);
  const Dims dims = ctx.dims(1);
  expect_indices(ctx, 1);
  const size_t rank = in.size();
  ctx.expect(rank > 0, "rank of input 'data'", "1 or more", "0");
  ctx.expect(dims.size() == rank, "rank of input 'indices'", std::to_string(rank),
             std::to_string(dims.size()));
  const size_t axis =
      static_cast<size_t>(normalize_axis(ctx.attributes<GatherAttributes>().axis, ctx.rank(0)));
  for (size_t d = 0; d < rank; ++d)
    ctx.expect(d == axis || dims[d] <= in[d], "input 'indices' dim " + std::to_string(d),
               "at most " + std::to_string(in[d]), std::to_string(dims[d]));
  const DType dtype = ctx.dtype(0);
  const int64_t total = element_count(dims), size = in[axis];
  ctx.output(0, dtype, dims);
  Dims strides = contiguous_strides(in);
  const int64_t axis_stride = strides[axis];
  strides[axis] = 0;
  return [=](RunContext& run) {
    if (total == 0) return;
    const int64_t columns = dims.back(), column_stride = strides.back();
    const auto gather = [&](const auto* in, const auto* indices, auto* out) {
      parallel_for(total / columns, grain_for(5 + static_cast<double>(columns)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t row = begin; row < end; ++row) {
                       int64_t base = 0;
                       for (size_t d = rank - 1, rest = static_cast<size_t>(row); d-- > 0;) {
                         base += static_cast<int64_t>(rest % static_cast<size_t>(dims[d])) * strides[d];
                         rest /= static_cast<size_t>(dims[d]);
                       }
                       const auto* from = in + base;
                       if (column_stride == 0) {  // along the last axis
                         for (int64_t i = row * columns; i < (row + 1) * columns; ++i)
                           out[i] = from[wrap_index(indices[i], size)];
                         continue;
                       }
                       for (int64_t j = 0; j < columns; ++j) {
                         const int64_t i = row * columns + j;
                         out[i] = from[j * column_stride + wrap_index(indices[i], size) * axis_stride];
                       }
                     }
                   });
    };
    visit_storage(dtype, [&]<typename T>() {
      visit_indices(run.input(1), [&](const auto* indices) { gather(run.in<T>(0), indices, run.out<T>(0)); });
    });
  };
}

Prepared prepare_gather_nd(PrepareContext& ctx) {
  const Dims& in = ctx.dims(0);
  const Dims& indices = ctx.dims(1);
  expect_indices(ctx, 1);
  const int64_t rank = ctx.rank(0), q = ctx.rank(1),
                batch_dims = ctx.attributes<GatherNdAttributes>().batch_dims;
  ctx.expect(rank >= 1 && q >= 1, "ranks of data and indices", "1 or more",
             std::to_string(rank) + " and " + std::to_string(q));
  ctx.expect(batch_dims >= 0 && batch_dims < std::min(rank, q), "attribute 'batch_dims'",
             "0 to " + std::to_string(std::min(rank, q) - 1), std::to_string(batch_dims));
  const int64_t k = indices.back();
  ctx.expect(k >= 1 && k <= rank - batch_dims, "last dimension of the indices",
             "1 to " + std::to_string(rank - batch_dims), std::to_string(k));
  for (size_t d = 0; d < static_cast<size_t>(batch_dims); ++d)
    ctx.expect(in[d] == indices[d], "batch dim " + std::to_string(d) + " of the indices",
               std::to_string(in[d]), std::to_string(indices[d]));
  Dims dims(indices.begin(), indices.end() - 1);
  dims.insert(dims.end(), in.begin() + static_cast<std::ptrdiff_t>(batch_dims + k), in.end());
  const DType dtype = ctx.dtype(0);
  const int64_t total = element_count(dims);
  ctx.output(0, dtype, dims);
  const Dims all_strides = contiguous_strides(in);
  const Dims sizes(in.begin() + batch_dims, in.begin() + batch_dims + k);
  const Dims strides(all_strides.begin() + batch_dims, all_strides.begin() + batch_dims + k);
  const int64_t tuples = element_count(Dims(indices.begin(), indices.end() - 1));
  const int64_t batches = element_count(Dims(in.begin(), in.begin() + batch_dims));
  const int64_t per_batch = batches == 0 ? 0 : tuples / batches;
  const int64_t batch_size = element_count(Dims(in.begin() + batch_dims, in.end()));
  const int64_t inner = strides.back();
  return [=](RunContext& run) {
    if (tuples == 0) return;
    const Indices indices(run.input(1));
    visit_storage(dtype, [&]<typename T>() {
      const T* in = run.in<T>(0);
      T* out = run.out<T>(0);
      parallel_for(tuples, grain_for(5 + static_cast<double>(inner * sizeof(T)) * 0.1),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t t = begin; t < end; ++t) {
                       int64_t from = t / per_batch * batch_size;
                       for (int64_t d = 0; d < k; ++d)
                         from += indices.at(t * k + d, sizes[static_cast<size_t>(d)]) *
                                 strides[static_cast<size_t>(d)];
                       if (total != 0) std::copy(in + from, in + from + inner, out + t * inner);
                     }
                   });
    });
  };
}

Prepared prepare_tensor_scatter(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<TensorScatterAttributes>();
  const Dims dims = ctx.dims(0);
  const Dims& update = ctx.dims(1);
  const size_t axis = static_cast<size_t>(normalize_axis(attributes.axis, ctx.rank(0)));
  ctx.expect(axis != 0, "attribute 'axis'", "an axis other than the batch", std::to_string(attributes.axis));
  ctx.expect(attributes.mode == "linear" || attributes.mode == "circular", "attribute 'mode'",
             "linear or circular", attributes.mode);
  ctx.expect(ctx.dtype(1) == ctx.dtype(0), "type of input 'update'", dtype_name(ctx.dtype(0)),
             dtype_name(ctx.dtype(1)));
  ctx.expect(update.size() == dims.size(), "rank of input 'update'", std::to_string(dims.size()),
             std::to_string(update.size()));
  for (size_t d = 0; d < dims.size(); ++d)
    ctx.expect(d == axis ? update[d] <= dims[d] : update[d] == dims[d],
               "input 'update' dim " + std::to_string(d),
               (d == axis ? "at most " : "") + std::to_string(dims[d]), std::to_string(update[d]));
  if (ctx.has_input(2))
    ctx.expect(ctx.dims(2) == Dims{dims[0]}, "dims of input 'write_indices'", to_string(Dims{dims[0]}),
               to_string(ctx.dims(2)));
  const DType dtype = ctx.dtype(0);
  const AxisView view(dims, axis);
  const int64_t total = ctx.input(0).size(), length = update[axis], batch = dims[0];
  const bool circular = attributes.mode == "circular";
  ctx.output(0, dtype, dims);
  if (ctx.node().input(0) != ctx.node().input(1)) ctx.may_share(0, 0);
  return [=](RunContext& run) {
    if (total == 0) return;
    const int64_t* given = run.in<int64_t>(2);
    for (int64_t b = 0; given && b < batch; ++b) {
      const int64_t last = circular ? std::numeric_limits<int64_t>::max() : view.size - length;
      if (given[b] < 0 || given[b] > last)
        run.fail("input 'write_indices' [" + std::to_string(b) + "]",
                 circular ? "0 or more" : "0 to " + std::to_string(last), std::to_string(given[b]));
    }
    Tensor& out_tensor = run.output(0);
    if (out_tensor.data() != run.input(0).data())
      copy(dtype, out_tensor.mutable_data(), run.input(0).data(), total);
    visit_storage(dtype, [&]<typename T>() {
      const T* in = run.in<T>(1);
      T* out = run.out<T>(0);
      parallel_for(view.outer * length, grain_for(5 + static_cast<double>(view.inner * sizeof(T)) * 0.1),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t row = begin; row < end; ++row) {
                       const int64_t outer = row / length, step = row % length;
                       const int64_t write = given ? given[outer / (view.outer / batch)] : 0;
                       const int64_t to = circular ? (write % view.size + step) % view.size : write + step;
                       std::copy(in + row * view.inner, in + (row + 1) * view.inner,
                                 out + (outer * view.size + to) * view.inner);
                     }
                   });
    });
  };
}

// An index of any number type; a value that is no int64 lies outside every depth.
template <typename T>
int64_t whole(T value) {
  if constexpr (std::is_integral_v<T>) {
    if constexpr (std::is_same_v<T, uint64_t>)
      return value > uint64_t{1} << 62 ? int64_t{1} << 62 : static_cast<int64_t>(value);
    else
      return static_cast<int64_t>(value);
  } else {
    const double number = static_cast<double>(static_cast<Compute<T>>(value));
    return number > -4e18 && number < 4e18 ? static_cast<int64_t>(number) : int64_t{1} << 62;
  }
}

using OneHotIndices = Join<Numbers, Types<Half>>;

Prepared prepare_one_hot(PrepareContext& ctx) {
  const Dims& in = ctx.dims(0);
  const Tensor* depth_value = ctx.host(1);
  ctx.expect(depth_value && depth_value->size() == 1, "input 'depth'", "one value, known before the run");
  ctx.expect(ctx.dims(2) == Dims{2}, "dims of input 'values'", "[2]", to_string(ctx.dims(2)));
  int64_t depth = -1;
  visit<OneHotIndices>(depth_value->dtype(), [&]<typename T>() { depth = whole(*depth_value->data<T>()); });
  ctx.expect(depth >= 0, "input 'depth'", "0 or more", std::to_string(depth));
  const int rank = ctx.rank(0) + 1;
  const size_t axis = static_cast<size_t>(normalize_axis(ctx.attributes<OneHotAttributes>().axis, rank));
  Dims dims = in;
  dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(axis), depth);
  const int64_t total = element_count(dims), n = ctx.input(0).size();
  const DType dtype = ctx.dtype(2);
  ctx.output(0, dtype, dims);
  const AxisView view(dims, axis);
  Prepared result = decline("no index of this type");
  visit<OneHotIndices>(ctx.dtype(0), [&]<typename I>() {
    result = [=](RunContext& run) {
      visit_storage(dtype, [&]<typename T>() {
        const T* values = run.in<T>(2);
        const I* indices = run.in<I>(0);
        T* out = run.out<T>(0);
        fill(dtype, out, values, total);
        if (total == 0) return;
        for (int64_t i = 0; i < n; ++i) {
          int64_t index = whole(indices[i]);
          if (index < 0) index += view.size;
          if (index >= 0 && index < view.size)
            out[(i / view.inner * view.size + index) * view.inner + i % view.inner] = values[1];
        }
      });
    };
  });
  return result;
}

}  // namespace

void register_indexing(KernelRegistry& registry) {
  registry.ref("Gather", prepare_gather);
  registry.ref("GatherElements", prepare_gather_elements);
  registry.ref("GatherND", prepare_gather_nd);
  registry.ref("TensorScatter", prepare_tensor_scatter);
  registry.ref("OneHot", prepare_one_hot);
}

}  // namespace sardonyx::cpu
