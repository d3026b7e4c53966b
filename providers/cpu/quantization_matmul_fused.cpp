// MatMulInteger and QLinearMatMul on oneDNN with zero points, scales, bias and what follows inside.
#include <algorithm>
#include <cmath>

#include "providers/cpu/quantization_matmul.h"
#include "providers/cpu/support/integer_tail.h"

namespace sardonyx::cpu {

namespace {

using Memory = dnnl::memory;

bool has_one(const PrepareContext& ctx, size_t i) { return ctx.constant(i) && ctx.constant(i)->size() == 1; }

// Constants of a QLinearMatMul in f32 terms, when all of them are known, and one for a and for y.
std::optional<IntegerTail> quantized_tail(const PrepareContext& ctx, const IntegerProduct& p,
                                          const DescribeOperand& describe) {
  const ProductPorts& in = p.ports;
  const Tensor* columns = ctx.constant(in.b_scale);
  for (const size_t i : {in.a_scale, in.y_scale, in.y_zero})
    if (!has_one(ctx, i)) return std::nullopt;
  if (!columns || !is_byte(ctx.dtype(in.y_zero)) || (columns->size() != 1 && columns->size() != p.n))
    return std::nullopt;
  const auto number = [&](size_t i) { return elements_as<float>(*ctx.constant(i))[0]; };
  std::vector<float> scale = elements_as<float>(*columns);
  for (float& s : scale) {
    s = number(in.a_scale) * s / number(in.y_scale);
    if (!std::isfinite(s)) return std::nullopt;
  }
  IntegerTail tail = IntegerTail::quantized(ctx.dtype(in.y_zero), std::move(scale), {},
                                            elements_as<int32_t>(*ctx.constant(in.y_zero))[0]);
  tail.take_followers(ctx, p.out, describe);
  return tail;
}

// One zero point for all of b, or zeros.
bool single_zero(const PrepareContext& ctx, size_t i) {
  if (ZeroPoint::fits(ctx, i)) return true;
  if (!ctx.constant(i) || ctx.dtype(i) != DType::Int8) return false;
  const auto zeros = elements_as<int32_t>(*ctx.constant(i));
  return std::all_of(zeros.begin(), zeros.end(), [](int32_t z) { return z == 0; });
}

Prepared prepare_fused(PrepareContext& ctx, const ProductPorts& ports) {
  if (!onednn_int8_is_exact()) return decline("this processor's 8-bit products would saturate");
  const IntegerProduct p = integer_product(ctx, ports);
  if (!is_byte(p.a_dtype) || !is_byte(p.b_dtype)) return decline("only 8-bit integers");
  const int64_t results = element_count(p.out);
  if (results == 0 || p.k == 0 || ctx.rank(ports.b) < 2 || p.batch.size() > 10)
    return decline("an empty operand, a vector, or too many dimensions");
  if (static_cast<double>(results) * static_cast<double>(p.k) <= 4096) return decline("too small");
  if (!ZeroPoint::fits(ctx, ports.a_zero) || !single_zero(ctx, ports.b_zero))
    return decline("more than one zero point");
  const Tensor* constant = ctx.constant(ports.b);
  const bool flips = p.b_dtype == DType::UInt8;
  const Tensor weights = constant ? signed_weights(*constant) : Tensor();

  const auto matrices = p.matrices();
  const Dims& c_dims = matrices.c;
  Dims row_dims(c_dims.size() - 1, 1);
  row_dims.push_back(p.n);
  const Memory::desc row = onednn_dense(DType::Float32, row_dims);
  const auto describe = [&](const TensorDesc& operand, const Dims& padded) {
    std::optional<std::pair<Memory::desc, Layout>> seen;
    if (padded == p.out && operand.size() == results)
      seen.emplace(onednn_dense(operand.dtype, c_dims), Layout::Plain);
    else if (operand.dtype == DType::Float32 && operand.size() == p.n && !padded.empty() &&
             padded.back() == p.n)
      seen.emplace(row, Layout::Plain);
    return seen;
  };
  const auto found = ports.y_scale != 0 ? quantized_tail(ctx, p, describe)
                                        : IntegerTail::followers(ctx, p.out, p.out.size() - 1, describe);
  if (!found) return decline("scales that are not known, or nothing that makes the sums floats");
  const IntegerTail& tail = *found;
  if (tail.bias.used() && tail.bias.one && p.n != 1) return decline("one bias for all columns");

  const Memory::desc a = onednn_dense(p.a_dtype, matrices.a), plain = onednn_dense(DType::Int8, matrices.b),
                     c = onednn_dense(tail.dtype, c_dims),
                     scale = onednn_dense(DType::Float32, {tail.scale.one ? 1 : p.n});
  const Memory::desc wanted =
      constant ? Memory::desc(plain.get_dims(), plain.get_data_type(), Memory::format_tag::any) : plain;
  const double operations = 2 * static_cast<double>(results) * static_cast<double>(p.k);
  const int64_t b_bytes = p.b_matrices * p.k * p.n;
  const bool serial =
      onednn_small(operations / 4, static_cast<double>(p.a_matrices * p.m * p.k + b_bytes + results));
  const OneDnnSerial scope(serial);
  ScratchPlan scratch(ctx);
  const ZeroPoint a_zero(ctx, scratch, ports.a_zero, DNNL_ARG_SRC);
  const ZeroPoint b_zero = ctx.has_input(ports.b_zero) && ctx.input(ports.b_zero).size() != 1
                               ? ZeroPoint()
                               : ZeroPoint(ctx, scratch, ports.b_zero, DNNL_ARG_WEIGHTS, flips ? -128 : 0);
  const bool flips_in_run = flips && !constant;
  const size_t flipped_at = flips_in_run ? scratch.add(static_cast<size_t>(b_bytes)) : 0;
  dnnl::primitive_attr attributes = onednn_attributes();
  if (tail.scale.used())
    attributes.set_scales_mask(DNNL_ARG_WEIGHTS, tail.scale.one ? 0 : 1 << (c_dims.size() - 1));
  if (a_zero.used()) attributes.set_zero_points_mask(DNNL_ARG_SRC, 0);
  if (b_zero.used()) attributes.set_zero_points_mask(DNNL_ARG_WEIGHTS, 0);
  attributes.set_post_ops(tail.epilogue.ops);
  try {
    using Desc = dnnl::matmul::primitive_desc;
    const Desc desc = tail.bias.used() ? Desc(onednn_engine(), a, wanted, row, c, attributes)
                                       : Desc(onednn_engine(), a, wanted, c, attributes);
    if (onednn_is_ref(desc)) return decline("oneDNN has only its reference implementation for this shape");
    const dnnl::matmul primitive(desc);
    const auto b = OneDnnOperand::source(scratch, plain, desc.weights_desc(), constant ? &weights : nullptr);
    const Memory::desc work = desc.scratchpad_desc();
    const size_t work_at = scratch.add(work.get_size());
    ctx.output(0, tail.dtype, p.out);
    absorb(ctx, tail.epilogue);
    return [=](RunContext& run) {
      const OneDnnSerial run_scope(serial);
      const void* b_data = nullptr;
      if (b.reads()) b_data = weights.defined() ? weights.data() : run.input(ports.b).data();
      if (flips_in_run) {
        uint8_t* flipped = reinterpret_cast<uint8_t*>(run.scratch() + flipped_at);
        flip_signs(static_cast<const uint8_t*>(b_data), flipped, b_bytes);
        b_data = flipped;
      }
      OneDnnArguments& arguments = run.kept<OneDnnArguments>();
      arguments.begin();
      arguments.add(DNNL_ARG_SRC, a, run.input(ports.a).data());
      arguments.add(DNNL_ARG_WEIGHTS, b.desc(), b.load(run.scratch(), b_data));
      arguments.add(DNNL_ARG_DST, c, run.output(0).data());
      arguments.add(DNNL_ARG_SCRATCHPAD, work, run.scratch() + work_at);
      a_zero.add_argument(arguments, run);
      b_zero.add_argument(arguments, run);
      tail.add_arguments(arguments, run, row, scale);
      arguments.execute(primitive);
    };
  } catch (const dnnl::error& e) {
    return decline(std::string("oneDNN: ") + e.message);
  }
}

}  // namespace

void register_quantization_matmul_fused(KernelRegistry& r) {
  r.add_aware("MatMulInteger", "onednn-fused", kFirst - 1,
              [](PrepareContext& ctx) { return prepare_fused(ctx, kMatMulInteger); });
  r.add_aware("QLinearMatMul", "onednn-fused", kFirst - 1,
              [](PrepareContext& ctx) { return prepare_fused(ctx, kQLinearMatMul); });
}

}  // namespace sardonyx::cpu
