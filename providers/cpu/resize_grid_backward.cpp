// GridSampleBackward: the derivatives of GridSample and Sample by the image and by the positions.
#include "ops/registry/operator.h"
#include "providers/cpu/resize_grid.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/widen.h"

namespace sardonyx::cpu {

namespace {

constexpr size_t kMaxAxes = 8;
constexpr int64_t kChannels = 16, kPositions = 64;

// The taps of every axis at one position of the grid.
template <typename T>
struct Neighbours {
  GridTaps taps[kMaxAxes];
  size_t axes;

  Neighbours(const SamplePlan& plan, const T* at) : axes(plan.axes.size()) {
    for (size_t d = 0; d < axes; ++d)
      taps[d] = plan.axes[d].taps(static_cast<double>(at[axes - 1 - d]), plan.mode, plan.padding,
                                  plan.align_corners, std::is_same_v<T, float>);
  }

  // f(element, tap of each axis) for all neighbours that lie in the image.
  template <typename F>
  void each(const SamplePlan& plan, F&& f) const {
    size_t choice[kMaxAxes] = {};
    for (;;) {
      int64_t at = 0;
      bool inside = true;
      for (size_t d = 0; d < axes; ++d) {
        const int64_t index = taps[d].index[choice[d]];
        inside = inside && index >= 0;
        at = at * plan.axes[d].size + index;
      }
      if (inside) f(at, choice);
      size_t d = axes;
      while (d-- > 0) {
        if (++choice[d] < static_cast<size_t>(taps[d].count)) break;
        choice[d] = 0;
      }
      if (d == static_cast<size_t>(-1)) return;
    }
  }
};

// Channels are independent of one another; positions are not.
template <typename T>
void image_gradient(const SamplePlan& plan, const T* dy, const T* grid, T* dx) {
  const int64_t blocks = (plan.channels + kChannels - 1) / kChannels,
                axes = static_cast<int64_t>(plan.axes.size());
  parallel_for(plan.batches * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t image = task / blocks, first = image * plan.channels + task % blocks * kChannels,
                    count = std::min(kChannels, plan.channels - task % blocks * kChannels);
      T* to = dx + first * plan.plane;
      const T* from = dy + first * plan.positions;
      std::fill(to, to + count * plan.plane, T(0));
      for (int64_t p = 0; p < plan.positions; ++p) {
        const Neighbours<T> near(plan, grid + (image * plan.positions + p) * axes);
        near.each(plan, [&](int64_t at, const size_t* choice) {
          double weight = 1;
          for (size_t d = 0; d < near.axes; ++d) weight *= near.taps[d].weight[choice[d]];
          for (int64_t c = 0; c < count; ++c)
            to[c * plan.plane + at] += static_cast<T>(weight) * from[c * plan.positions + p];
        });
      }
    }
  });
}

template <typename T>
void position_gradient(const SamplePlan& plan, const T* dy, const T* x, const T* grid, T* dgrid) {
  const int64_t blocks = (plan.positions + kPositions - 1) / kPositions,
                axes = static_cast<int64_t>(plan.axes.size());
  parallel_for(plan.batches * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t image = task / blocks, first = task % blocks * kPositions;
      const T* in = x + image * plan.channels * plan.plane;
      for (int64_t p = first; p < std::min(plan.positions, first + kPositions); ++p) {
        const int64_t position = image * plan.positions + p;
        const Neighbours<T> near(plan, grid + position * axes);
        const T* from = dy + image * plan.channels * plan.positions + p;
        double sums[kMaxAxes] = {};
        near.each(plan, [&](int64_t at, const size_t* choice) {
          double product = 0;
          for (int64_t c = 0; c < plan.channels; ++c)
            product +=
                static_cast<double>(from[c * plan.positions]) * static_cast<double>(in[c * plan.plane + at]);
          for (size_t d = 0; d < near.axes; ++d) {
            double slope = near.taps[d].slope[choice[d]];
            for (size_t e = 0; e < near.axes; ++e)
              if (e != d) slope *= near.taps[e].weight[choice[e]];
            sums[d] += product * slope;
          }
        });
        for (size_t d = 0; d < near.axes; ++d)
          dgrid[position * axes + axes - 1 - static_cast<int64_t>(d)] = static_cast<T>(sums[d]);
      }
    }
  });
}

Prepared prepare_grid_sample_backward(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (is_narrow_float(dtype)) return widened(ctx, dtype, prepare_grid_sample_backward);
  for (const size_t i : {size_t{1}, size_t{2}})
    ctx.expect(ctx.dtype(i) == dtype, "dtype of input " + std::to_string(i), dtype_name(dtype),
               dtype_name(ctx.dtype(i)));
  const Dims &x = ctx.dims(1), &grid = ctx.dims(2);
  const SamplePlan plan = sample_plan(ctx, ctx.attributes<GridSampleBackwardAttributes>(), x, grid);
  Dims dy = {x[0], x[1]};
  dy.insert(dy.end(), grid.begin() + 1, grid.end() - 1);
  ctx.expect(ctx.dims(0) == dy, "dims of input 'dY'", to_string(dy), to_string(ctx.dims(0)));
  ctx.output(0, dtype, x);
  ctx.output(1, dtype, grid);
  std::function<void(RunContext&)> run;
  visit<Types<float, double>>(dtype, [&]<typename T>() {
    run = [plan](RunContext& r) {
      const T *dy = r.in<T>(0), *x = r.in<T>(1), *grid = r.in<T>(2);
      if (T* dx = r.out<T>(0)) image_gradient(plan, dy, grid, dx);
      T* dgrid = r.wants(1) ? r.out<T>(1) : nullptr;
      if (!dgrid) return;
      if (plan.mode == GridMode::Nearest)
        std::fill(dgrid, dgrid + r.output(1).size(), T(0));
      else
        position_gradient(plan, dy, x, grid, dgrid);
    };
  });
  ctx.expect(run != nullptr, "dtype of input 'dY'", "a float type", dtype_name(dtype));
  return run;
}

}  // namespace

void register_resize_grid_backward(KernelRegistry& registry) {
  registry.ref("GridSampleBackward", prepare_grid_sample_backward, kOwnDomain);
}

}  // namespace sardonyx::cpu
