// ConvInteger and QLinearConv on oneDNN channels last, with zero point, scales, bias and what follows inside.
#include <algorithm>
#include <cmath>

#include "providers/cpu/quantization_conv.h"
#include "providers/cpu/support/integer_tail.h"

namespace sardonyx::cpu {

namespace {

using Memory = dnnl::memory;

// Constants of a QLinearConv in f32 terms, when all of them are known.
std::optional<IntegerTail> quantized_tail(const PrepareContext& ctx, const IntegerConvolution& c,
                                          const DescribeOperand& describe) {
  const ConvPorts& p = c.ports;
  for (const size_t i : {p.x_scale, p.x_zero, p.w_scale, p.y_scale, p.y_zero})
    if (!ctx.constant(i)) return std::nullopt;
  if (ctx.has_input(p.bias) && !ctx.constant(p.bias)) return std::nullopt;
  const auto number = [&](size_t i) { return elements_as<float>(*ctx.constant(i))[0]; };
  std::vector<float> scale = elements_as<float>(*ctx.constant(p.w_scale));
  for (float& s : scale) {
    s = number(p.x_scale) * s / number(p.y_scale);
    if (!std::isfinite(s)) return std::nullopt;
  }
  std::vector<int32_t> bias;
  if (ctx.has_input(p.bias)) bias = elements_as<int32_t>(*ctx.constant(p.bias));
  if (bias.size() == 1 || scale.size() == 1) {
    const size_t n = static_cast<size_t>(c.out_channels());
    if (bias.size() == 1) bias.resize(n, bias[0]);
  }
  IntegerTail tail = IntegerTail::quantized(c.y_dtype, std::move(scale), bias,
                                            elements_as<int32_t>(*ctx.constant(p.y_zero))[0]);
  tail.take_followers(ctx, c.y_dims, describe);
  return tail;
}

Prepared prepare_fused(PrepareContext& ctx, const ConvPorts& ports) {
  if (!ctx.layouts()) return decline("tensors are in plain order");
  if (!onednn_int8_is_exact()) return decline("this processor's 8-bit products would saturate");
  const IntegerConvolution c = integer_convolution(ctx, ports);
  if (!is_byte(c.x_dtype) || !is_byte(c.w_dtype) || (ports.quantized() && !is_byte(c.y_dtype)))
    return decline("only 8-bit integers");
  if (c.window.rank() > 3 || c.empty()) return decline("more than three spatial dimensions, or nothing");
  const Tensor* constant = ctx.constant(ports.w);
  if (!constant || !ZeroPoint::fits(ctx, ports.x_zero)) return decline("only constant weights");
  std::vector<int32_t> zeros{0};
  if (ctx.has_input(ports.w_zero)) {
    if (!ctx.constant(ports.w_zero)) return decline("only a constant zero point of the weights");
    zeros = elements_as<int32_t>(*ctx.constant(ports.w_zero));
  }
  const bool flips = c.w_dtype == DType::UInt8;
  if (std::any_of(zeros.begin(), zeros.end(), [&](int32_t z) { return z != (flips ? 128 : 0); }))
    return decline("only symmetric weights");
  const Tensor weights = signed_weights(*constant);
  const auto describe = [&](const TensorDesc& operand, const Dims& padded) {
    std::optional<std::pair<Memory::desc, Layout>> seen;
    const bool full_rank = operand.dims.size() == c.y_dims.size();
    if (full_rank || layouts_agree(padded))
      seen.emplace(onednn_in_layout(operand.dtype, padded, Layout::ChannelsLast),
                   full_rank ? Layout::ChannelsLast : Layout::Plain);
    return seen;
  };
  const auto found = ports.quantized() ? quantized_tail(ctx, c, describe)
                                       : IntegerTail::followers(ctx, c.y_dims, 1, describe);
  if (!found) return decline("scales that are not known, or nothing that makes the sums floats");
  const IntegerTail& tail = *found;

  const Window& w = c.window;
  Memory::dims strides, dilates, begin, end;
  for (size_t i = 0; i < w.rank(); ++i) {
    strides.push_back(w.stride[i]);
    dilates.push_back(w.dilation[i] - 1);
    begin.push_back(w.pad_begin[i]);
    end.push_back((w.out[i] - 1) * w.stride[i] + w.extent(i) - w.in[i] - w.pad_begin[i]);
  }
  Dims x_dims = {c.batch, c.in_channels()}, w_dims = {c.out, c.in};
  x_dims.insert(x_dims.end(), w.in.begin(), w.in.end());
  w_dims.insert(w_dims.end(), w.kernel.begin(), w.kernel.end());
  if (c.groups > 1) w_dims.insert(w_dims.begin(), c.groups);
  const Memory::desc x = onednn_in_layout(c.x_dtype, x_dims, Layout::ChannelsLast),
                     y = onednn_in_layout(tail.dtype, c.y_dims, Layout::ChannelsLast),
                     plain = onednn_dense(DType::Int8, w_dims),
                     any(w_dims, Memory::data_type::s8, Memory::format_tag::any),
                     channels = onednn_dense(DType::Float32, {c.out_channels()}),
                     scale = onednn_dense(DType::Float32, {tail.scale.one ? 1 : c.out_channels()});
  const double operations =
      2 * static_cast<double>(element_count(c.y_dims)) * static_cast<double>(c.in * c.taps);
  const bool serial =
      onednn_small(operations / 4, static_cast<double>(element_count(x_dims) + element_count(c.y_dims)));
  const OneDnnSerial scope(serial);
  ScratchPlan scratch(ctx);
  const ZeroPoint zero(ctx, scratch, ports.x_zero, DNNL_ARG_SRC);
  dnnl::primitive_attr attributes = onednn_attributes();
  if (tail.scale.used())
    attributes.set_scales_mask(DNNL_ARG_WEIGHTS, tail.scale.one ? 0 : c.groups > 1 ? 3 : 1);
  if (zero.used()) attributes.set_zero_points_mask(DNNL_ARG_SRC, 0);
  attributes.set_post_ops(tail.epilogue.ops);
  if (tail.bias.used() && tail.bias.one && c.out_channels() != 1) return decline("one bias for all channels");
  try {
    const auto kind = dnnl::prop_kind::forward_inference;
    const auto algorithm = dnnl::algorithm::convolution_direct;
    using Desc = dnnl::convolution_forward::primitive_desc;
    const Desc desc = tail.bias.used() ? Desc(onednn_engine(), kind, algorithm, x, any, channels, y, strides,
                                              dilates, begin, end, attributes)
                                       : Desc(onednn_engine(), kind, algorithm, x, any, y, strides, dilates,
                                              begin, end, attributes);
    if (onednn_is_ref(desc)) return decline("oneDNN has only its reference implementation for this shape");
    const dnnl::convolution_forward primitive(desc);
    const auto packed = OneDnnOperand::source(scratch, plain, desc.weights_desc(), &weights);
    const Memory::desc work = desc.scratchpad_desc();
    const size_t work_at = scratch.add(work.get_size());
    ctx.output(0, tail.dtype, c.y_dims);
    ctx.output_layout(0, Layout::ChannelsLast);
    ctx.want(ports.x, Layout::ChannelsLast);
    absorb(ctx, tail.epilogue);
    return [=](RunContext& run) {
      const OneDnnSerial run_scope(serial);
      OneDnnArguments& arguments = run.kept<OneDnnArguments>();
      arguments.begin();
      arguments.add(DNNL_ARG_SRC, x, run.input(ports.x).data());
      arguments.add(DNNL_ARG_WEIGHTS, packed.desc(),
                    packed.load(run.scratch(), packed.reads() ? weights.data() : nullptr));
      arguments.add(DNNL_ARG_DST, y, run.output(0).data());
      arguments.add(DNNL_ARG_SCRATCHPAD, work, run.scratch() + work_at);
      zero.add_argument(arguments, run);
      tail.add_arguments(arguments, run, channels, scale);
      arguments.execute(primitive);
    };
  } catch (const dnnl::error& e) {
    return decline(std::string("oneDNN: ") + e.message);
  }
}

}  // namespace

void register_quantization_conv_fused(KernelRegistry& r) {
  r.add_aware("ConvInteger", "onednn-fused", kFirst - 1,
              [](PrepareContext& ctx) { return prepare_fused(ctx, kConvInteger); });
  r.add_aware("QLinearConv", "onednn-fused", kFirst - 1,
              [](PrepareContext& ctx) { return prepare_fused(ctx, kQLinearConv); });
}

}  // namespace sardonyx::cpu
