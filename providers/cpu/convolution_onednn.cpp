// Conv and ConvTranspose of one to three spatial dimensions on oneDNN, for f32 and bf16.
#include "providers/cpu/convolution.h"
#include "providers/cpu/support/packed.h"
#include "providers/cpu/support/widen.h"

namespace sardonyx::cpu {

namespace {

using Memory = dnnl::memory;

// How a primitive sees its images: as ONNX lays them out, or as the fastest implementation wants them.
enum class Layout { Plain, Fastest };

// oneDNN's NCHW convolution is an im2col and a matrix product: as fast as anything for 1x1 windows over many positions,
// and about half as fast as the blocked ones otherwise, reorders of both images included.
Layout image_layout(const ConvShape& s) {
  constexpr int64_t kManyPositions = 128;
  const Window& w = s.window;
  bool single = s.groups == 1 && element_count(w.out) >= kManyPositions;
  for (size_t i = 0; i < w.rank(); ++i) single = single && w.kernel[i] == 1 && w.pad_begin[i] == 0 && w.pad_end[i] == 0;
  return single ? Layout::Plain : Layout::Fastest;
}

struct Descs {
  Memory::desc x, weights, bias, y;  // as in memory
  Memory::desc x_wanted, weights_wanted, y_wanted;
  Memory::dims strides, dilates, pad_begin, pad_end;
};

Memory::desc any_layout(const Memory::desc& plain) {
  return Memory::desc(plain.get_dims(), plain.get_data_type(), Memory::format_tag::any);
}

Descs describe(const ConvShape& s, DType dtype, Layout layout) {
  const Window& w = s.window;
  Descs d;
  d.x = onednn_dense(dtype, s.x_dims());
  d.y = onednn_dense(dtype, s.y_dims());
  if (s.bias) d.bias = onednn_dense(dtype, {s.groups * s.out_channels});
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
  d.weights = onednn_strided(dtype, dims, strides);
  d.weights_wanted = any_layout(d.weights);
  d.x_wanted = layout == Layout::Plain ? d.x : any_layout(d.x);
  d.y_wanted = layout == Layout::Plain ? d.y : any_layout(d.y);
  for (size_t i = 0; i < w.rank(); ++i) {
    d.strides.push_back(w.stride[i]);
    d.dilates.push_back(w.dilation[i] - 1);
    d.pad_begin.push_back(w.pad_begin[i]);
    // The trailing padding that makes the sizes agree exactly; negative where the last elements are unread.
    d.pad_end.push_back((w.out[i] - 1) * w.stride[i] + w.extent(i) - w.in[i] - w.pad_begin[i]);
  }
  return d;
}

template <typename Primitive>
Prepared prepare_primitive(PrepareContext& ctx, const ConvShape& s, dnnl::algorithm algorithm) {
  const DType dtype = ctx.dtype(0);
  const Descs d = describe(s, dtype, image_layout(s));
  typename Primitive::primitive_desc desc;
  try {
    const auto kind = dnnl::prop_kind::forward_inference;
    desc = s.bias ? typename Primitive::primitive_desc(onednn_engine(), kind, algorithm, d.x_wanted, d.weights_wanted,
                                                       d.bias, d.y_wanted, d.strides, d.dilates, d.pad_begin, d.pad_end,
                                                       onednn_attributes())
                  : typename Primitive::primitive_desc(onednn_engine(), kind, algorithm, d.x_wanted, d.weights_wanted,
                                                       d.y_wanted, d.strides, d.dilates, d.pad_begin, d.pad_end,
                                                       onednn_attributes());
    if (onednn_is_ref(desc)) return decline("oneDNN has only its reference implementation for this shape");
    const Primitive primitive(desc);
    ScratchPlan scratch(ctx);
    const auto x = OneDnnOperand::source(scratch, d.x, desc.src_desc(), nullptr);
    const auto weights = OneDnnOperand::source(scratch, d.weights, desc.weights_desc(), ctx.constant(1));
    const auto y = OneDnnOperand::target(scratch, d.y, desc.dst_desc());
    const Memory::desc work_desc = desc.scratchpad_desc(), bias_desc = d.bias;
    const size_t work = scratch.add(work_desc.get_size());
    const bool biased = s.bias;
    ctx.output(0, dtype, s.y_dims());
    return [=](RunContext& run) {
      std::byte* memory = run.scratch();
      std::unordered_map<int, Memory> arguments = {
          {DNNL_ARG_SRC, x.load(memory, run.input(0).data())},
          {DNNL_ARG_WEIGHTS, weights.load(memory, run.input(1).data())},
          {DNNL_ARG_DST, y.begin_store(memory, run.output(0).mutable_data())},
          {DNNL_ARG_SCRATCHPAD, onednn_memory(work_desc, memory + work)}};
      if (biased) arguments.emplace(DNNL_ARG_BIAS, onednn_memory(bias_desc, run.input(2).data()));
      onednn_execute(primitive, arguments);
      y.end_store(memory, run.output(0).mutable_data());
    };
  } catch (const dnnl::error& e) {
    return decline(std::string("oneDNN: ") + e.message);
  }
}

Prepared prepare_onednn(PrepareContext& ctx, bool transposed) {
  const DType dtype = ctx.dtype(0);
  if (dtype == DType::Float16)
    return widened(ctx, dtype, [transposed](PrepareContext& wide) { return prepare_onednn(wide, transposed); });
  if (dtype != DType::Float32 && dtype != DType::BFloat16) return decline("oneDNN convolves only f32 and bf16");
  const ConvShape s = transposed ? conv_transpose_shape(ctx) : conv_shape(ctx);
  if (s.window.rank() > 3) return decline("more than three spatial dimensions");
  if (s.empty()) return decline("an empty tensor");
  return transposed ? prepare_primitive<dnnl::deconvolution_forward>(ctx, s, dnnl::algorithm::deconvolution_direct)
                    : prepare_primitive<dnnl::convolution_forward>(ctx, s, dnnl::algorithm::convolution_direct);
}

// bf16 where the machine has no instructions for it.
Prepared prepare_bfloat16_as_float(PrepareContext& ctx, bool transposed) {
  if (ctx.dtype(0) != DType::BFloat16) return decline("only bf16");
  return widened(ctx, DType::BFloat16, [transposed](PrepareContext& wide) { return prepare_onednn(wide, transposed); });
}

}  // namespace

void register_convolution_onednn(KernelRegistry& registry) {
  for (const bool transposed : {false, true}) {
    const std::string op = transposed ? "ConvTranspose" : "Conv";
    registry.add(op, "onednn", kSecond, [transposed](PrepareContext& ctx) { return prepare_onednn(ctx, transposed); });
    registry.add(op, "onednn-widened", kThird,
                 [transposed](PrepareContext& ctx) { return prepare_bfloat16_as_float(ctx, transposed); });
  }
}

}  // namespace sardonyx::cpu
