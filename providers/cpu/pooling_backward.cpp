// MaxPoolBackward, AveragePoolBackward and GlobalAveragePoolBackward: validation and plain loops.
#include "providers/cpu/pooling_backward.h"

#include <cmath>

#include "ops/registry/operator.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/widen.h"

namespace sardonyx::cpu {

namespace {

void expect_output_dims(const PrepareContext& ctx, const PoolShape& s) {
  ctx.expect(ctx.dims(0) == s.dims, "dims of input 'dY'", to_string(s.dims), to_string(ctx.dims(0)));
}

Dims image_dims(const PrepareContext& ctx) {
  const Dims x = ctx.host_ints(1);
  for (const int64_t dim : x) ctx.expect(dim >= 0, "input 'shape'", "dims of at least 0", to_string(x));
  element_count(x);
  return x;
}

// The first largest element of a window, or the first NaN, gets all of dY.
template <typename T>
void spread_max(const PoolShape& s, const T* dy, const T* x, T* dx) {
  const int64_t in_plane = element_count(s.window.in), out_plane = element_count(s.window.out);
  parallel_for(s.planes, grain_for(static_cast<double>(out_plane) * 20 + 1), [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) {
      const T *in = x + plane * in_plane, *from = dy + plane * out_plane;
      T* to = dx + plane * in_plane;
      std::fill(to, to + in_plane, T(0));
      int64_t best = -1;
      for_each_window(
          s.window,
          [&](int64_t at) {
            if (best < 0 || (!std::isnan(in[best]) && (in[at] > in[best] || std::isnan(in[at])))) best = at;
          },
          [&](int64_t window) {
            if (best >= 0) to[best] += from[window];
            best = -1;
          });
    }
  });
}

template <typename T>
void spread_average(const PoolShape& s, const T* dy, T* dx) {
  const Window& w = s.window;
  const int64_t in_plane = element_count(w.in), out_plane = element_count(w.out);
  std::vector<T> shares(static_cast<size_t>(out_plane), T(1));
  Dims position(w.rank(), 0);
  for (T& share : shares) {
    for (size_t i = 0; i < w.rank(); ++i) share *= static_cast<T>(s.covered(i, position[i]));
    share = T(1) / share;
    next_index(position, w.out);
  }
  parallel_for(s.planes, grain_for(static_cast<double>(out_plane) * 20 + 1), [&](int64_t begin, int64_t end) {
    for (int64_t plane = begin; plane < end; ++plane) {
      T* to = dx + plane * in_plane;
      std::fill(to, to + in_plane, T(0));
      const T* from = dy + plane * out_plane;
      const T* share = shares.data();
      T value = *from * *share;
      for_each_window(
          w, [&](int64_t at) { to[at] += value; },
          [&](int64_t window) {
            if (window + 1 < out_plane) value = *++from * *++share;
          });
    }
  });
}

Prepared prepare_max(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (is_narrow_float(dtype)) return widened(ctx, dtype, prepare_max);
  const PoolShape s = max_pool_backward_shape(ctx);
  ctx.output(0, dtype, ctx.dims(1));
  std::function<void(RunContext&)> run;
  visit<Types<float, double>>(dtype, [&]<typename T>() {
    run = [s](RunContext& r) { spread_max(s, r.in<T>(0), r.in<T>(1), r.out<T>(0)); };
  });
  ctx.expect(run != nullptr, "dtype of input 'dY'", "a float type", dtype_name(dtype));
  return run;
}

Prepared prepare_average(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (is_narrow_float(dtype)) return widened(ctx, dtype, prepare_average);
  const PoolShape s = average_pool_backward_shape(ctx);
  ctx.output(0, dtype, ctx.host_ints(1));
  std::function<void(RunContext&)> run;
  visit<Types<float, double>>(dtype, [&]<typename T>() {
    run = [s, empty = element_count(s.window.out) == 0](RunContext& r) {
      T* dx = r.out<T>(0);
      if (empty)
        std::fill(dx, dx + r.output(0).size(), T(0));
      else
        spread_average(s, r.in<T>(0), dx);
    };
  });
  ctx.expect(run != nullptr, "dtype of input 'dY'", "a float type", dtype_name(dtype));
  return run;
}

// Every element of a plane is the mean's share of dY; channels last, every row of channels.
Prepared prepare_global_average(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  const Dims x = image_dims(ctx), &dy = ctx.dims(0);
  ctx.expect(x.size() >= 3 && dy.size() == x.size() && dy[0] == x[0] && dy[1] == x[1] &&
                 element_count(dy) == checked_mul(x[0], x[1], "planes"),
             "dims of input 'dY'", "the batch and channels of " + to_string(x) + " and ones", to_string(dy));
  const Layout layout = ctx.layouts() ? Layout::ChannelsLast : Layout::Plain;
  ctx.output(0, dtype, x);
  ctx.output_layout(0, layout);
  ctx.want(0, layout);
  const int64_t batch = x[0], channels = x[1], plane = element_count(Dims(x.begin() + 2, x.end()));
  std::function<void(RunContext&)> run;
  visit<AllFloats>(dtype, [&]<typename T>() {
    run = [=](RunContext& r) {
      const T* from = r.in<T>(0);
      T* to = r.out<T>(0);
      const auto share = [plane](T v) {
        return T(static_cast<Compute<T>>(v) / static_cast<Compute<T>>(plane));
      };
      if (layout == Layout::Plain) {
        parallel_for(batch * channels, grain_for(0.3 * static_cast<double>(plane) + 1),
                     [&](int64_t begin, int64_t end) {
                       for (int64_t i = begin; i < end; ++i)
                         std::fill(to + i * plane, to + (i + 1) * plane, share(from[i]));
                     });
        return;
      }
      constexpr int64_t kRows = 64;
      const int64_t blocks = (plane + kRows - 1) / kRows;
      parallel_for(batch * blocks, grain_for(0.3 * static_cast<double>(channels * kRows) + 1),
                   [&](int64_t begin, int64_t end) {
                     std::vector<T> row(static_cast<size_t>(channels));
                     for (int64_t i = begin; i < end; ++i) {
                       const int64_t n = i / blocks, first = i % blocks * kRows;
                       std::transform(from + n * channels, from + (n + 1) * channels, row.begin(), share);
                       for (int64_t p = first; p < std::min(plane, first + kRows); ++p)
                         std::copy(row.begin(), row.end(), to + (n * plane + p) * channels);
                     }
                   });
    };
  });
  ctx.expect(run != nullptr, "dtype of input 'dY'", "a float type", dtype_name(dtype));
  return run;
}

}  // namespace

PoolShape max_pool_backward_shape(const PrepareContext& ctx) {
  ctx.expect(ctx.dtype(1) == ctx.dtype(0), "dtype of input 'X'", dtype_name(ctx.dtype(0)),
             dtype_name(ctx.dtype(1)));
  const PoolShape s = pool_shape(ctx, ctx.dims(1), Pooling::Max, ctx.attributes<PoolAttributes>());
  expect_output_dims(ctx, s);
  return s;
}

PoolShape average_pool_backward_shape(const PrepareContext& ctx) {
  const auto attributes = ctx.attributes<AveragePoolAttributes>();
  PoolShape s = pool_shape(ctx, image_dims(ctx), Pooling::Average, attributes);
  s.count_include_pad = attributes.count_include_pad != 0;
  expect_output_dims(ctx, s);
  return s;
}

void register_pooling_backward(KernelRegistry& registry) {
  registry.ref("MaxPoolBackward", prepare_max, kOwnDomain);
  registry.ref("AveragePoolBackward", prepare_average, kOwnDomain);
  registry.add("GlobalAveragePoolBackward", "ref", kRef, prepare_global_average, kOwnDomain,
               LayoutRule::Aware);
}

}  // namespace sardonyx::cpu
