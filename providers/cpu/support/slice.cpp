#include "providers/cpu/support/slice.h"

#include <algorithm>
#include <numeric>

namespace sardonyx::cpu {

SliceRange slice_range(PrepareContext& ctx, const Dims& in, size_t operand) {
  const Dims starts = ctx.host_ints(operand), ends = ctx.host_ints(operand + 1);
  const int rank = static_cast<int>(in.size());
  ctx.expect(ends.size() == starts.size(), "length of input 'ends'", std::to_string(starts.size()),
             std::to_string(ends.size()));
  Dims axes(starts.size()), steps(starts.size(), 1);
  std::iota(axes.begin(), axes.end(), 0);
  if (ctx.has_input(operand + 2)) axes = ctx.host_ints(operand + 2);
  if (ctx.has_input(operand + 3)) steps = ctx.host_ints(operand + 3);
  ctx.expect(axes.size() == starts.size(), "length of input 'axes'", std::to_string(starts.size()),
             std::to_string(axes.size()));
  ctx.expect(steps.size() == starts.size(), "length of input 'steps'", std::to_string(starts.size()),
             std::to_string(steps.size()));
  SliceRange range{in, Dims(in.size(), 0), Dims(in.size(), 1)};
  std::vector<bool> seen(in.size(), false);
  for (size_t i = 0; i < starts.size(); ++i) {
    const size_t axis = static_cast<size_t>(normalize_axis(axes[i], rank, "value of input 'axes'"));
    ctx.expect(!seen[axis], "input 'axes'", "each axis once", to_string(axes));
    seen[axis] = true;
    const int64_t dim = in[axis], step = steps[i];
    ctx.expect(step != 0, "input 'steps'", "steps other than 0", to_string(steps));
    const int64_t top = step > 0 ? dim : dim - 1;
    const int64_t start =
        std::clamp<int64_t>(starts[i] < 0 ? starts[i] + dim : starts[i], 0, std::max<int64_t>(top, 0));
    const int64_t end = std::clamp<int64_t>(ends[i] < 0 ? ends[i] + dim : ends[i], step > 0 ? 0 : -1,
                                            std::max<int64_t>(top, -1));
    // Unsigned: the magnitude of a step may be 2^63.
    const uint64_t span = static_cast<uint64_t>(step > 0 ? std::max<int64_t>(end - start, 0)
                                                         : std::max<int64_t>(start - end, 0));
    const uint64_t magnitude = step > 0 ? static_cast<uint64_t>(step) : 0 - static_cast<uint64_t>(step);
    const int64_t count = dim == 0 || span == 0 ? 0 : static_cast<int64_t>((span - 1) / magnitude + 1);
    range.first[axis] = count > 0 ? start : 0;
    range.steps[axis] = count > 1 ? step : 0;
    range.counts[axis] = count;
  }
  return range;
}

}  // namespace sardonyx::cpu
