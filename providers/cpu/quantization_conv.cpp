// ConvInteger and QLinearConv.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "providers/cpu/quantization_conv.h"
#include "providers/cpu/support/elementwise.h"
#include "providers/cpu/support/packed.h"

namespace sardonyx::cpu {

namespace {

using Memory = dnnl::memory;

// A tensor of one value, or one an output channel.
void expect_channels(const PrepareContext& ctx, size_t input, int64_t channels, const char* name) {
  if (!ctx.has_input(input)) return;
  const int64_t size = ctx.input(input).size();
  ctx.expect(size == channels || size == 1, std::string("shape of ") + name,
             "a scalar or " + std::to_string(channels) + " values", to_string(ctx.dims(input)));
}

}  // namespace

IntegerConvolution integer_convolution(const PrepareContext& ctx, const ConvPorts& ports) {
  const auto a = ctx.attributes<ConvAttributes>();
  IntegerConvolution c;
  c.ports = ports;
  const Dims& x = ctx.dims(ports.x);
  const Dims& w = ctx.dims(ports.w);
  ctx.expect(x.size() >= 3, "rank of input X", "at least 3", std::to_string(x.size()));
  ctx.expect(w.size() == x.size(), "rank of input W", std::to_string(x.size()), std::to_string(w.size()));
  ctx.expect(a.group >= 1, "attribute 'group'", "at least 1", std::to_string(a.group));
  ctx.expect(w[0] % a.group == 0, "output channels", "a multiple of group " + std::to_string(a.group),
             std::to_string(w[0]));
  ctx.expect(checked_mul(w[1], a.group, "channels") == x[1], "channels of input X",
             std::to_string(w[1] * a.group), std::to_string(x[1]));
  const Dims kernel(w.begin() + 2, w.end());
  if (a.kernel_shape && !a.kernel_shape->empty())
    ctx.expect(*a.kernel_shape == kernel, "attribute 'kernel_shape'", to_string(kernel),
               to_string(*a.kernel_shape));
  c.batch = x[0];
  c.groups = a.group;
  c.in = w[1];
  c.out = w[0] / a.group;
  c.window =
      make_window(ctx, Dims(x.begin() + 2, x.end()), kernel, {a.auto_pad, a.strides, a.dilations, a.pads});
  c.y_dims = {c.batch, w[0]};
  c.y_dims.insert(c.y_dims.end(), c.window.out.begin(), c.window.out.end());
  c.x_plane = element_count(c.window.in);
  c.y_plane = element_count(c.window.out);
  c.taps = element_count(kernel);
  element_count(c.y_dims);
  c.x_dtype = ctx.dtype(ports.x);
  c.w_dtype = ctx.dtype(ports.w);
  if (ctx.has_input(ports.x_zero)) {
    ctx.expect(ctx.dtype(ports.x_zero) == c.x_dtype, "element type of x's zero point", dtype_name(c.x_dtype),
               dtype_name(ctx.dtype(ports.x_zero)));
    ctx.expect(ctx.input(ports.x_zero).size() == 1, "shape of x's zero point", "a scalar",
               to_string(ctx.dims(ports.x_zero)));
  }
  if (ctx.has_input(ports.w_zero))
    ctx.expect(ctx.dtype(ports.w_zero) == c.w_dtype, "element type of w's zero point", dtype_name(c.w_dtype),
               dtype_name(ctx.dtype(ports.w_zero)));
  expect_channels(ctx, ports.w_zero, w[0], "w's zero point");
  if (!ports.quantized()) return c;
  c.y_dtype = ctx.dtype(ports.y_zero);
  expect_channels(ctx, ports.w_scale, w[0], "w's scale");
  for (const size_t i : {ports.x_scale, ports.y_scale, ports.y_zero})
    ctx.expect(ctx.input(i).size() == 1, "shape of input " + std::to_string(i), "a scalar",
               to_string(ctx.dims(i)));
  if (ctx.has_input(ports.bias)) {
    ctx.expect(ctx.dims(ports.bias) == Dims{w[0]}, "shape of input B", to_string(Dims{w[0]}),
               to_string(ctx.dims(ports.bias)));
    ctx.expect(ctx.dtype(ports.bias) == DType::Int32, "element type of input B", "int32",
               dtype_name(ctx.dtype(ports.bias)));
  }
  return c;
}

namespace {

// What one run brings from the 32-bit sums to the output, a value an output channel.
struct Finish {
  std::vector<int32_t> bias;
  std::vector<float> scale;
  int32_t zero = 0;

  Finish(const IntegerConvolution& c, const RunContext& run) {
    const size_t channels = static_cast<size_t>(c.out_channels());
    bias.assign(channels, 0);
    if (!c.ports.quantized()) return;
    if (run.has_input(c.ports.bias)) bias = elements_as<int32_t>(run.input(c.ports.bias));
    const auto w_scale = elements_as<float>(run.input(c.ports.w_scale));
    const float x_scale = elements_as<float>(run.input(c.ports.x_scale))[0],
                y_scale = elements_as<float>(run.input(c.ports.y_scale))[0];
    scale.resize(channels);
    for (size_t m = 0; m < channels; ++m) scale[m] = x_scale * w_scale[w_scale.size() == 1 ? 0 : m] / y_scale;
    zero = elements_as<int32_t>(run.input(c.ports.y_zero))[0];
  }

  // n sums of channels from `channel` on (step 1), or of one channel (step 0).
  void narrow(DType to, const int32_t* sums, const int32_t* offset, int64_t channel, int64_t step, void* y,
              int64_t n) const {
    if (to == DType::Int8)
      simd::requantize(sums, offset, static_cast<int8_t*>(y), n, &scale[static_cast<size_t>(channel)], step,
                       zero);
    else
      simd::requantize(sums, offset, static_cast<uint8_t*>(y), n, &scale[static_cast<size_t>(channel)], step,
                       zero);
  }
};

// Plain loops: a plane of the output at a time, tap by tap.
template <typename X, typename W>
void convolve(const IntegerConvolution& c, RunContext& run) {
  const X* x = run.in<X>(c.ports.x);
  const W* w = run.in<W>(c.ports.w);
  const int32_t x_zero = elements_as<int32_t>(run, c.ports.x_zero, 0)[0];
  const std::vector<int32_t> w_zeros = elements_as<int32_t>(run, c.ports.w_zero, 0);
  const Finish finish(c, run);
  char* y = run.out<char>(0);
  const int64_t stride = c.window.stride.back();
  const double work = static_cast<double>(c.y_plane) * static_cast<double>(c.in * c.taps) + 10;
  parallel_for(c.batch * c.out_channels(), grain_for(work), [&](int64_t begin, int64_t end) {
    std::vector<uint32_t> sums(static_cast<size_t>(c.y_plane));
    const std::vector<int32_t> no_offset(static_cast<size_t>(c.y_plane), 0);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t image = item / c.out_channels(), channel = item % c.out_channels(),
                    group = channel / c.out;
      const int32_t w_zero = w_zeros[w_zeros.size() == 1 ? 0 : static_cast<size_t>(channel)];
      std::fill(sums.begin(), sums.end(), static_cast<uint32_t>(finish.bias[static_cast<size_t>(channel)]));
      for (int64_t i = 0; i < c.in; ++i) {
        const X* plane = x + (image * c.in_channels() + group * c.in + i) * c.x_plane;
        const W* kernel = w + (channel * c.in + i) * c.taps;
        Dims tap(c.window.rank(), 0);
        for (int64_t t = 0; t < c.taps; ++t, next_index(tap, c.window.kernel)) {
          const int32_t factor = kernel[t] - w_zero;
          if (factor == 0) continue;
          for_each_row(c.window, tap, [&](int64_t small, int64_t big, int64_t count) {
            uint32_t* to = sums.data() + small;
            const X* from = plane + big;
            for (int64_t k = 0; k < count; ++k)
              to[k] += static_cast<uint32_t>(factor * (from[k * stride] - x_zero));
          });
        }
      }
      const int32_t* result = reinterpret_cast<const int32_t*>(sums.data());
      if (c.ports.quantized())
        finish.narrow(c.y_dtype, result, no_offset.data(), channel, 0, y + item * c.y_plane, c.y_plane);
      else
        std::memcpy(y + item * c.y_plane * 4, result, static_cast<size_t>(c.y_plane) * 4);
    }
  });
}

Prepared prepare_loops(PrepareContext& ctx, const ConvPorts& ports) {
  const IntegerConvolution c = integer_convolution(ctx, ports);
  if (!is_byte(c.x_dtype) || !is_byte(c.w_dtype)) return no_kernel_for(c.x_dtype);
  if (ports.quantized() && !is_byte(c.y_dtype)) return no_kernel_for(c.y_dtype);
  ctx.output(0, c.y_dtype, c.y_dims);
  return [c](RunContext& run) {
    const bool x_signed = c.x_dtype == DType::Int8, w_signed = c.w_dtype == DType::Int8;
    if (x_signed)
      w_signed ? convolve<int8_t, int8_t>(c, run) : convolve<int8_t, uint8_t>(c, run);
    else
      w_signed ? convolve<uint8_t, int8_t>(c, run) : convolve<uint8_t, uint8_t>(c, run);
  };
}

// oneDNN convolves u8 with s8, images as [N, D..., C], without padding or zero points: the input is copied
// into an image whose border holds the zero point, and
//   sum (x - zx) w = sum x w - zx sum w
// brings the zero point in afterwards. Weights must have a zero point of 0 once they are s8.
class OneDnnConvolution {
 public:
  OneDnnConvolution(PrepareContext& ctx, const IntegerConvolution& c) : c_(c) {
    const Window& w = c.window;
    ScratchPlan scratch(ctx);
    padded_ = w.in;
    Memory::dims zeros(w.rank(), 0), strides, dilates;
    for (size_t i = 0; i < w.rank(); ++i) {
      padded_[i] = (w.out[i] - 1) * w.stride[i] + w.extent(i);
      strides.push_back(w.stride[i]);
      dilates.push_back(w.dilation[i] - 1);
    }
    padded_plane_ = element_count(padded_);
    x_ = channels_last_desc(DType::UInt8, c.batch, c.in_channels(), padded_);
    y_ = channels_last_desc(DType::Int32, c.batch, c.out_channels(), w.out);
    Memory::dims dims = {c.out, c.in};
    dims.insert(dims.end(), w.kernel.begin(), w.kernel.end());
    if (c.groups > 1) dims.insert(dims.begin(), c.groups);
    const Memory::desc plain = onednn_dense(DType::Int8, dims);
    const Memory::desc any(dims, Memory::data_type::s8, Memory::format_tag::any);
    desc_ = dnnl::convolution_forward::primitive_desc(onednn_engine(), dnnl::prop_kind::forward_inference,
                                                      dnnl::algorithm::convolution_direct, x_, any, y_,
                                                      strides, dilates, zeros, zeros, onednn_attributes());
    if (onednn_is_ref(desc_)) return;
    primitive_ = dnnl::convolution_forward(desc_);
    weights_ = signed_weights(*ctx.constant(c.ports.w));
    const int64_t filter = c.in * c.taps;
    for (int64_t m = 0; m < c.out_channels(); ++m) {
      const int8_t* from = weights_.data<int8_t>() + m * filter;
      int32_t sum = 0;
      for (int64_t i = 0; i < filter; ++i) sum += from[i];
      sums_.push_back(sum);
    }
    w_ = OneDnnOperand::source(scratch, plain, desc_.weights_desc(), &weights_);
    x_at_ = scratch.add(x_.get_size());
    y_at_ = scratch.add(y_.get_size());
    work_at_ = scratch.add(desc_.scratchpad_desc().get_size());
  }
  bool usable() const { return static_cast<bool>(primitive_.get(true)); }

  void run(RunContext& run) const {
    std::byte* scratch = run.scratch();
    const bool flip = c_.x_dtype == DType::Int8;
    const int32_t x_zero = elements_as<int32_t>(run, c_.ports.x_zero, 0)[0] + (flip ? 128 : 0);
    uint8_t* x = reinterpret_cast<uint8_t*>(scratch + x_at_);
    int32_t* y = reinterpret_cast<int32_t*>(scratch + y_at_);
    pad(run.in<uint8_t>(c_.ports.x), x, static_cast<uint8_t>(x_zero), flip ? 0x80 : 0);
    onednn_execute(primitive_,
                   {{DNNL_ARG_SRC, onednn_memory(x_, x)},
                    {DNNL_ARG_WEIGHTS, onednn_memory(w_.desc(), w_.load(scratch, weights_.data()))},
                    {DNNL_ARG_DST, onednn_memory(y_, y)},
                    {DNNL_ARG_SCRATCHPAD, onednn_memory(desc_.scratchpad_desc(), scratch + work_at_)}});
    Finish finish(c_, run);
    for (size_t m = 0; m < sums_.size(); ++m)
      finish.bias[m] = wrapped_product_sum(1, finish.bias[m], -x_zero, sums_[m]);
    store(finish, y, run.out<char>(0));
  }

 private:
  static Memory::desc channels_last_desc(DType dtype, int64_t batch, int64_t channels, const Dims& spatial) {
    Dims dims = {batch, channels}, strides = {checked_mul(channels, element_count(spatial), "image"), 1};
    dims.insert(dims.end(), spatial.begin(), spatial.end());
    for (const int64_t s : contiguous_strides(spatial)) strides.push_back(s * channels);
    return onednn_strided(dtype, dims, strides);
  }

  // The images as [N, D..., C] with the border around them.
  void pad(const uint8_t* x, uint8_t* padded, uint8_t zero, uint8_t flip) const {
    const Window& w = c_.window;
    const size_t last = w.rank() - 1;
    const int64_t channels = c_.in_channels(), width = w.in[last];
    if (padded_ == w.in &&
        std::all_of(w.pad_begin.begin(), w.pad_begin.end(), [](int64_t p) { return p == 0; }))
      return channels_last(x, padded, flip);
    const int64_t lines = padded_plane_ / padded_[last], line_bytes = padded_[last] * channels;
    const int64_t first = w.pad_begin[last];
    const int64_t count = std::max<int64_t>(0, std::min(width, padded_[last] - first));
    parallel_for(
        c_.batch * lines, grain_for(static_cast<double>(line_bytes) * 0.3), [&](int64_t begin, int64_t end) {
          for (int64_t item = begin; item < end; ++item) {
            uint8_t* to = padded + item * line_bytes;
            // The line of the input that this one shows, if any.
            int64_t rest = item % lines, from = 0, stride = width;
            bool inside = count > 0;
            for (size_t d = last; d-- > 0;) {
              const int64_t at = rest % padded_[d] - w.pad_begin[d];
              rest /= padded_[d];
              inside = inside && at >= 0 && at < w.in[d];
              from += at * stride;
              stride *= w.in[d];
            }
            if (!inside) {
              std::memset(to, zero, static_cast<size_t>(line_bytes));
              continue;
            }
            std::memset(to, zero, static_cast<size_t>(first * channels));
            const uint8_t* line = x + item / lines * channels * c_.x_plane + from;
            simd::transpose(line, c_.x_plane, channels, count, to + first * channels, channels, flip);
            std::memset(to + (first + count) * channels, zero,
                        static_cast<size_t>(line_bytes - (first + count) * channels));
          }
        });
  }

  // The images as [N, D..., C] where they need no border.
  void channels_last(const uint8_t* x, uint8_t* y, uint8_t flip) const {
    const int64_t channels = c_.in_channels(), blocks = ceil_div(c_.x_plane, kBlock);
    parallel_for(
        c_.batch * blocks, grain_for(static_cast<double>(channels * kBlock) * 0.3),
        [&](int64_t begin, int64_t end) {
          for (int64_t item = begin; item < end; ++item) {
            const int64_t first = item % blocks * kBlock, image = item / blocks * channels * c_.x_plane;
            simd::transpose(x + image + first, c_.x_plane, channels, std::min(kBlock, c_.x_plane - first),
                            y + image + first * channels, channels, flip);
          }
        });
  }

  // The sums, [N, D..., C], to the output, [N, C, D...].
  void store(const Finish& finish, const int32_t* sums, char* out) const {
    const int64_t channels = c_.out_channels(), blocks = ceil_div(c_.y_plane, kBlock);
    const bool quantized = c_.ports.quantized();
    const int32_t* offset = finish.bias.data();
    parallel_for(c_.batch * blocks, grain_for(static_cast<double>(channels * kBlock) * 0.5),
                 [&](int64_t begin, int64_t end) {
                   std::vector<uint8_t> rows(static_cast<size_t>(quantized ? channels * kBlock : 0));
                   for (int64_t item = begin; item < end; ++item) {
                     const int64_t image = item / blocks, first = item % blocks * kBlock;
                     const int64_t count = std::min(kBlock, c_.y_plane - first);
                     const int32_t* from = sums + (image * c_.y_plane + first) * channels;
                     const int64_t to = image * channels * c_.y_plane + first;
                     if (quantized) {
                       for (int64_t i = 0; i < count; ++i)
                         finish.narrow(c_.y_dtype, from + i * channels, offset, 0, 1,
                                       rows.data() + i * channels, channels);
                       simd::transpose(rows.data(), channels, count, channels,
                                       reinterpret_cast<uint8_t*>(out) + to, c_.y_plane, 0);
                       continue;
                     }
                     int32_t* result = reinterpret_cast<int32_t*>(out) + to;
                     for (int64_t m = 0; m < channels; ++m)
                       for (int64_t i = 0; i < count; ++i)
                         result[m * c_.y_plane + i] =
                             wrapped_product_sum(1, from[i * channels + m], 1, offset[m]);
                   }
                 });
  }

  static constexpr int64_t kBlock = 64;  // positions transposed together

  IntegerConvolution c_;
  Dims padded_;
  int64_t padded_plane_ = 0;
  dnnl::convolution_forward::primitive_desc desc_;
  dnnl::convolution_forward primitive_;
  Memory::desc x_, y_;
  OneDnnOperand w_;
  Tensor weights_;             // as s8
  std::vector<int32_t> sums_;  // of each filter
  size_t x_at_ = 0, y_at_ = 0, work_at_ = 0;
};

Prepared prepare_onednn(PrepareContext& ctx, const ConvPorts& ports) {
  if (!onednn_int8_is_exact()) return decline("this processor's 8-bit products would saturate");
  const IntegerConvolution c = integer_convolution(ctx, ports);
  if (!is_byte(c.x_dtype) || !is_byte(c.w_dtype) || (ports.quantized() && !is_byte(c.y_dtype)))
    return decline("only 8-bit integers");
  if (c.window.rank() > 3) return decline("more than three spatial dimensions");
  if (c.empty()) return decline("an empty tensor");
  if (!ctx.constant(ports.w)) return decline("only constant weights");
  const int32_t symmetric = c.w_dtype == DType::UInt8 ? 128 : 0;
  std::vector<int32_t> zeros{0};
  if (ctx.has_input(ports.w_zero)) {
    if (!ctx.constant(ports.w_zero)) return decline("only a constant zero point of the weights");
    zeros = elements_as<int32_t>(*ctx.constant(ports.w_zero));
  }
  if (std::any_of(zeros.begin(), zeros.end(), [&](int32_t z) { return z != symmetric; }))
    return decline("only symmetric weights");
  try {
    const auto convolution = std::make_shared<const OneDnnConvolution>(ctx, c);
    if (!convolution->usable()) return decline("oneDNN has only its reference implementation for this shape");
    ctx.output(0, c.y_dtype, c.y_dims);
    return [convolution](RunContext& run) { convolution->run(run); };
  } catch (const dnnl::error& e) {
    return decline(std::string("oneDNN: ") + e.message);
  }
}

}  // namespace

void register_quantization_conv(KernelRegistry& r) {
  r.add("ConvInteger", "onednn", kFirst,
        [](PrepareContext& ctx) { return prepare_onednn(ctx, kConvInteger); });
  r.add("QLinearConv", "onednn", kFirst,
        [](PrepareContext& ctx) { return prepare_onednn(ctx, kQLinearConv); });
  r.ref("ConvInteger", [](PrepareContext& ctx) { return prepare_loops(ctx, kConvInteger); });
  r.ref("QLinearConv", [](PrepareContext& ctx) { return prepare_loops(ctx, kQLinearConv); });
}

}  // namespace sardonyx::cpu
