// Conv and ConvTranspose of one to three spatial dimensions on oneDNN, for f32 and bf16.
#include "providers/cpu/convolution_onednn.h"

#include <string_view>

#include "providers/cpu/support/epilogue.h"
#include "providers/cpu/support/packed.h"
#include "providers/cpu/support/widen.h"

namespace sardonyx::cpu {

namespace {

Memory::desc in_layout(const Memory::desc& plain, ImageLayout layout) {
  using Tag = Memory::format_tag;
  if (layout == ImageLayout::Plain || layout == ImageLayout::Last) return plain;
  const Tag blocked[] = {Tag::nCw16c, Tag::nChw16c, Tag::nCdhw16c};
  const Memory::dims dims = plain.get_dims();
  return Memory::desc(dims, plain.get_data_type(),
                      layout == ImageLayout::Any ? Tag::any : blocked[dims.size() - 3]);
}

}  // namespace

// The layouts to try, with the reorders of both images counted in. oneDNN's own choice, channels last, has a
// slow reorder of large images; its convolution of plain ones is an im2col and a matrix product, good only
// where the first is trivial or the second is tiny.
std::vector<ImageLayout> image_layouts(const ConvShape& s) {
  constexpr int64_t kManyPositions = 128, kBlock = 16;
  const Window& w = s.window;
  const bool many = element_count(w.out) >= kManyPositions;
  bool single = s.groups == 1;
  for (size_t i = 0; i < w.rank(); ++i)
    single = single && w.kernel[i] == 1 && w.pad_begin[i] == 0 && w.pad_end[i] == 0;
  if (single && many) return {ImageLayout::Plain, ImageLayout::Any};
  if (s.transposed && s.groups == 1 && s.out_channels < 8) return {ImageLayout::Plain, ImageLayout::Any};
  const bool wide = dnnl::get_effective_cpu_isa() >= dnnl::cpu_isa::avx512_core;
  if (wide && many && s.in_channels % kBlock == 0 && s.out_channels % kBlock == 0)
    return {ImageLayout::Blocked, ImageLayout::Any};
  return {ImageLayout::Any};
}

ConvDescs describe(const ConvShape& s, const ConvTypes& types, ImageLayout layout) {
  const Window& w = s.window;
  ConvDescs d;
  const Layout images = layout == ImageLayout::Last ? Layout::ChannelsLast : Layout::Plain;
  d.x = onednn_in_layout(types.x, s.x_dims(), images);
  d.y = onednn_in_layout(types.y, s.y_dims(), images);
  if (s.bias) d.bias = onednn_dense(types.bias, {s.groups * s.out_channels});
  // oneDNN names weights [group,] out, in, kernel...; in a transposed convolution ONNX has in before out.
  const int64_t taps = element_count(w.kernel);
  Dims dims = {s.out_channels, s.in_channels};
  Dims strides = s.transposed ? Dims{taps, s.out_channels * taps} : Dims{s.in_channels * taps, taps};
  const Dims tap_strides = contiguous_strides(w.kernel);
  dims.insert(dims.end(), w.kernel.begin(), w.kernel.end());
  strides.insert(strides.end(), tap_strides.begin(), tap_strides.end());
  if (s.groups > 1) {
    dims.insert(dims.begin(), s.groups);
    strides.insert(strides.begin(), s.out_channels * s.in_channels * taps);
  }
  d.weights = onednn_strided(types.weights, dims, strides);
  d.weights_wanted = in_layout(d.weights, ImageLayout::Any);
  d.x_wanted = in_layout(d.x, layout);
  d.y_wanted = in_layout(d.y, layout);
  for (size_t i = 0; i < w.rank(); ++i) {
    d.strides.push_back(w.stride[i]);
    d.dilates.push_back(w.dilation[i] - 1);
    d.pad_begin.push_back(w.pad_begin[i]);
    // The trailing padding that makes the sizes agree exactly; negative where the last elements are unread.
    d.pad_end.push_back((w.out[i] - 1) * w.stride[i] + w.extent(i) - w.in[i] - w.pad_begin[i]);
  }
  return d;
}

// Spatial dimensions of one element that the window does not extend, but for one: oneDNN's fast convolutions
// run along the last dimension, and are slow where there is nothing along it.
std::vector<size_t> idle_dimensions(const Window& w) {
  std::vector<size_t> idle;
  for (size_t i = 0; i < w.rank(); ++i)
    if (w.in[i] == 1 && w.out[i] == 1 && w.kernel[i] == 1 && w.pad_begin[i] == 0 && w.pad_end[i] == 0)
      idle.push_back(i);
  if (idle.size() == w.rank()) idle.pop_back();
  return idle;
}

ConvShape without_dimensions(ConvShape s, const std::vector<size_t>& dropped) {
  for (Dims* list : {&s.window.in, &s.window.out, &s.window.kernel, &s.window.stride, &s.window.dilation,
                     &s.window.pad_begin, &s.window.pad_end})
    *list = without(*list, dropped);
  return s;
}

namespace {

constexpr int64_t kLongRow = 12;
constexpr double kCostly = 1e8;  // operations from which on a run takes as long as making the kernels

template <typename PrimitiveDesc>
std::string implementation(const PrimitiveDesc& desc) {
  return desc.impl_info_str();
}

// `followed`: the nodes that follow are computed too.
template <typename Primitive>
Prepared prepare_primitive(PrepareContext& ctx, const ConvShape& whole, ImageLayout layout,
                           dnnl::algorithm algorithm, bool followed = true) {
  const DType dtype = ctx.dtype(0);
  const std::vector<size_t> idle = idle_dimensions(whole.window);
  const ConvShape s = without_dimensions(whole, idle);
  std::vector<size_t> dropped;  // of x and y
  for (const size_t i : idle) dropped.push_back(i + 2);
  typename Primitive::primitive_desc desc;
  const Layout images = layout == ImageLayout::Last ? Layout::ChannelsLast : Layout::Plain;
  const Dims y_dims = whole.y_dims();
  const auto describe_operand = [&](const TensorDesc& operand, const Dims& padded) {
    std::optional<std::pair<Memory::desc, Layout>> seen;
    const bool full_rank = operand.dims.size() == y_dims.size();
    // Tensors of lower rank stay as they are: their axes mean the same only if both orders agree.
    if (images == Layout::Plain || full_rank || layouts_agree(padded))
      seen.emplace(onednn_in_layout(operand.dtype, without(padded, dropped), images),
                   full_rank ? images : Layout::Plain);
    return seen;
  };
  Epilogue epilogue;
  epilogue.result = dtype;
  if (followed) epilogue = onednn_epilogue(ctx, dtype, y_dims, describe_operand);
  // One channel a group is half as fast, and a function after the convolution costs as much as some products.
  const double outputs = static_cast<double>(element_count(s.y_dims())),
               summed = static_cast<double>(element_count(s.transposed ? s.x_dims() : s.y_dims()));
  const double operations = (s.groups > 1 && s.in_channels == 1 ? 4 : 2) * summed *
                                static_cast<double>(s.transposed ? s.out_channels : s.in_channels) *
                                static_cast<double>(element_count(s.window.kernel)) +
                            30 * outputs * epilogue.ops.len();
  const bool serial = onednn_small(
      operations, static_cast<double>(element_size(dtype)) *
                      static_cast<double>(element_count(s.x_dims()) + element_count(s.y_dims())));
  const OneDnnSerial scope(serial);
  const ConvDescs d = describe(s, {dtype, dtype, s.bias ? ctx.dtype(2) : dtype, epilogue.result}, layout);
  const auto make = [d, algorithm, biased = s.bias](const Memory::desc& x, const Memory::desc& weights,
                                                    const Memory::desc& y, const dnnl::post_ops& ops) {
    const auto kind = dnnl::prop_kind::forward_inference;
    dnnl::primitive_attr attributes = onednn_attributes();
    attributes.set_post_ops(ops);
    return biased
               ? typename Primitive::primitive_desc(onednn_engine(), kind, algorithm, x, weights, d.bias, y,
                                                    d.strides, d.dilates, d.pad_begin, d.pad_end, attributes)
               : typename Primitive::primitive_desc(onednn_engine(), kind, algorithm, x, weights, y,
                                                    d.strides, d.dilates, d.pad_begin, d.pad_end, attributes);
  };
  try {
    desc = make(d.x_wanted, d.weights_wanted, d.y_wanted, epilogue.ops);
    // Along long enough rows, where oneDNN would write dozens of small kernels for one convolution, which
    // takes ten times as long as running it, its older implementation needs one and is as fast.
    const bool along_a_row = s.window.rank() == 1 && element_count(s.window.out) >= kLongRow;
    if (along_a_row && operations < kCostly && implementation(desc).rfind("brgconv:", 0) == 0 &&
        !(desc.next_impl() && implementation(desc).rfind("jit:", 0) == 0))
      desc = make(d.x_wanted, d.weights_wanted, d.y_wanted, epilogue.ops);
    // "conv:..." is a deconvolution made of a convolution's backward pass: what follows is a plain loop then.
    const bool slow_epilogue =
        epilogue.count != 0 && std::string_view(desc.impl_info_str()).starts_with("conv:");
    if (onednn_is_ref(desc) || slow_epilogue)
      return epilogue.count != 0 ? prepare_primitive<Primitive>(ctx, whole, layout, algorithm, false)
                                 : decline("oneDNN has only its reference implementation for this shape");
    const Primitive primitive(desc);
    ScratchPlan scratch(ctx);
    const auto x = OneDnnOperand::source(scratch, d.x, desc.src_desc(), nullptr);
    const auto weights = OneDnnOperand::source(scratch, d.weights, desc.weights_desc(), ctx.constant(1));
    const auto y = OneDnnOperand::target(scratch, d.y, desc.dst_desc());
    const Memory::desc work_desc = desc.scratchpad_desc(), bias_desc = d.bias;
    const size_t work = scratch.add(work_desc.get_size());
    const bool biased = s.bias;
    ctx.output(0, epilogue.result, whole.y_dims());
    ctx.output_layout(0, images);
    ctx.want(0, images);
    absorb(ctx, epilogue);
    return [=](RunContext& run) {
      const OneDnnSerial run_scope(serial);
      std::byte* memory = run.scratch();
      OneDnnArguments& arguments = run.kept<OneDnnArguments>();
      arguments.begin();
      arguments.add(DNNL_ARG_SRC, x.desc(), x.load(memory, run.input(0).data()));
      arguments.add(DNNL_ARG_WEIGHTS, weights.desc(),
                    weights.load(memory, weights.reads() ? run.input(1).data() : nullptr));
      arguments.add(DNNL_ARG_DST, y.desc(), y.begin_store(memory, run.output(0).mutable_data()));
      arguments.add(DNNL_ARG_SCRATCHPAD, work_desc, memory + work);
      if (biased) arguments.add(DNNL_ARG_BIAS, bias_desc, run.input(2).data());
      epilogue.add_arguments(arguments, run);
      arguments.execute(primitive);
      y.end_store(memory, run.output(0).mutable_data());
      if (!epilogue.to_repeat(run.output(0))) return;
      const auto exact = make(x.desc(), weights.desc(), y.desc(), *epilogue.exact);
      arguments.execute_instead(Primitive(exact), exact.scratchpad_desc());
      y.end_store(memory, run.output(0).mutable_data());
    };
  } catch (const dnnl::error& e) {
    if (epilogue.count != 0) return prepare_primitive<Primitive>(ctx, whole, layout, algorithm, false);
    return decline(std::string("oneDNN: ") + e.message);
  }
}

}  // namespace

Prepared prepare_onednn_convolution(PrepareContext& ctx, const ConvShape& s,
                                    const std::vector<ImageLayout>& layouts) {
  Prepared prepared = decline("no layout");
  for (const ImageLayout layout : layouts) {
    prepared = s.transposed ? prepare_primitive<dnnl::deconvolution_forward>(
                                  ctx, s, layout, dnnl::algorithm::deconvolution_direct)
                            : prepare_primitive<dnnl::convolution_forward>(
                                  ctx, s, layout, dnnl::algorithm::convolution_direct);
    if (prepared.declined.empty()) break;
  }
  return prepared;
}

namespace {

// In a plan whose tensors may be stored channels last.
Prepared prepare_channels_last(PrepareContext& ctx, bool transposed) {
  if (!ctx.layouts()) return decline("tensors are in plain order");
  const DType dtype = ctx.dtype(0);
  if (dtype != DType::Float32 && dtype != DType::BFloat16)
    return decline("oneDNN convolves only f32 and bf16");
  const ConvShape s = transposed ? conv_transpose_shape(ctx) : conv_shape(ctx);
  if (s.window.rank() > 3) return decline("more than three spatial dimensions");
  if (s.empty()) return decline("an empty tensor");
  return prepare_onednn_convolution(ctx, s, {ImageLayout::Last});
}

Prepared prepare_onednn(PrepareContext& ctx, bool transposed) {
  const DType dtype = ctx.dtype(0);
  if (dtype == DType::Float16)
    return widened(ctx, dtype,
                   [transposed](PrepareContext& wide) { return prepare_onednn(wide, transposed); });
  if (dtype != DType::Float32 && dtype != DType::BFloat16)
    return decline("oneDNN convolves only f32 and bf16");
  const ConvShape s = transposed ? conv_transpose_shape(ctx) : conv_shape(ctx);
  if (s.window.rank() > 3) return decline("more than three spatial dimensions");
  if (s.empty()) return decline("an empty tensor");
  return prepare_onednn_convolution(ctx, s, image_layouts(s));
}

// bf16 where the machine has no instructions for it.
Prepared prepare_bfloat16_as_float(PrepareContext& ctx, bool transposed) {
  if (ctx.dtype(0) != DType::BFloat16) return decline("only bf16");
  return widened(ctx, DType::BFloat16,
                 [transposed](PrepareContext& wide) { return prepare_onednn(wide, transposed); });
}

}  // namespace

void register_convolution_onednn(KernelRegistry& registry) {
  for (const bool transposed : {false, true}) {
    const std::string op = transposed ? "ConvTranspose" : "Conv";
    registry.add_aware(op, "onednn-channels-last", kFirst - 1,
                       [transposed](PrepareContext& ctx) { return prepare_channels_last(ctx, transposed); });
    registry.add_aware(op, "onednn", kSecond,
                       [transposed](PrepareContext& ctx) { return prepare_onednn(ctx, transposed); });
    registry.add(op, "onednn-widened", kThird,
                 [transposed](PrepareContext& ctx) { return prepare_bfloat16_as_float(ctx, transposed); });
  }
}

}  // namespace sardonyx::cpu
