// Col2Im and DeformConv.
#include <cmath>

#include "ops/convolution.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/product.h"
#include "providers/cpu/support/widen.h"
#include "providers/cpu/support/window.h"

namespace sardonyx::cpu {

namespace {

// columns [planes, taps, positions] added up into images [planes, big].
template <typename T>
void fold(const Window& w, int64_t planes, const T* columns, T* image) {
  const int64_t taps = element_count(w.kernel), positions = element_count(w.out),
                big_plane = element_count(w.in);
  const int64_t step = w.stride.back();
  parallel_for(planes, grain_for(static_cast<double>(taps) * static_cast<double>(positions) + 1),
               [&](int64_t begin, int64_t end) {
                 for (int64_t plane = begin; plane < end; ++plane) {
                   T* to = image + plane * big_plane;
                   std::fill(to, to + big_plane, T{});
                   const T* from = columns + plane * taps * positions;
                   Dims tap(w.rank(), 0);
                   do {
                     for_each_row(w, tap, [&](int64_t small, int64_t big, int64_t count) {
                       for (int64_t i = 0; i < count; ++i) {
                         if constexpr (std::is_same_v<T, bool>)
                           to[big + i * step] = to[big + i * step] || from[small + i];
                         else if constexpr (std::is_integral_v<T>)
                           to[big + i * step] = static_cast<T>(static_cast<uint64_t>(to[big + i * step]) +
                                                               static_cast<uint64_t>(from[small + i]));
                         else
                           to[big + i * step] += from[small + i];
                       }
                     });
                     from += positions;
                   } while (next_index(tap, w.kernel));
                 }
               });
}

Prepared prepare_col2im(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  const auto attributes = ctx.attributes<Col2ImAttributes>();
  ctx.expect(ctx.rank(0) == 3, "rank of input 'input'", "3", std::to_string(ctx.rank(0)));
  const Dims image = ctx.host_ints(1), block = ctx.host_ints(2);
  ctx.expect(!image.empty(), "input 'image_shape'", "at least 1 value", "none");
  for (const int64_t dim : image)
    ctx.expect(dim >= 0, "input 'image_shape'", "values of at least 0", std::to_string(dim));
  const Window w = make_window(ctx, image, block,
                               {"NOTSET", attributes.strides, attributes.dilations, attributes.pads, false});
  const int64_t taps = element_count(block), batch = ctx.dims(0)[0];
  ctx.expect(ctx.dims(0)[1] % taps == 0, "input 'input' dim 1", "a multiple of " + std::to_string(taps),
             std::to_string(ctx.dims(0)[1]));
  ctx.expect(ctx.dims(0)[2] == element_count(w.out), "input 'input' dim 2",
             std::to_string(element_count(w.out)) + ", the number of blocks", std::to_string(ctx.dims(0)[2]));
  const int64_t channels = ctx.dims(0)[1] / taps;
  Dims dims = {batch, channels};
  dims.insert(dims.end(), image.begin(), image.end());
  if (dtype == DType::Float16 || dtype == DType::BFloat16) return widened(ctx, dtype, prepare_col2im);
  ctx.output(0, dtype, std::move(dims));
  std::function<void(RunContext&)> run;
  visit<Join<Join<Numbers, Complexes>, Types<bool>>>(dtype, [&]<typename T>() {
    run = [w, planes = checked_mul(batch, channels, "planes")](RunContext& r) {
      fold(w, planes, r.in<T>(0), r.out<T>(0));
    };
  });
  ctx.expect(run != nullptr, "dtype of input 'input'", "a number or bool", dtype_name(dtype));
  return run;
}

struct DeformShape {
  int64_t batch, channels, out_channels, groups, offset_groups;
  Window window;
};

// The value at a real position of one plane, interpolated linearly in each dimension; 0 outside.
template <typename T>
T sample(const T* plane, const Dims& dims, const T* position) {
  const size_t rank = dims.size();
  int64_t low[16];
  T fraction[16];
  for (size_t i = 0; i < rank; ++i) {
    // False for a NaN as well, whose place is unknown.
    if (!(position[i] > T(-1) && position[i] < static_cast<T>(dims[i])))
      return std::isnan(position[i]) ? position[i] : T(0);
    const T floor = std::floor(position[i]);
    low[i] = static_cast<int64_t>(floor);
    fraction[i] = position[i] - floor;
  }
  T sum = 0;
  for (uint32_t corner = 0; corner < (1u << rank); ++corner) {
    T weight = 1;
    int64_t at = 0;
    bool inside = true;
    for (size_t i = 0; i < rank; ++i) {
      const bool high = corner >> i & 1;
      const int64_t x = low[i] + high;
      weight *= high ? fraction[i] : 1 - fraction[i];
      inside = inside && x >= 0 && x < dims[i];
      at = at * dims[i] + x;
    }
    if (inside) sum += weight * plane[at];
  }
  return sum;
}

// columns [in_channels of the group * taps, positions] of one image and group.
template <typename T>
void deform_columns(const DeformShape& s, const T* x, const T* offset, const T* mask, int64_t n,
                    int64_t group, T* columns) {
  const Window& w = s.window;
  const size_t rank = w.rank();
  const int64_t taps = element_count(w.kernel), positions = element_count(w.out), plane = element_count(w.in);
  const int64_t of_group = s.channels / s.groups, of_offset_group = s.channels / s.offset_groups;
  const int64_t dimensions = static_cast<int64_t>(rank);
  parallel_for(of_group * taps, grain_for(static_cast<double>(positions) * 10 + 1),
               [&](int64_t begin, int64_t end) {
                 Dims tap(rank), at(rank);
                 T position[16];
                 for (int64_t row = begin; row < end; ++row) {
                   const int64_t c = group * of_group + row / taps, k = row % taps;
                   int64_t rest = k;
                   for (size_t i = rank; i-- > 0; rest /= w.kernel[i]) tap[i] = rest % w.kernel[i];
                   const int64_t slot = (n * s.offset_groups + c / of_offset_group) * taps + k;
                   const T* offsets = offset + slot * dimensions * positions;
                   const T* masks = mask ? mask + slot * positions : nullptr;
                   const T* image = x + (n * s.channels + c) * plane;
                   std::fill(at.begin(), at.end(), 0);
                   for (int64_t p = 0; p < positions; ++p) {
                     for (size_t i = 0; i < rank; ++i)
                       position[i] = static_cast<T>(at[i] * w.stride[i] + w.offset(i, tap[i])) +
                                     offsets[static_cast<int64_t>(i) * positions + p];
                     const T value = sample(image, w.in, position);
                     columns[row * positions + p] = masks ? value * masks[p] : value;
                     next_index(at, w.out);
                   }
                 }
               });
}

DeformShape deform_shape(const PrepareContext& ctx) {
  const auto attributes = ctx.attributes<DeformConvAttributes>();
  const Dims &x = ctx.dims(0), &weights = ctx.dims(1);
  ctx.expect(x.size() >= 3, "rank of input 'X'", "at least 3", std::to_string(x.size()));
  ctx.expect(weights.size() == x.size(), "rank of input 'W'", std::to_string(x.size()),
             std::to_string(weights.size()));
  DeformShape s{x[0], x[1], weights[0], attributes.group, attributes.offset_group, {}};
  ctx.expect(s.groups >= 1, "attribute 'group'", "at least 1", std::to_string(s.groups));
  ctx.expect(s.offset_groups >= 1, "attribute 'offset_group'", "at least 1", std::to_string(s.offset_groups));
  ctx.expect(s.channels % s.groups == 0 && s.channels % s.offset_groups == 0, "channels of input 'X'",
             "a multiple of group and offset_group", std::to_string(s.channels));
  ctx.expect(weights[1] == s.channels / s.groups, "input 'W' dim 1", std::to_string(s.channels / s.groups),
             std::to_string(weights[1]));
  ctx.expect(s.out_channels % s.groups == 0, "input 'W' dim 0",
             "a multiple of group " + std::to_string(s.groups), std::to_string(s.out_channels));
  const Dims kernel(weights.begin() + 2, weights.end());
  if (attributes.kernel_shape && !attributes.kernel_shape->empty())
    ctx.expect(*attributes.kernel_shape == kernel, "attribute 'kernel_shape'", to_string(kernel),
               to_string(*attributes.kernel_shape));
  s.window = make_window(ctx, Dims(x.begin() + 2, x.end()), kernel,
                         {"NOTSET", attributes.strides, attributes.dilations, attributes.pads, false});
  const int64_t taps = checked_mul(element_count(kernel), s.offset_groups, "offsets");
  Dims masks = {s.batch, taps},
       offsets = {s.batch, checked_mul(taps, static_cast<int64_t>(kernel.size()), "offsets")};
  masks.insert(masks.end(), s.window.out.begin(), s.window.out.end());
  offsets.insert(offsets.end(), s.window.out.begin(), s.window.out.end());
  ctx.expect(ctx.dims(2) == offsets, "dims of input 'offset'", to_string(offsets), to_string(ctx.dims(2)));
  if (ctx.has_input(3))
    ctx.expect(ctx.dims(3) == Dims{s.out_channels}, "dims of input 'B'", to_string(Dims{s.out_channels}),
               to_string(ctx.dims(3)));
  if (ctx.has_input(4))
    ctx.expect(ctx.dims(4) == masks, "dims of input 'mask'", to_string(masks), to_string(ctx.dims(4)));
  for (size_t i = 1; i < ctx.input_count(); ++i)
    ctx.expect(!ctx.has_input(i) || ctx.dtype(i) == ctx.dtype(0), "dtype of input " + std::to_string(i),
               dtype_name(ctx.dtype(0)), ctx.has_input(i) ? dtype_name(ctx.dtype(i)) : "");
  return s;
}

template <typename T>
Prepared prepare_deform(PrepareContext& ctx, const DeformShape& s) {
  const int64_t taps = element_count(s.window.kernel), positions = element_count(s.window.out);
  const int64_t depth = s.channels / s.groups * taps, rows = s.out_channels / s.groups;
  Dims dims = {s.batch, s.out_channels};
  dims.insert(dims.end(), s.window.out.begin(), s.window.out.end());
  ctx.output(0, dtype_of<T>, std::move(dims));
  ScratchPlan scratch(ctx);
  const size_t columns_at = scratch.add(
      static_cast<size_t>(checked_mul(checked_mul(depth, positions, "columns"), sizeof(T), "columns")));
  const Product product = *Product::plan(scratch, dtype_of<T>, ProductShape::dense(rows, positions, depth));
  return [=](RunContext& run) {
    T* columns = reinterpret_cast<T*>(run.scratch() + columns_at);
    const T *weights = run.in<T>(1), *bias = run.in<T>(3);
    for (int64_t n = 0; n < s.batch; ++n) {
      for (int64_t g = 0; g < s.groups; ++g) {
        deform_columns(s, run.in<T>(0), run.in<T>(2), run.in<T>(4), n, g, columns);
        T* y = run.out<T>(0) + (n * s.out_channels + g * rows) * positions;
        product.run(run.scratch(), weights + g * rows * depth, columns, y);
        for (int64_t m = 0; bias && m < rows; ++m)
          for (int64_t p = 0; p < positions; ++p) y[m * positions + p] += bias[g * rows + m];
      }
    }
  };
}

Prepared prepare_deform_conv(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (is_narrow_float(dtype)) return widened(ctx, dtype, prepare_deform_conv);
  const DeformShape s = deform_shape(ctx);
  if (dtype == DType::Float32) return prepare_deform<float>(ctx, s);
  ctx.expect(dtype == DType::Float64, "dtype of input 'X'", "a float type", dtype_name(dtype));
  return prepare_deform<double>(ctx, s);
}

}  // namespace

void register_convolution_special(KernelRegistry& registry) {
  registry.ref("Col2Im", prepare_col2im);
  registry.ref("DeformConv", prepare_deform_conv);
}

}  // namespace sardonyx::cpu
