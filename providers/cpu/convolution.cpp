// Conv and ConvTranspose: validation and the plain loops.
#include "providers/cpu/convolution.h"

#include <cstring>

#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/widen.h"

namespace sardonyx::cpu {

bool ConvShape::empty() const {
  for (const Dims& dims : {x_dims(), y_dims(), window.kernel})
    for (const int64_t dim : dims)
      if (dim == 0) return true;
  return false;
}

namespace {

ConvShape checked_shape(const PrepareContext& ctx, bool transposed, const ConvAttributes& attributes) {
  ConvShape s;
  s.transposed = transposed;
  s.groups = attributes.group;
  const Dims &x = ctx.dims(0), &w = ctx.dims(1);
  ctx.expect(x.size() >= 3, "rank of input 'X'", "at least 3", std::to_string(x.size()));
  ctx.expect(w.size() == x.size(), "rank of input 'W'", std::to_string(x.size()), std::to_string(w.size()));
  ctx.expect(ctx.dtype(1) == ctx.dtype(0), "dtype of input 'W'", dtype_name(ctx.dtype(0)),
             dtype_name(ctx.dtype(1)));
  ctx.expect(s.groups >= 1, "attribute 'group'", "at least 1", std::to_string(s.groups));
  ctx.expect(x[1] % s.groups == 0, "channels of input 'X'", "a multiple of group " + std::to_string(s.groups),
             std::to_string(x[1]));
  s.batch = x[0];
  s.in_channels = x[1] / s.groups;
  if (transposed) {
    ctx.expect(w[0] == x[1], "input 'W' dim 0", std::to_string(x[1]), std::to_string(w[0]));
    s.out_channels = w[1];
    checked_mul(s.out_channels, s.groups, "output channels");
  } else {
    ctx.expect(w[1] == s.in_channels, "input 'W' dim 1", std::to_string(s.in_channels), std::to_string(w[1]));
    ctx.expect(w[0] % s.groups == 0, "input 'W' dim 0", "a multiple of group " + std::to_string(s.groups),
               std::to_string(w[0]));
    s.out_channels = w[0] / s.groups;
  }
  const Dims kernel(w.begin() + 2, w.end());
  if (attributes.kernel_shape && !attributes.kernel_shape->empty())
    ctx.expect(*attributes.kernel_shape == kernel, "attribute 'kernel_shape'", to_string(kernel),
               to_string(*attributes.kernel_shape));
  s.bias = ctx.has_input(2);
  if (s.bias) {
    const Dims expected = {s.groups * s.out_channels};
    ctx.expect(ctx.dims(2) == expected, "dims of input 'B'", to_string(expected), to_string(ctx.dims(2)));
    // Precision "medium" leaves the bias of a bf16 convolution f32.
    const bool wider = ctx.dtype(0) == DType::BFloat16 && ctx.dtype(2) == DType::Float32;
    ctx.expect(wider || ctx.dtype(2) == ctx.dtype(0), "dtype of input 'B'", dtype_name(ctx.dtype(0)),
               dtype_name(ctx.dtype(2)));
  }
  return s;
}

WindowAttributes window_attributes(const ConvAttributes& attributes) {
  return {attributes.auto_pad, attributes.strides, attributes.dilations, attributes.pads, false};
}

// Every output plane is accumulated in f64, one row of one tap at a time, and rounded once.
template <typename T>
void convolve(const ConvShape& s, const T* x, const T* weights, const T* bias, T* y) {
  const Window& w = s.window;
  const int64_t x_plane = element_count(s.x_spatial()), y_plane = element_count(s.y_spatial());
  const int64_t taps = element_count(w.kernel), step = w.stride.back();
  const double work = static_cast<double>(s.in_channels) * static_cast<double>(taps) *
                      static_cast<double>(std::min(x_plane, y_plane));
  parallel_for(s.batch * s.groups * s.out_channels, grain_for(work + 1), [&](int64_t begin, int64_t end) {
    std::vector<double> sums(static_cast<size_t>(y_plane));
    for (int64_t plane = begin; plane < end; ++plane) {
      const int64_t m = plane % (s.groups * s.out_channels), n = plane / (s.groups * s.out_channels);
      const int64_t group = m / s.out_channels;
      std::fill(sums.begin(), sums.end(), bias ? static_cast<double>(bias[m]) : 0.0);
      for (int64_t c = 0; c < s.in_channels; ++c) {
        const T* in = x + ((n * s.groups + group) * s.in_channels + c) * x_plane;
        const T* taps_of_pair =
            weights + (s.transposed ? (group * s.in_channels + c) * s.out_channels + m % s.out_channels
                                    : m * s.in_channels + c) *
                          taps;
        Dims tap(w.rank(), 0);
        int64_t index = 0;
        do {
          const double weight = static_cast<double>(taps_of_pair[index++]);
          for_each_row(w, tap, [&](int64_t small, int64_t big, int64_t count) {
            if (s.transposed) {
              double* to = sums.data() + big;
              const T* from = in + small;
              for (int64_t i = 0; i < count; ++i) to[i * step] += weight * static_cast<double>(from[i]);
            } else {
              double* to = sums.data() + small;
              const T* from = in + big;
              for (int64_t i = 0; i < count; ++i) to[i] += weight * static_cast<double>(from[i * step]);
            }
          });
        } while (next_index(tap, w.kernel));
      }
      for (int64_t i = 0; i < y_plane; ++i)
        y[plane * y_plane + i] = static_cast<T>(sums[static_cast<size_t>(i)]);
    }
  });
}

}  // namespace

Prepared prepare_convolution_ref(PrepareContext& ctx, ConvShape (*read)(const PrepareContext&)) {
  const DType dtype = ctx.dtype(0);
  if (dtype == DType::Float16 || dtype == DType::BFloat16)
    return widened(ctx, dtype, [read](PrepareContext& wide) { return prepare_convolution_ref(wide, read); });
  const ConvShape s = read(ctx);
  ctx.output(0, dtype, s.y_dims());
  if (dtype == DType::Float32)
    return [s](RunContext& run) {
      convolve(s, run.in<float>(0), run.in<float>(1), s.bias ? run.in<float>(2) : nullptr, run.out<float>(0));
    };
  if (dtype == DType::Float64)
    return [s](RunContext& run) {
      convolve(s, run.in<double>(0), run.in<double>(1), s.bias ? run.in<double>(2) : nullptr,
               run.out<double>(0));
    };
  ctx.fail("dtype of input 'X'", "a float type", dtype_name(dtype));
}

ConvShape conv_shape(const PrepareContext& ctx) {
  const auto attributes = ctx.attributes<ConvAttributes>();
  ConvShape s = checked_shape(ctx, false, attributes);
  s.window = make_window(ctx, Dims(ctx.dims(0).begin() + 2, ctx.dims(0).end()),
                         Dims(ctx.dims(1).begin() + 2, ctx.dims(1).end()), window_attributes(attributes));
  return s;
}

ConvShape conv_transpose_shape(const PrepareContext& ctx) {
  const auto attributes = ctx.attributes<ConvTransposeAttributes>();
  ConvShape s = checked_shape(ctx, true, attributes);
  s.window = make_transposed_window(
      ctx, Dims(ctx.dims(0).begin() + 2, ctx.dims(0).end()), Dims(ctx.dims(1).begin() + 2, ctx.dims(1).end()),
      window_attributes(attributes), attributes.output_padding, attributes.output_shape);
  return s;
}

void register_convolution(KernelRegistry& registry) {
  registry.ref("Conv", [](PrepareContext& ctx) { return prepare_convolution_ref(ctx, conv_shape); });
  registry.ref("ConvTranspose",
               [](PrepareContext& ctx) { return prepare_convolution_ref(ctx, conv_transpose_shape); });
}

}  // namespace sardonyx::cpu
