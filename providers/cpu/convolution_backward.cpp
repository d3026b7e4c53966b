// ConvBackwardData and ConvBackwardWeights: validation, plain loops, and f32 and bf16 on oneDNN.
#include "ops/registry/operator.h"
#include "providers/cpu/convolution_onednn.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/elementwise.h"
#include "providers/cpu/support/packed.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/simd_reduce.h"
#include "providers/cpu/support/widen.h"

namespace sardonyx::cpu {

namespace {

// The convolution of X with W that gave dY, the dims of which all are known.
ConvShape backward_shape(const PrepareContext& ctx, const Dims& x, const Dims& w, const Dims& dy) {
  const auto a = ctx.attributes<ConvBackwardAttributes>();
  ctx.expect(x.size() >= 3 && x.size() <= 18, "rank of X", "3 to 18", std::to_string(x.size()));
  ctx.expect(w.size() == x.size(), "rank of W", std::to_string(x.size()), std::to_string(w.size()));
  ctx.expect(dy.size() == x.size(), "rank of dY", std::to_string(x.size()), std::to_string(dy.size()));
  for (const Dims* dims : {&x, &w, &dy})
    for (const int64_t dim : *dims)
      ctx.expect(dim >= 0, "dims of X, W and dY", "at least 0", to_string(*dims));
  ctx.expect(a.group >= 1, "attribute 'group'", "at least 1", std::to_string(a.group));
  ctx.expect(x[1] % a.group == 0 && w[1] == x[1] / a.group, "channels of X",
             "group " + std::to_string(a.group) + " times " + std::to_string(w[1]), std::to_string(x[1]));
  ctx.expect(w[0] % a.group == 0, "dim 0 of W", "a multiple of group " + std::to_string(a.group),
             std::to_string(w[0]));
  ctx.expect(dy[0] == x[0] && dy[1] == w[0], "batch and channels of dY",
             std::to_string(x[0]) + " and " + std::to_string(w[0]), to_string(dy));
  const size_t rank = x.size() - 2;
  ConvShape s;
  s.batch = x[0];
  s.groups = a.group;
  s.in_channels = w[1];
  s.out_channels = w[0] / a.group;
  Window& window = s.window;
  window.in = Dims(x.begin() + 2, x.end());
  window.out = Dims(dy.begin() + 2, dy.end());
  window.kernel = Dims(w.begin() + 2, w.end());
  window.stride = spatial_list(ctx, a.strides, "strides", rank, 1, 1);
  window.dilation = spatial_list(ctx, a.dilations, "dilations", rank, 1, 1);
  const Dims pads = spatial_list(ctx, a.pads, "pads", 2 * rank, 0, 0);
  window.pad_begin.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(rank));
  window.pad_end.assign(pads.begin() + static_cast<std::ptrdiff_t>(rank), pads.end());
  for (size_t i = 0; i < rank; ++i) {
    const std::string name = "kernel of spatial dimension " + std::to_string(i);
    ctx.expect(window.kernel[i] >= 1, name, "at least 1", std::to_string(window.kernel[i]));
    const int64_t reach = checked_mul(window.kernel[i], window.dilation[i], "dilated kernel");
    checked_add(checked_mul(window.out[i], window.stride[i], "padded input"),
                checked_add(reach, window.pad_begin[i], "padded input"), "padded input");
  }
  element_count(x), element_count(w);
  ctx.expect(ctx.dtype(1) == ctx.dtype(0), "dtype of input 1", dtype_name(ctx.dtype(0)),
             dtype_name(ctx.dtype(1)));
  return s;
}

// As a transposed convolution, of dY.
ConvShape data_shape(const PrepareContext& ctx) {
  ConvShape s = backward_shape(ctx, ctx.host_ints(2), ctx.dims(1), ctx.dims(0));
  std::swap(s.in_channels, s.out_channels);
  s.transposed = true;
  return s;
}

}  // namespace

ConvShape conv_backward_weights_shape(const PrepareContext& ctx) {
  return backward_shape(ctx, ctx.dims(0), ctx.host_ints(2), ctx.dims(1));
}

DType weights_gradient_dtype(const PrepareContext& ctx) {
  return ctx.declared(0) == DType::Float32 ? DType::Float32 : ctx.dtype(0);
}

namespace {

// Every tap of a pair of channels is a sum of products in f64.
template <typename T>
void weights_gradient(const ConvShape& s, const T* x, const T* dy, T* dw) {
  const Window& w = s.window;
  const int64_t x_plane = element_count(w.in), y_plane = element_count(w.out), taps = element_count(w.kernel),
                step = w.stride.back(), outputs = s.groups * s.out_channels;
  const double work = static_cast<double>(s.batch * taps) * static_cast<double>(y_plane);
  parallel_for(outputs * s.in_channels, grain_for(work + 1), [&](int64_t begin, int64_t end) {
    for (int64_t pair = begin; pair < end; ++pair) {
      const int64_t m = pair / s.in_channels, c = m / s.out_channels * s.in_channels + pair % s.in_channels;
      Dims tap(w.rank(), 0);
      T* to = dw + pair * taps;
      do {
        double sum = 0;
        for (int64_t n = 0; n < s.batch; ++n) {
          const T* image = x + (n * s.groups * s.in_channels + c) * x_plane;
          const T* from = dy + (n * outputs + m) * y_plane;
          for_each_row(w, tap, [&](int64_t small, int64_t big, int64_t count) {
            for (int64_t i = 0; i < count; ++i)
              sum += static_cast<double>(from[small + i]) * static_cast<double>(image[big + i * step]);
          });
        }
        *to++ = static_cast<T>(sum);
      } while (next_index(tap, w.kernel));
    }
  });
}

Prepared prepare_weights_ref(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (is_narrow_float(dtype)) return widened(ctx, weights_gradient_dtype(ctx), prepare_weights_ref);
  const ConvShape s = conv_backward_weights_shape(ctx);
  ctx.output(0, dtype, ctx.host_ints(2));
  if (dtype == DType::Float32)
    return
        [s](RunContext& run) { weights_gradient(s, run.in<float>(0), run.in<float>(1), run.out<float>(0)); };
  ctx.expect(dtype == DType::Float64, "dtype of input 'X'", "a float type", dtype_name(dtype));
  return
      [s](RunContext& run) { weights_gradient(s, run.in<double>(0), run.in<double>(1), run.out<double>(0)); };
}

std::string unfit(const PrepareContext& ctx, const ConvShape& s) {
  if (!is_f32_or_bf16(ctx.dtype(0))) return "only f32 and bf16";
  if (s.window.rank() > 3) return "more than three spatial dimensions";
  return s.empty() ? "an empty tensor" : "";
}

Prepared prepare_data(PrepareContext& ctx, bool channels_last) {
  if (channels_last && !ctx.layouts()) return decline("tensors are in plain order");
  const ConvShape s = data_shape(ctx);
  if (const std::string why = unfit(ctx, s); !why.empty()) return decline(why);
  // oneDNN's kernels for bf16 take the zeros between strides along and are tens of times slower than f32.
  const bool strided =
      std::any_of(s.window.stride.begin(), s.window.stride.end(), [](int64_t v) { return v > 1; });
  if (ctx.dtype(0) == DType::BFloat16 && s.groups > 1 && s.in_channels == 1 && s.out_channels == 1 && strided)
    return widened(ctx, DType::BFloat16,
                   [channels_last](PrepareContext& wide) { return prepare_data(wide, channels_last); });
  return prepare_onednn_convolution(ctx, s,
                                    channels_last ? std::vector{ImageLayout::Last} : image_layouts(s));
}

Prepared prepare_weights_in(PrepareContext& ctx, const ConvShape& whole, ImageLayout layout) {
  using Primitive = dnnl::convolution_backward_weights;
  const ConvShape s = without_dimensions(whole, idle_dimensions(whole.window));
  const double operations = 2 * static_cast<double>(element_count(s.y_dims())) *
                            static_cast<double>(s.in_channels * element_count(s.window.kernel));
  const DType dtype = ctx.dtype(0), result = weights_gradient_dtype(ctx);
  const bool serial = onednn_small(
      operations, static_cast<double>(element_size(dtype)) *
                      static_cast<double>(element_count(s.x_dims()) + element_count(s.y_dims())));
  const OneDnnSerial scope(serial);
  const ConvDescs d = describe(s, {dtype, dtype, dtype, dtype}, layout);
  const ConvDescs made = describe(s, {dtype, result, dtype, dtype}, layout);
  const auto direct = dnnl::algorithm::convolution_direct;
  try {
    const dnnl::convolution_forward::primitive_desc forward(
        onednn_engine(), dnnl::prop_kind::forward_training, direct, d.x_wanted, d.weights_wanted, d.y_wanted,
        d.strides, d.dilates, d.pad_begin, d.pad_end);
    const Primitive::primitive_desc desc(onednn_engine(), direct, d.x_wanted, made.weights_wanted, d.y_wanted,
                                         d.strides, d.dilates, d.pad_begin, d.pad_end, forward,
                                         onednn_attributes());
    if (onednn_is_ref(desc)) return decline("oneDNN has only its reference implementation for this shape");
    const Primitive primitive(desc);
    ScratchPlan scratch(ctx);
    const auto x = OneDnnOperand::source(scratch, d.x, desc.src_desc(), nullptr);
    const auto dy = OneDnnOperand::source(scratch, d.y, desc.diff_dst_desc(), nullptr);
    const auto dw = OneDnnOperand::target(scratch, made.weights, desc.diff_weights_desc());
    const Memory::desc work_desc = desc.scratchpad_desc();
    const size_t work = scratch.add(work_desc.get_size());
    const Layout images = layout == ImageLayout::Last ? Layout::ChannelsLast : Layout::Plain;
    ctx.output(0, result, ctx.host_ints(2));
    ctx.want(0, images);
    ctx.want(1, images);
    return [=](RunContext& run) {
      const OneDnnSerial run_scope(serial);
      std::byte* memory = run.scratch();
      void* to = run.output(0).mutable_data();
      OneDnnArguments& arguments = run.kept<OneDnnArguments>();
      arguments.begin();
      arguments.add(DNNL_ARG_SRC, x.desc(), x.load(memory, run.input(0).data()));
      arguments.add(DNNL_ARG_DIFF_DST, dy.desc(), dy.load(memory, run.input(1).data()));
      arguments.add(DNNL_ARG_DIFF_WEIGHTS, dw.desc(), dw.begin_store(memory, to));
      arguments.add(DNNL_ARG_SCRATCHPAD, work_desc, memory + work);
      arguments.execute(primitive);
      dw.end_store(memory, to);
    };
  } catch (const dnnl::error& e) {
    return decline(std::string("oneDNN: ") + e.message);
  }
}

constexpr int64_t kManyWeights = 1 << 18;

// The elements of X [images, in..., channels], of so many bytes, at which a window begins.
void pick_positions(const Window& w, int64_t images, int64_t channels, int64_t bytes, const std::byte* x,
                    std::byte* to) {
  const int64_t positions = element_count(w.out), plane = element_count(w.in);
  parallel_for(images * positions, grain_for(0.1 * static_cast<double>(channels) + 10),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   int64_t at = 0, scale = 1;
                   for (int64_t d = static_cast<int64_t>(w.rank()) - 1, rest = i % positions; d >= 0; --d) {
                     const size_t axis = static_cast<size_t>(d);
                     at += rest % w.out[axis] * w.stride[axis] * scale;
                     rest /= w.out[axis];
                     scale *= w.in[axis];
                   }
                   const std::byte* from = x + (i / positions * plane + at) * channels * bytes;
                   std::copy(from, from + channels * bytes, to + i * channels * bytes);
                 }
               });
}

// One tap and no padding, channels last: for each image a product of matrices, dY transposed with X, both of
// as many rows as there are positions; the images are added up at the end, in f32.
Prepared prepare_pointwise_weights(PrepareContext& ctx) {
  if (!ctx.layouts()) return decline("tensors are in plain order");
  const ConvShape s = conv_backward_weights_shape(ctx);
  if (const std::string why = unfit(ctx, s); !why.empty()) return decline(why);
  const Window& w = s.window;
  bool dense = true;  // every element of X meets a position
  for (size_t i = 0; i < w.rank(); ++i) {
    if (w.kernel[i] != 1 || w.pad_begin[i] != 0 || (w.out[i] - 1) * w.stride[i] >= w.in[i])
      return decline("more than one tap, or padding");
    dense = dense && w.in[i] == w.out[i];
  }
  if (s.groups != 1) return decline("groups");
  const int64_t rows = element_count(w.out), in = s.in_channels, out = s.out_channels, n = s.batch;
  const int64_t size = checked_mul(in, out, "weights");
  // oneDNN's own kernel is as fast where channels fill its blocks, and several times slower elsewhere.
  constexpr int64_t kBlock = 16;
  if (in % kBlock == 0 && out % kBlock == 0) return decline("channels in whole blocks");
  if (size > kManyWeights) return decline("many weights: their sums would be more than the images");
  const DType dtype = ctx.dtype(0), result = weights_gradient_dtype(ctx);
  const int64_t bytes = static_cast<int64_t>(element_size(dtype));
  const bool serial = onednn_small(
      2 * static_cast<double>(n * rows) * static_cast<double>(size),
      static_cast<double>(bytes) * static_cast<double>(n * rows) * static_cast<double>(in + out));
  const OneDnnSerial scope(serial);
  const auto a = onednn_strided(dtype, {n, out, rows}, {rows * out, 1, out});
  const auto b = onednn_dense(dtype, {n, rows, in}), c = onednn_dense(DType::Float32, {n, out, in});
  try {
    const dnnl::matmul::primitive_desc desc(onednn_engine(), a, b, c, onednn_attributes());
    if (onednn_is_ref(desc)) return decline("oneDNN has only its reference implementation for this shape");
    const dnnl::matmul primitive(desc);
    ScratchPlan scratch(ctx);
    const Memory::desc work_desc = desc.scratchpad_desc();
    const size_t work = scratch.add(work_desc.get_size());
    const bool in_place = n == 1 && result == DType::Float32;
    const size_t sums = in_place ? 0 : scratch.add(c.get_size());
    const size_t copy = dense ? 0 : scratch.add(b.get_size());
    ctx.output(0, result, ctx.host_ints(2));
    ctx.want(0, Layout::ChannelsLast);
    ctx.want(1, Layout::ChannelsLast);
    return [=](RunContext& run) {
      std::byte* memory = run.scratch();
      float* parts = in_place ? run.out<float>(0) : reinterpret_cast<float*>(memory + sums);
      const std::byte* x = static_cast<const std::byte*>(run.input(0).data());
      if (!dense) {
        pick_positions(w, n, in, bytes, x, memory + copy);
        x = memory + copy;
      }
      {
        const OneDnnSerial run_scope(serial);
        OneDnnArguments& arguments = run.kept<OneDnnArguments>();
        arguments.begin();
        arguments.add(DNNL_ARG_SRC, a, run.input(1).data());
        arguments.add(DNNL_ARG_WEIGHTS, b, x);
        arguments.add(DNNL_ARG_DST, c, parts);
        arguments.add(DNNL_ARG_SCRATCHPAD, work_desc, memory + work);
        arguments.execute(primitive);
      }
      if (in_place) return;
      parallel_for(size, grain_for(0.3 * static_cast<double>(n)), [&](int64_t begin, int64_t end) {
        for (int64_t k = 1; k < n; ++k)
          for (int64_t i = begin; i < end; ++i) parts[i] += parts[k * size + i];
      });
      convert_floats(DType::Float32, parts, result, run.output(0).mutable_data(), size);
    };
  } catch (const dnnl::error& e) {
    return decline(std::string("oneDNN: ") + e.message);
  }
}

Prepared prepare_weights(PrepareContext& ctx, bool channels_last) {
  if (channels_last && !ctx.layouts()) return decline("tensors are in plain order");
  const ConvShape s = conv_backward_weights_shape(ctx);
  if (const std::string why = unfit(ctx, s); !why.empty()) return decline(why);
  if (channels_last) return prepare_weights_in(ctx, s, ImageLayout::Last);
  Prepared prepared = decline("no layout");
  for (const ImageLayout layout : image_layouts(s)) {
    prepared = prepare_weights_in(ctx, s, layout);
    if (prepared.declined.empty()) break;
  }
  return prepared;
}

// The sums of all elements of each channel.
struct ChannelSums {
  int64_t batch, channels, plane;
};

ChannelSums channel_sums(const PrepareContext& ctx) {
  const Dims &dy = ctx.dims(0), shape = ctx.host_ints(1);
  ctx.expect(dy.size() >= 3, "rank of input 'dY'", "at least 3", std::to_string(dy.size()));
  ctx.expect(shape == Dims{dy[1]}, "input 'shape'", to_string(Dims{dy[1]}), to_string(shape));
  return {dy[0], dy[1], element_count(Dims(dy.begin() + 2, dy.end()))};
}

Prepared prepare_bias_ref(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (is_narrow_float(dtype)) return widened(ctx, weights_gradient_dtype(ctx), prepare_bias_ref);
  const ChannelSums s = channel_sums(ctx);
  ctx.output(0, dtype, {s.channels});
  const auto sums = [s]<typename T>(const T* dy, T* db) {
    for (int64_t c = 0; c < s.channels; ++c) {
      double sum = 0;
      for (int64_t n = 0; n < s.batch; ++n)
        for (int64_t i = 0; i < s.plane; ++i)
          sum += static_cast<double>(dy[(n * s.channels + c) * s.plane + i]);
      db[c] = static_cast<T>(sum);
    }
  };
  if (dtype == DType::Float32) return [sums](RunContext& run) { sums(run.in<float>(0), run.out<float>(0)); };
  ctx.expect(dtype == DType::Float64, "dtype of input 'dY'", "a float type", dtype_name(dtype));
  return [sums](RunContext& run) { sums(run.in<double>(0), run.out<double>(0)); };
}

Prepared prepare_bias(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0), result = weights_gradient_dtype(ctx);
  if (!is_f32_or_bf16(dtype)) return decline("only f32 and bf16");
  const ChannelSums s = channel_sums(ctx);
  const Layout layout = ctx.take(0);
  ctx.output(0, result, {s.channels});
  const auto store = [result](RunContext& run, int64_t c, double sum) {
    const float value = static_cast<float>(sum);
    store_floats(result, &value, run.output(0).mutable_data(), c, 1);
  };
  if (layout == Layout::Plain)
    return [=](RunContext& run) {
      const void* dy = run.input(0).data();
      parallel_for(s.channels, grain_for(0.2 * static_cast<double>(s.batch * s.plane) + 10),
                   [&](int64_t begin, int64_t end) {
                     float buffer[kFloatBlock];
                     for (int64_t c = begin; c < end; ++c) {
                       double sum = 0;
                       for (int64_t n = 0; n < s.batch; ++n)
                         for (int64_t i = 0; i < s.plane; i += kFloatBlock) {
                           const int64_t count = std::min(kFloatBlock, s.plane - i);
                           const int64_t at = (n * s.channels + c) * s.plane + i;
                           simd_reduce_rows(SimdReduce::Sum, load_floats(dtype, dy, at, count, buffer), 1,
                                            count, count, &sum);
                         }
                       store(run, c, sum);
                     }
                   });
    };
  // Parts of the rows, whose number does not depend on the threads; those of bf16 as blocks of f32.
  const int64_t rows = checked_mul(s.batch, s.plane, "positions");
  const int64_t parts = std::clamp<int64_t>(rows * s.channels / 65536, 1, 16);
  const int64_t block = dtype == DType::Float32 ? rows : std::max<int64_t>(1, 4096 / (s.channels + 1));
  const auto bytes = [&](int64_t count, size_t element) {
    return static_cast<size_t>(checked_mul(checked_mul(parts, count, "sums"),
                                           checked_mul(s.channels, static_cast<int64_t>(element), "sums"),
                                           "sums"));
  };
  ScratchPlan scratch(ctx);
  const size_t at = scratch.add(bytes(1, sizeof(double)));
  const size_t blocks = dtype == DType::Float32 ? 0 : scratch.add(bytes(block, sizeof(float)));
  return [=](RunContext& run) {
    double* sums = reinterpret_cast<double*>(run.scratch() + at);
    const void* dy = run.input(0).data();
    parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) {
        float* buffer = reinterpret_cast<float*>(run.scratch() + blocks) + part * block * s.channels;
        double* own = sums + part * s.channels;
        std::fill(own, own + s.channels, 0.0);
        const int64_t last = rows * (part + 1) / parts;
        for (int64_t row = rows * part / parts; row < last; row += block) {
          const int64_t count = std::min(block, last - row);
          const float* x = load_floats(dtype, dy, row * s.channels, count * s.channels, buffer);
          for (int64_t c = 0; c < s.channels; c += kReduceColumns)
            simd_reduce_columns(SimdReduce::Sum, x + c, count, s.channels,
                                std::min(kReduceColumns, s.channels - c), own + c);
        }
      }
    });
    for (int64_t c = 0; c < s.channels; ++c) {
      double sum = 0;
      for (int64_t part = 0; part < parts; ++part) sum += sums[part * s.channels + c];
      store(run, c, sum);
    }
  };
}

}  // namespace

void register_convolution_backward(KernelRegistry& registry) {
  for (const bool last : {true, false}) {
    const std::string name = last ? "onednn-channels-last" : "onednn";
    const int order = last ? kFirst : kSecond;
    registry.add(
        "ConvBackwardData", name, order, [last](PrepareContext& ctx) { return prepare_data(ctx, last); },
        kOwnDomain, LayoutRule::Aware);
    registry.add(
        "ConvBackwardWeights", name, order,
        [last](PrepareContext& ctx) { return prepare_weights(ctx, last); }, kOwnDomain, LayoutRule::Aware);
  }
  registry.ref(
      "ConvBackwardData", [](PrepareContext& ctx) { return prepare_convolution_ref(ctx, data_shape); },
      kOwnDomain);
  registry.add("ConvBackwardWeights", "pointwise", kFirst - 1, prepare_pointwise_weights, kOwnDomain,
               LayoutRule::Aware);
  registry.ref("ConvBackwardWeights", prepare_weights_ref, kOwnDomain);
  registry.add("ConvBackwardBias", "simd", kFirst, prepare_bias, kOwnDomain, LayoutRule::Aware);
  registry.ref("ConvBackwardBias", prepare_bias_ref, kOwnDomain);
}

}  // namespace sardonyx::cpu
