// The backward of Slice: what was not read is zero.
#include "ops/registry/operator.h"
#include "providers/cpu/support/slice.h"
#include "providers/cpu/support/strided.h"

namespace sardonyx::cpu {

namespace {

Prepared prepare_slice_backward(PrepareContext& ctx) {
  const Dims dims = ctx.host_ints(1);
  for (const int64_t dim : dims) ctx.expect(dim >= 0, "input 'shape'", "dimensions >= 0", to_string(dims));
  const SliceRange range = slice_range(ctx, dims, 2);
  ctx.expect(ctx.dims(0) == range.counts, "dims of input 'dY'", to_string(range.counts),
             to_string(ctx.dims(0)));
  const DType dtype = ctx.dtype(0);
  const int64_t total = element_count(dims), given = element_count(range.counts);
  ctx.output(0, dtype, dims);
  // A destination is walked upwards: where Slice goes down, dY is read from its end.
  const Dims out = contiguous_strides(dims);
  Dims source = contiguous_strides(range.counts), target(dims.size());
  int64_t from = 0, to = 0;
  for (size_t i = 0; i < dims.size(); ++i) {
    const int64_t last = range.counts[i] - 1;
    const bool down = range.steps[i] < 0;
    to += (range.first[i] + (down ? last * range.steps[i] : 0)) * out[i];
    target[i] = (down ? -range.steps[i] : range.steps[i] == 0 ? 1 : range.steps[i]) * out[i];
    if (down) from += last * source[i], source[i] = -source[i];
  }
  if (given == 0)
    return [dtype, total](RunContext& run) { fill_zero(dtype, run.output(0).mutable_data(), total); };
  StridedCopy copy(dtype, range.counts, source, target);
  const int64_t size = static_cast<int64_t>(element_size(dtype));
  return [=](RunContext& run) {
    char* dx = static_cast<char*>(run.output(0).mutable_data());
    if (given != total) fill_zero(dtype, dx, total);
    copy.run(static_cast<const char*>(run.input(0).data()) + from * size, dx + to * size);
  };
}

}  // namespace

void register_movement_backward(KernelRegistry& registry) {
  registry.ref("SliceBackward", prepare_slice_backward, kOwnDomain);
}

}  // namespace sardonyx::cpu
