#include "providers/cpu/support/widen.h"

#include "providers/cpu/support/cast.h"

namespace sardonyx::cpu {

namespace {
Tensor widened_copy(const Tensor& tensor) {
  Tensor wide(DType::Float32, tensor.dims());
  convert_floats(tensor.dtype(), tensor.data(), DType::Float32, wide.mutable_data(), tensor.size());
  return wide;
}
}  // namespace

void convert_floats(DType from, const void* src, DType to, void* dst, int64_t n) {
  cast_numbers(from, src, to, dst, n, {.saturate = true, .rounding = E8M0Rounding::Nearest});
}

Prepared widened(PrepareContext& ctx, DType narrow, const PrepareKernel& prepare) {
  PrepareContext wide = ctx;
  wide.followers_.clear();
  std::vector<bool> convert(ctx.input_count(), false);
  std::vector<Tensor> hosts(ctx.input_count());
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    auto& input = wide.inputs_[i];
    if (!input.is_tensor || !is_narrow_float(input.desc.dtype)) continue;
    convert[i] = true;
    input.desc.dtype = DType::Float32;
    if (input.host) {
      hosts[i] = widened_copy(*input.host);
      input.host = &hosts[i];
    }
  }
  Prepared inner = prepare(wide);
  if (!inner.declined.empty()) return inner;
  std::vector<PrepareContext::Output> inner_outputs = wide.outputs_;
  for (size_t i = 0; i < inner_outputs.size(); ++i) {
    const auto& output = inner_outputs[i];
    if (output.kind == PrepareContext::OutputKind::Unset) continue;
    ctx.output(i, output.desc.dtype == DType::Float32 ? narrow : output.desc.dtype, output.desc.dims);
    ctx.output_layout(i, output.desc.layout);
  }
  for (size_t i = 0; i < ctx.input_count(); ++i) ctx.want(i, wide.inputs_[i].wanted);
  ctx.scratch(wide.scratch_);
  // Constants in plain order stay converted: weights are not converted again at each run.
  for (size_t i = 0; i < hosts.size(); ++i)
    if (!ctx.constant(i) || wide.inputs_[i].wanted != Layout::Plain) hosts[i] = Tensor();
  return [inner = std::move(inner), inner_outputs, convert, narrow,
          constants = std::move(hosts)](RunContext& run) {
    RunContext wide_run = run;
    for (size_t i = 0; i < wide_run.inputs_.size(); ++i)
      if (i < convert.size() && convert[i] && run.has_input(i))
        wide_run.inputs_[i] = constants[i].defined() ? constants[i] : widened_copy(run.input(i));
    for (size_t i = 0; i < inner_outputs.size(); ++i) {
      const auto& output = inner_outputs[i];
      // The first output is written whether it is wanted or not.
      if (output.kind == PrepareContext::OutputKind::Static && output.desc.dtype == DType::Float32 &&
          (i == 0 || run.wants(i)))
        wide_run.outputs_[i] = Tensor(DType::Float32, output.desc.dims);
      else if (output.kind == PrepareContext::OutputKind::Alias && run.wants(i))
        wide_run.outputs_[i] = wide_run.input(static_cast<size_t>(output.shares)).reshaped(output.desc.dims);
    }
    if (inner.run) inner.run(wide_run);
    for (size_t i = 0; i < inner_outputs.size(); ++i) {
      if (!run.wants(i) || !wide_run.outputs_[i].is_tensor()) continue;
      const Tensor& from = wide_run.output(i);
      if (from.dtype() != DType::Float32) {
        run.outputs_[i] = from;
        continue;
      }
      Tensor to = run.outputs_[i].is_tensor() ? run.output(i) : run.allocate(i, narrow, from.dims());
      convert_floats(DType::Float32, from.data(), narrow, to.mutable_data(), from.size());
    }
  };
}

}  // namespace sardonyx::cpu
