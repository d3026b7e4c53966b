// MaxPool, AveragePool, LpPool, their global forms and MaxUnpool: validation and plain loops.
#include "providers/cpu/pooling.h"

#include <cmath>
#include <limits>

#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/widen.h"

namespace sardonyx::cpu {

PoolShape pool_shape(const PrepareContext& ctx, const Dims& x, Pooling kind,
                     const PoolAttributes& attributes) {
  ctx.expect(x.size() >= 3, "rank of input 'X'", "at least 3", std::to_string(x.size()));
  ctx.expect(attributes.kernel_shape.has_value(), "attribute 'kernel_shape'",
             std::to_string(x.size() - 2) + " values", "none");
  PoolShape s;
  s.kind = kind;
  s.planes = checked_mul(x[0], x[1], "planes");
  s.window = make_window(ctx, Dims(x.begin() + 2, x.end()), *attributes.kernel_shape,
                         {attributes.auto_pad, attributes.strides, attributes.dilations, attributes.pads,
                          attributes.ceil_mode != 0});
  s.dims = {x[0], x[1]};
  s.dims.insert(s.dims.end(), s.window.out.begin(), s.window.out.end());
  return s;
}

namespace {

template <typename T>
T lowest() {
  if constexpr (std::is_floating_point_v<T>)
    return -std::numeric_limits<T>::infinity();
  else
    return std::numeric_limits<T>::min();
}

template <typename T>
bool is_nan(T value) {
  if constexpr (std::is_floating_point_v<T>)
    return std::isnan(value);
  else
    return false;
}

// The column-major index of the element at a row-major one.
int64_t transposed(int64_t at, const Dims& dims) {
  int64_t result = 0;
  for (size_t i = dims.size(); i-- > 0; at /= dims[i]) {
    int64_t stride = 1;
    for (size_t d = 0; d < i; ++d) stride *= dims[d];
    result += at % dims[i] * stride;
  }
  return result;
}

// The maximum of a window; the first NaN if there is one. The index of a window without elements is -1.
template <typename T>
void pool_max(const PoolShape& s, const T* x, T* y, int64_t* indices) {
  const Window& w = s.window;
  const int64_t in_plane = element_count(w.in), out_plane = element_count(w.out);
  if (out_plane == 0) return;
  parallel_for(s.planes, grain_for(static_cast<double>(out_plane) * 20), [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) {
      const T* in = x + plane * in_plane;
      T best = lowest<T>();
      int64_t where = -1;
      for_each_window(
          w,
          [&](int64_t at) {
            const T value = in[at];
            if (where >= 0 && (is_nan(best) || !(value > best || is_nan(value)))) return;
            best = value;
            where = at;
          },
          [&](int64_t window) {
            y[plane * out_plane + window] = best;
            if (indices)
              indices[plane * out_plane + window] =
                  where < 0 ? -1 : plane * in_plane + (s.column_major ? transposed(where, w.in) : where);
            best = lowest<T>();
            where = -1;
          });
    }
  });
}

template <typename T>
void pool_sum(const PoolShape& s, const T* x, T* y) {
  const Window& w = s.window;
  const int64_t in_plane = element_count(w.in), out_plane = element_count(w.out);
  if (out_plane == 0) return;
  const double p = static_cast<double>(s.p);
  parallel_for(s.planes, grain_for(static_cast<double>(out_plane) * 20), [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) {
      const T* in = x + plane * in_plane;
      double sum = 0;
      Dims position(w.rank(), 0);
      for_each_window(
          w,
          [&](int64_t at) {
            const double value = static_cast<double>(in[at]);
            if (s.kind == Pooling::Average)
              sum += value;
            else if (s.p == 1)
              sum += std::abs(value);
            else if (s.p == 2)
              sum += value * value;
            else
              sum += std::pow(std::abs(value), p);
          },
          [&](int64_t window) {
            if (s.kind == Pooling::Average) {
              double count = 1;
              for (size_t i = 0; i < w.rank(); ++i) count *= static_cast<double>(s.covered(i, position[i]));
              sum /= count;  // a mean of nothing is NaN
            } else if (s.p != 1) {
              sum = s.p == 2 ? std::sqrt(sum) : std::pow(sum, 1 / p);
            }
            y[plane * out_plane + window] = static_cast<T>(sum);
            sum = 0;
            next_index(position, w.out);
          });
    }
  });
}

[[noreturn]] void wrong_dtype(const PrepareContext& ctx) {
  ctx.fail("dtype of input 'X'", "a float type", dtype_name(ctx.dtype(0)));
}

template <typename Shape>
Prepared prepare_pool(PrepareContext& ctx, Shape shape) {
  const DType dtype = ctx.dtype(0);
  if (dtype == DType::Float16 || dtype == DType::BFloat16)
    return widened(ctx, dtype, [shape](PrepareContext& wide) { return prepare_pool(wide, shape); });
  const PoolShape s = shape(ctx);
  ctx.output(0, dtype, s.dims);
  ctx.output(1, DType::Int64, s.dims);
  std::function<void(RunContext&)> run;
  if (s.kind == Pooling::Max)
    visit<Types<float, double, int8_t, uint8_t>>(dtype, [&]<typename T>() {
      run = [s](RunContext& r) { pool_max(s, r.in<T>(0), r.out<T>(0), r.out<int64_t>(1)); };
    });
  else
    visit<Floats>(dtype,
                  [&]<typename T>() { run = [s](RunContext& r) { pool_sum(s, r.in<T>(0), r.out<T>(0)); }; });
  if (!run) wrong_dtype(ctx);
  return run;
}

// Indices are counted within the image that MaxPool would have read according to the attributes; a larger
// output_shape adds zeros after it in each dimension.
Prepared prepare_max_unpool(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (dtype == DType::Float16 || dtype == DType::BFloat16) return widened(ctx, dtype, prepare_max_unpool);
  const auto attributes = ctx.attributes<MaxUnpoolAttributes>();
  const Dims& x = ctx.dims(0);
  ctx.expect(x.size() >= 3, "rank of input 'X'", "at least 3", std::to_string(x.size()));
  ctx.expect(ctx.dims(1) == x, "dims of input 'I'", to_string(x), to_string(ctx.dims(1)));
  ctx.expect(ctx.dtype(1) == DType::Int64, "dtype of input 'I'", "int64", dtype_name(ctx.dtype(1)));
  const size_t rank = x.size() - 2;
  ctx.expect(attributes.kernel_shape.has_value(), "attribute 'kernel_shape'",
             std::to_string(rank) + " values", "none");
  const Dims kernel = spatial_list(ctx, attributes.kernel_shape, "kernel_shape", rank, 1, 1);
  const Dims strides = spatial_list(ctx, attributes.strides, "strides", rank, 1, 1);
  const Dims pads = spatial_list(ctx, attributes.pads, "pads", 2 * rank, 0, 0);
  Dims image = {x[0], x[1]};
  for (size_t i = 0; i < rank; ++i) {
    const int64_t full = checked_add(checked_mul(std::max<int64_t>(x[i + 2] - 1, 0), strides[i], "output"),
                                     kernel[i], "output");
    const int64_t size = full - checked_add(pads[i], pads[i + rank], "padding");
    ctx.expect(size >= 0, "padding of spatial dimension " + std::to_string(i),
               "at most " + std::to_string(full), std::to_string(full - size));
    image.push_back(x[i + 2] == 0 ? 0 : size);
  }
  Dims dims = image;
  if (ctx.has_input(2)) {
    dims = ctx.host_ints(2);
    bool fits = dims.size() == image.size();
    for (size_t i = 0; fits && i < dims.size(); ++i) fits = dims[i] >= image[i];
    ctx.expect(fits, "input 'output_shape'", "at least " + to_string(image), to_string(dims));
  }
  ctx.output(0, dtype, dims);
  std::function<void(RunContext&)> run;
  visit<Floats>(dtype, [&]<typename T>() {
    run = [n = ctx.input(0).size(), image, dims, size = element_count(image)](RunContext& r) {
      const T* values = r.in<T>(0);
      const int64_t* indices = r.in<int64_t>(1);
      T* y = r.out<T>(0);
      std::fill(y, y + r.output(0).size(), T{});
      const Dims strides = contiguous_strides(dims);
      for (int64_t i = 0; i < n; ++i) {
        int64_t rest = indices[i];
        if (rest < 0 || rest >= size)
          r.fail("input 'I'", "indices in [0, " + std::to_string(size) + ")", std::to_string(rest));
        int64_t at = 0;
        for (size_t d = image.size(); d-- > 0; rest /= image[d]) at += rest % image[d] * strides[d];
        y[at] = values[i];
      }
    };
  });
  if (!run) wrong_dtype(ctx);
  return run;
}

}  // namespace

PoolShape max_pool_shape(const PrepareContext& ctx) {
  const auto attributes = ctx.attributes<MaxPoolAttributes>();
  PoolShape s = pool_shape(ctx, ctx.dims(0), Pooling::Max, attributes);
  ctx.expect(attributes.storage_order == 0 || attributes.storage_order == 1, "attribute 'storage_order'",
             "0 or 1", std::to_string(attributes.storage_order));
  s.column_major = attributes.storage_order == 1;
  return s;
}

PoolShape average_pool_shape(const PrepareContext& ctx) {
  const auto attributes = ctx.attributes<AveragePoolAttributes>();
  PoolShape s = pool_shape(ctx, ctx.dims(0), Pooling::Average, attributes);
  s.count_include_pad = attributes.count_include_pad != 0;
  return s;
}

PoolShape lp_pool_shape(const PrepareContext& ctx) {
  const auto attributes = ctx.attributes<LpPoolAttributes>();
  PoolShape s = pool_shape(ctx, ctx.dims(0), Pooling::Lp, attributes);
  ctx.expect(attributes.p >= 1, "attribute 'p'", "at least 1", std::to_string(attributes.p));
  s.p = attributes.p;
  return s;
}

PoolShape global_pool_shape(const PrepareContext& ctx, Pooling kind, int64_t p) {
  const Dims& x = ctx.dims(0);
  ctx.expect(x.size() >= 3, "rank of input 'X'", "at least 3", std::to_string(x.size()));
  ctx.expect(p >= 1, "attribute 'p'", "at least 1", std::to_string(p));
  PoolShape s;
  s.kind = kind;
  s.p = p;
  s.planes = checked_mul(x[0], x[1], "planes");
  const size_t rank = x.size() - 2;
  s.window.in = s.window.kernel = Dims(x.begin() + 2, x.end());
  s.window.out = s.window.stride = s.window.dilation = Dims(rank, 1);
  s.window.pad_begin = s.window.pad_end = Dims(rank, 0);
  s.dims.assign(x.size(), 1);
  s.dims[0] = x[0], s.dims[1] = x[1];
  return s;
}

void register_pooling(KernelRegistry& registry) {
  const auto add = [&](const char* op, auto shape) {
    registry.ref(op, [shape](PrepareContext& ctx) { return prepare_pool(ctx, shape); });
  };
  add("MaxPool", max_pool_shape);
  add("AveragePool", average_pool_shape);
  add("LpPool", lp_pool_shape);
  add("GlobalMaxPool", [](const PrepareContext& ctx) { return global_pool_shape(ctx, Pooling::Max); });
  add("GlobalAveragePool",
      [](const PrepareContext& ctx) { return global_pool_shape(ctx, Pooling::Average); });
  add("GlobalLpPool", [](const PrepareContext& ctx) {
    return global_pool_shape(ctx, Pooling::Lp, ctx.attributes<GlobalLpPoolAttributes>().p);
  });
  registry.ref("MaxUnpool", prepare_max_unpool);
}

}  // namespace sardonyx::cpu
