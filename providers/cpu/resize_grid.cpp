// GridSample: a tensor read at positions that another tensor gives; AffineGrid: such positions from an
// affine map.
#include "providers/cpu/resize_grid.h"

#include <limits>

#include "ops/registry/operator.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

namespace {

// What the positions of a block read of one channel: each the product of the taps of its axes.
template <typename W>
struct Reads {
  size_t most;  // reads of one position
  int64_t positions;
  std::vector<int64_t> offsets;  // `most` for each position
  std::vector<W> weights;
  std::vector<size_t> counts;

  Reads(size_t most_reads, int64_t block)
      : most(most_reads),
        positions(block),
        offsets(most * static_cast<size_t>(block)),
        weights(offsets.size()),
        counts(static_cast<size_t>(block)) {}

  template <typename G>
  void find(const SamplePlan& plan, size_t position, const G* at) {
    int64_t* to = offsets.data() + position * most;
    W* w = weights.data() + position * most;
    size_t count = 1;
    to[0] = 0;
    w[0] = 1;
    for (size_t d = 0; d < plan.axes.size(); ++d) {
      const double x = static_cast<double>(static_cast<Compute<G>>(at[plan.axes.size() - 1 - d]));
      const GridTaps taps =
          plan.axes[d].taps(x, plan.mode, plan.padding, plan.align_corners, !std::is_same_v<G, double>);
      size_t used[4], n = 0;
      for (size_t t = 0; t < static_cast<size_t>(taps.count); ++t)
        if (taps.index[t] >= 0) used[n++] = t;
      // Every read so far becomes one for each tap; backwards, so that it is read before it is overwritten.
      for (size_t i = count; i-- > 0;) {
        const int64_t offset = to[i] * plan.axes[d].size;
        const W weight = w[i];
        for (size_t k = n; k-- > 0;) {
          to[i * n + k] = offset + taps.index[used[k]];
          w[i * n + k] = weight * static_cast<W>(taps.weight[used[k]]);
        }
      }
      count *= n;
    }
    counts[position] = count;
  }
};

// f(reads, n, first element of the image, first element of the output) for blocks of n positions of an image,
// so that a channel is read for many positions at once.
template <typename W, typename G, typename F>
void each_block(const SamplePlan& plan, const G* grid, F&& f) {
  const size_t rank = plan.axes.size();
  const size_t most =
      plan.mode == GridMode::Nearest ? 1 : size_t{1} << (plan.mode == GridMode::Cubic ? 2 * rank : rank);
  const int64_t block = std::max<int64_t>(1, 1024 / static_cast<int64_t>(most));
  const int64_t blocks = (plan.positions + block - 1) / block;
  const double cost =
      static_cast<double>(block) * (60 + static_cast<double>(plan.channels * static_cast<int64_t>(most)));
  parallel_for(plan.batches * blocks, grain_for(cost), [&](int64_t begin, int64_t end) {
    Reads<W> reads(most, block);
    for (int64_t b = begin; b < end; ++b) {
      const int64_t image = b / blocks, first = b % blocks * block,
                    n = std::min(block, plan.positions - first);
      for (int64_t i = 0; i < n; ++i)
        reads.find(plan, static_cast<size_t>(i),
                   grid + (image * plan.positions + first + i) * static_cast<int64_t>(rank));
      f(reads, n, image * plan.channels * plan.plane, image * plan.channels * plan.positions + first);
    }
  });
}

template <typename T>
constexpr bool kComplex = std::is_same_v<T, std::complex<float>> || std::is_same_v<T, std::complex<double>>;

template <typename T, typename W>
T rounded(W sum) {
  if constexpr (std::is_integral_v<T>) {
    if (!(sum > static_cast<W>(std::numeric_limits<T>::lowest()))) return std::numeric_limits<T>::lowest();
    if (sum >= static_cast<W>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
    return static_cast<T>(sum);
  } else if constexpr (kComplex<T>) {
    return sum;
  } else {
    return T(static_cast<Compute<T>>(sum));
  }
}

template <typename T, typename G>
void sample(const SamplePlan& plan, const T* in, const G* grid, T* out) {
  using W = std::conditional_t<std::is_same_v<Compute<T>, float> || std::is_same_v<T, std::complex<float>>,
                               float, double>;
  using Sum = std::conditional_t<kComplex<T>, T, W>;
  each_block<W>(plan, grid, [&](const Reads<W>& reads, int64_t n, int64_t from, int64_t to) {
    for (int64_t c = 0; c < plan.channels; ++c, from += plan.plane, to += plan.positions) {
      const T* image = in + from;
      const auto element = [&](int64_t offset) {
        if constexpr (kComplex<T>)
          return image[offset];
        else
          return static_cast<W>(static_cast<Compute<T>>(image[offset]));
      };
      const int64_t* at = reads.offsets.data();
      const W* w = reads.weights.data();
      for (int64_t i = 0; i < n; ++i, at += reads.most, w += reads.most) {
        Sum sum{};
        if (reads.counts[static_cast<size_t>(i)] == 4) {
          sum = (w[0] * element(at[0]) + w[1] * element(at[1])) +
                (w[2] * element(at[2]) + w[3] * element(at[3]));
        } else {
          for (size_t k = 0; k < reads.counts[static_cast<size_t>(i)]; ++k) sum += w[k] * element(at[k]);
        }
        out[to + i] = rounded<T>(sum);
      }
    }
  });
}

template <typename T, typename G>
void pick(const SamplePlan& plan, const T* in, const G* grid, T* out) {
  each_block<float>(plan, grid, [&](const Reads<float>& reads, int64_t n, int64_t from, int64_t to) {
    for (int64_t c = 0; c < plan.channels; ++c, from += plan.plane, to += plan.positions)
      for (int64_t i = 0; i < n; ++i)
        out[to + i] = reads.counts[static_cast<size_t>(i)] == 0
                          ? T{}
                          : in[from + reads.offsets[static_cast<size_t>(i)]];
  });
}

}  // namespace

SamplePlan sample_plan(const PrepareContext& ctx, const GridSampleBackwardAttributes& attributes,
                       const Dims& in, const Dims& grid) {
  const size_t rank = in.size();
  ctx.expect(rank >= 3 && rank <= 10, "rank of input 'X'", "3 to 10", std::to_string(rank));
  ctx.expect(grid.size() == rank && grid[0] == in[0] && grid.back() == static_cast<int64_t>(rank) - 2,
             "dims of input 'grid'",
             "[" + std::to_string(in[0]) + ", ..., " + std::to_string(rank - 2) + "] of rank " +
                 std::to_string(rank),
             to_string(grid));
  SamplePlan plan;
  const std::string& mode = attributes.mode;
  ctx.expect(
      mode == "nearest" || mode == "linear" || mode == "bilinear" || mode == "cubic" || mode == "bicubic",
      "attribute 'mode'", "nearest, linear or cubic", mode);
  plan.mode = mode == "nearest"                        ? GridMode::Nearest
              : mode == "linear" || mode == "bilinear" ? GridMode::Linear
                                                       : GridMode::Cubic;
  const std::string& padding = attributes.padding_mode;
  ctx.expect(padding == "zeros" || padding == "border" || padding == "reflection", "attribute 'padding_mode'",
             "zeros, border or reflection", padding);
  plan.padding = padding == "zeros"    ? GridPadding::Zeros
                 : padding == "border" ? GridPadding::Border
                                       : GridPadding::Reflection;
  plan.align_corners = attributes.align_corners != 0;
  plan.batches = in[0];
  plan.channels = in[1];
  plan.plane = element_count(Dims(in.begin() + 2, in.end()));
  plan.positions = element_count(Dims(grid.begin() + 1, grid.end() - 1));
  for (size_t d = 2; d < rank; ++d) {
    const double size = static_cast<double>(in[d]);
    plan.axes.push_back({in[d], plan.align_corners ? 0.0 : -0.5, plan.align_corners ? size - 1 : size - 0.5,
                         attributes.absolute != 0});
  }
  const bool empty = plan.batches * plan.channels * plan.positions == 0;
  ctx.expect(empty || plan.plane > 0 || plan.padding == GridPadding::Zeros, "dims of input 'X'",
             "elements to sample", to_string(in));
  return plan;
}

namespace {

Prepared prepare_sample(PrepareContext& ctx, const GridSampleBackwardAttributes& attributes) {
  const Dims &in = ctx.dims(0), &grid = ctx.dims(1);
  const SamplePlan plan = sample_plan(ctx, attributes, in, grid);
  Dims dims{in[0], in[1]};
  dims.insert(dims.end(), grid.begin() + 1, grid.end() - 1);
  const DType dtype = ctx.dtype(0);
  const bool empty = element_count(dims) == 0;
  Prepared result = decline(std::string("no interpolation of ") + dtype_name(dtype));
  visit<AllFloats>(ctx.dtype(1), [&]<typename G>() {
    if (plan.mode == GridMode::Nearest) {
      result = [plan, dtype, empty](RunContext& run) {
        if (empty) return;
        visit_storage(dtype, [&]<typename T>() { pick(plan, run.in<T>(0), run.in<G>(1), run.out<T>(0)); });
      };
      return;
    }
    visit<Join<AllNumbers, Complexes>>(dtype, [&]<typename T>() {
      result = [plan, empty](RunContext& run) {
        if (!empty) sample(plan, run.in<T>(0), run.in<G>(1), run.out<T>(0));
      };
    });
  });
  if (result.declined.empty()) ctx.output(0, dtype, std::move(dims));
  return result;
}

// Coordinate i of n positions between -1 and 1. A single aligned position is the middle.
double grid_position(int64_t i, int64_t n, bool align_corners) {
  const double size = static_cast<double>(n), x = static_cast<double>(i);
  if (align_corners) return n > 1 ? 2 * x / (size - 1) - 1 : 0;
  return (2 * x + 1) / size - 1;
}

Prepared prepare_affine_grid(PrepareContext& ctx) {
  const bool align_corners = ctx.attributes<AffineGridAttributes>().align_corners != 0;
  const Dims size = ctx.host_ints(1);
  ctx.expect(size.size() == 4 || size.size() == 5, "length of input 'size'", "4 or 5",
             std::to_string(size.size()));
  for (int64_t d : size) ctx.expect(d >= 0, "input 'size'", "dimensions >= 0", to_string(size));
  const int64_t rank = static_cast<int64_t>(size.size()) - 2;
  const Dims wanted{size[0], rank, rank + 1};
  ctx.expect(ctx.dims(0) == wanted, "dims of input 'theta'", to_string(wanted), to_string(ctx.dims(0)));
  const Dims space(size.begin() + 2, size.end());
  const int64_t positions = element_count(space), batches = size[0];
  Dims dims{batches};
  dims.insert(dims.end(), space.begin(), space.end());
  dims.push_back(rank);
  element_count(dims);
  Prepared result = decline("no grid of this type");
  visit<AllFloats>(ctx.dtype(0), [&]<typename T>() {
    ctx.output(0, ctx.dtype(0), dims);
    result = [=](RunContext& run) {
      const T* theta = run.in<T>(0);
      T* out = run.out<T>(0);
      parallel_for(batches * positions, grain_for(10), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          double at[4];  // x, y, (z,) 1
          for (int64_t d = 0, rest = i % positions; d < rank; ++d) {
            const int64_t n = space[static_cast<size_t>(rank - 1 - d)];
            at[d] = grid_position(rest % n, n, align_corners);
            rest /= n;
          }
          at[rank] = 1;
          const T* matrix = theta + i / positions * rank * (rank + 1);
          for (int64_t r = 0; r < rank; ++r) {
            double sum = 0;
            for (int64_t k = 0; k <= rank; ++k)
              sum += static_cast<double>(static_cast<Compute<T>>(matrix[r * (rank + 1) + k])) * at[k];
            out[i * rank + r] = T(static_cast<Compute<T>>(sum));
          }
        }
      });
    };
  });
  return result;
}

}  // namespace

void register_resize_grid(KernelRegistry& registry) {
  registry.ref("GridSample", [](PrepareContext& ctx) {
    GridSampleBackwardAttributes attributes;
    static_cast<GridSampleAttributes&>(attributes) = ctx.attributes<GridSampleAttributes>();
    return prepare_sample(ctx, attributes);
  });
  registry.ref(
      "Sample",
      [](PrepareContext& ctx) {
        GridSampleBackwardAttributes attributes;
        attributes.absolute = 1;
        return prepare_sample(ctx, attributes);
      },
      kOwnDomain);
  registry.ref("AffineGrid", prepare_affine_grid);
}

}  // namespace sardonyx::cpu
