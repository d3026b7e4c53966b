// RoiAlign and MaxRoiPool.
#include <cmath>
#include <limits>

#include "ops/pooling.h"
#include "ops/registry/operator.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/widen.h"

namespace sardonyx::cpu {

namespace {

constexpr int64_t kChannelBlock = 32;

struct RoiShape {
  int64_t batch, channels, height, width, rois, out_height, out_width;
};

// Two neighbouring rows (or columns) of the image and their weights.
template <typename T>
struct Sample {
  int64_t low, high;
  T low_weight, high_weight;
};

// The samples of one bin along one axis: `grid` points evenly spread over [start, start + size). Those more
// than one element outside the image are left out, and `outside` says that there were some.
template <typename T>
struct Bin {
  std::vector<Sample<T>> samples;
  bool outside = false;
};

template <typename T>
Bin<T> make_bin(T start, T size, T grid, int64_t limit) {
  Bin<T> bin;
  if (!(grid >= 1) || !std::isfinite(start) || !std::isfinite(size)) return bin;
  // Only the indices that can lie inside are visited, however many there are.
  const double step = static_cast<double>(size) / static_cast<double>(grid);
  double first = 0, last = static_cast<double>(grid);
  if (step > 0) {
    first = std::max(first, std::floor((-1.0 - static_cast<double>(start)) / step) - 2);
    last = std::min(last, std::ceil((static_cast<double>(limit) - static_cast<double>(start)) / step) + 2);
  }
  bin.outside = first > 0 || last < static_cast<double>(grid);
  for (double i = first; i < last; ++i) {
    T at = start + (static_cast<T>(i) + T(0.5)) * size / grid;
    if (!(at >= -1 && at <= static_cast<T>(limit))) {
      bin.outside = true;
      continue;
    }
    at = std::max(at, T(0));
    int64_t low = static_cast<int64_t>(at), high = low + 1;
    if (low >= limit - 1) {
      low = high = limit - 1;
      at = static_cast<T>(low);
    }
    const T fraction = at - static_cast<T>(low);
    bin.samples.push_back({low, high, 1 - fraction, fraction});
  }
  return bin;
}

template <typename T>
struct RoiGrid {
  std::vector<Bin<T>> rows, columns;
  T count = 1;
  bool unknown = false;  // a coordinate is NaN
};

template <typename T>
RoiGrid<T> make_grid(const RoiShape& s, const RoiAlignAttributes& attributes, bool half_pixel, const T* roi) {
  RoiGrid<T> grid;
  const T scale = static_cast<T>(attributes.spatial_scale), shift = half_pixel ? T(0.5) : T(0);
  const T left = roi[0] * scale - shift, top = roi[1] * scale - shift, right = roi[2] * scale - shift,
          bottom = roi[3] * scale - shift;
  grid.unknown = std::isnan(left) || std::isnan(top) || std::isnan(right) || std::isnan(bottom);
  if (grid.unknown) return grid;
  T width = right - left, height = bottom - top;
  if (!half_pixel) width = std::max(width, T(1)), height = std::max(height, T(1));
  const T bin_height = height / static_cast<T>(s.out_height), bin_width = width / static_cast<T>(s.out_width);
  const T ratio = static_cast<T>(attributes.sampling_ratio);
  const T down = ratio > 0 ? ratio : std::ceil(bin_height), across = ratio > 0 ? ratio : std::ceil(bin_width);
  grid.count = std::max(down * across, T(1));
  for (int64_t i = 0; i < s.out_height; ++i)
    grid.rows.push_back(make_bin(top + static_cast<T>(i) * bin_height, bin_height, down, s.height));
  for (int64_t i = 0; i < s.out_width; ++i)
    grid.columns.push_back(make_bin(left + static_cast<T>(i) * bin_width, bin_width, across, s.width));
  return grid;
}

template <typename T>
T align_bin(const Bin<T>& rows, const Bin<T>& columns, const T* plane, int64_t width, T count, bool maximum) {
  T sum = 0, best = 0;
  // A sample outside the image counts as 0.
  bool any = !rows.samples.empty() && !columns.samples.empty() ? rows.outside || columns.outside : true;
  for (const Sample<T>& y : rows.samples) {
    const T *low = plane + y.low * width, *high = plane + y.high * width;
    for (const Sample<T>& x : columns.samples) {
      if (!maximum) {
        sum += y.low_weight * (x.low_weight * low[x.low] + x.high_weight * low[x.high]) +
               y.high_weight * (x.low_weight * high[x.low] + x.high_weight * high[x.high]);
        continue;
      }
      const T a = y.low_weight * x.low_weight * low[x.low], b = y.low_weight * x.high_weight * low[x.high];
      const T c = y.high_weight * x.low_weight * high[x.low],
              d = y.high_weight * x.high_weight * high[x.high];
      // The largest weighted corner, as the specification's reference has it.
      for (const T value : {a, b, c, d}) {
        if (!any || value > best || std::isnan(value)) best = std::isnan(best) && any ? best : value;
        any = true;
      }
    }
  }
  return maximum ? best : sum / count;
}

void check_batches(const RoiShape& s, const int64_t* batches, RunContext& run) {
  for (int64_t r = 0; r < s.rois; ++r)
    if (batches[r] < 0 || batches[r] >= s.batch)
      run.fail("input 'batch_indices'", "values in [0, " + std::to_string(s.batch) + ")",
               std::to_string(batches[r]));
}

template <typename T>
void roi_align(const RoiShape& s, const RoiAlignAttributes& attributes, RunContext& run) {
  const T *x = run.in<T>(0), *rois = run.in<T>(1);
  const int64_t* batches = run.in<int64_t>(2);
  T* y = run.out<T>(0);
  const bool half_pixel = attributes.coordinate_transformation_mode == "half_pixel",
             maximum = attributes.mode == "max";
  check_batches(s, batches, run);
  const int64_t blocks = (s.channels + kChannelBlock - 1) / kChannelBlock, plane = s.height * s.width,
                bins = s.out_height * s.out_width;
  parallel_for(s.rois * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      run.check_cancelled();
      const int64_t r = task / blocks, first = task % blocks * kChannelBlock;
      const RoiGrid<T> grid = make_grid(s, attributes, half_pixel, rois + r * 4);
      for (int64_t c = first; c < std::min(s.channels, first + kChannelBlock); ++c) {
        T* out = y + (r * s.channels + c) * bins;
        const T* image = x + (batches[r] * s.channels + c) * plane;
        if (grid.unknown) {
          std::fill(out, out + bins, std::numeric_limits<T>::quiet_NaN());
          continue;
        }
        for (const Bin<T>& row : grid.rows)
          for (const Bin<T>& column : grid.columns)
            *out++ = align_bin(row, column, image, s.width, grid.count, maximum);
      }
    }
  });
}

// Of an X of dims `x`; the operands are inputs of the kernel.
RoiShape align_shape(PrepareContext& ctx, const RoiAlignAttributes& attributes, const Dims& x, size_t rois_at,
                     size_t batches_at) {
  const DType dtype = ctx.dtype(0);
  ctx.expect(x.size() == 4, "rank of input 'X'", "4", std::to_string(x.size()));
  const Dims &rois = ctx.dims(rois_at), &batches = ctx.dims(batches_at);
  ctx.expect(rois.size() == 2 && rois[1] == 4, "dims of input 'rois'", "[num_rois, 4]", to_string(rois));
  ctx.expect(batches == Dims{rois[0]}, "dims of input 'batch_indices'", to_string(Dims{rois[0]}),
             to_string(batches));
  ctx.expect(ctx.dtype(rois_at) == dtype, "dtype of input 'rois'", dtype_name(dtype),
             dtype_name(ctx.dtype(rois_at)));
  ctx.expect(ctx.dtype(batches_at) == DType::Int64, "dtype of input 'batch_indices'", "int64",
             dtype_name(ctx.dtype(batches_at)));
  ctx.expect(attributes.output_height >= 1 && attributes.output_width >= 1,
             "attributes 'output_height' and 'output_width'", "at least 1",
             std::to_string(attributes.output_height) + " and " + std::to_string(attributes.output_width));
  ctx.expect(attributes.sampling_ratio >= 0 && attributes.sampling_ratio <= 4096,
             "attribute 'sampling_ratio'", "0 to 4096", std::to_string(attributes.sampling_ratio));
  ctx.expect(attributes.mode == "avg" || attributes.mode == "max", "attribute 'mode'", "avg or max",
             attributes.mode);
  ctx.expect(attributes.coordinate_transformation_mode == "half_pixel" ||
                 attributes.coordinate_transformation_mode == "output_half_pixel",
             "attribute 'coordinate_transformation_mode'", "half_pixel or output_half_pixel",
             attributes.coordinate_transformation_mode);
  const RoiShape s{x[0], x[1], x[2], x[3], rois[0], attributes.output_height, attributes.output_width};
  ctx.expect(s.rois == 0 || (s.height > 0 && s.width > 0), "height and width of input 'X'", "at least 1",
             "0");
  return s;
}

Prepared prepare_roi_align(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (is_narrow_float(dtype)) return widened(ctx, dtype, prepare_roi_align);
  const auto attributes = ctx.attributes<RoiAlignAttributes>();
  const RoiShape s = align_shape(ctx, attributes, ctx.dims(0), 1, 2);
  ctx.output(0, dtype, {s.rois, s.channels, s.out_height, s.out_width});
  if (dtype == DType::Float32) return [=](RunContext& run) { roi_align<float>(s, attributes, run); };
  ctx.expect(dtype == DType::Float64, "dtype of input 'X'", "a float type", dtype_name(dtype));
  return [=](RunContext& run) { roi_align<double>(s, attributes, run); };
}

// dY of one bin added to the elements that it is the mean of, or to the first largest of them.
template <typename T>
void spread_bin(const Bin<T>& rows, const Bin<T>& columns, const T* plane, int64_t width, T count, T dy,
                T* dx) {
  if (!plane) {
    const T share = dy / count;
    for (const Sample<T>& y : rows.samples) {
      T *low = dx + y.low * width, *high = dx + y.high * width;
      for (const Sample<T>& x : columns.samples) {
        low[x.low] += share * y.low_weight * x.low_weight,
            low[x.high] += share * y.low_weight * x.high_weight;
        high[x.low] += share * y.high_weight * x.low_weight,
            high[x.high] += share * y.high_weight * x.high_weight;
      }
    }
    return;
  }
  // A sample outside the image counts as 0, to which nothing flows.
  bool any = !rows.samples.empty() && !columns.samples.empty() ? rows.outside || columns.outside : true;
  T best = 0, best_weight = 0;
  int64_t best_at = 0;
  for (const Sample<T>& y : rows.samples) {
    for (const Sample<T>& x : columns.samples) {
      for (int corner = 0; corner < 4; ++corner) {
        const T weight =
            (corner < 2 ? y.low_weight : y.high_weight) * (corner % 2 == 0 ? x.low_weight : x.high_weight);
        const int64_t at = (corner < 2 ? y.low : y.high) * width + (corner % 2 == 0 ? x.low : x.high);
        const T value = weight * plane[at];
        if (any && (std::isnan(best) || !(value > best || std::isnan(value)))) continue;
        any = true;
        best = value, best_weight = weight, best_at = at;
      }
    }
  }
  dx[best_at] += dy * best_weight;
}

// Channels are independent of one another; regions of one image are not.
template <typename T>
void roi_align_backward(const RoiShape& s, const RoiAlignAttributes& attributes, RunContext& run) {
  const T *dy = run.in<T>(0), *rois = run.in<T>(1);
  const int64_t* batches = run.in<int64_t>(2);
  const T* x = attributes.mode == "max" ? run.in<T>(4) : nullptr;
  T* dx = run.out<T>(0);
  check_batches(s, batches, run);
  const bool half_pixel = attributes.coordinate_transformation_mode == "half_pixel";
  const int64_t plane = s.height * s.width, bins = s.out_height * s.out_width;
  const int64_t blocks = (s.channels + kChannelBlock - 1) / kChannelBlock;
  std::fill(dx, dx + s.batch * s.channels * plane, T(0));
  parallel_for(blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < s.rois; ++r) {
      run.check_cancelled();
      const RoiGrid<T> grid = make_grid(s, attributes, half_pixel, rois + r * 4);
      if (grid.unknown) continue;
      for (int64_t c = begin * kChannelBlock; c < std::min(s.channels, end * kChannelBlock); ++c) {
        const int64_t image = (batches[r] * s.channels + c) * plane;
        const T* from = dy + (r * s.channels + c) * bins;
        for (const Bin<T>& row : grid.rows)
          for (const Bin<T>& column : grid.columns)
            spread_bin(row, column, x ? x + image : nullptr, s.width, grid.count, *from++, dx + image);
      }
    }
  });
}

Dims image_dims(const PrepareContext& ctx, size_t i) {
  const Dims x = ctx.host_ints(i);
  for (const int64_t dim : x) ctx.expect(dim >= 0, "input 'shape'", "dims of at least 0", to_string(x));
  element_count(x);
  return x;
}

Prepared prepare_roi_align_backward(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (is_narrow_float(dtype)) return widened(ctx, dtype, prepare_roi_align_backward);
  const auto attributes = ctx.attributes<RoiAlignAttributes>();
  const Dims x = image_dims(ctx, 3);
  const RoiShape s = align_shape(ctx, attributes, x, 1, 2);
  const Dims dy = {s.rois, s.channels, s.out_height, s.out_width};
  ctx.expect(ctx.dims(0) == dy, "dims of input 'dY'", to_string(dy), to_string(ctx.dims(0)));
  if (attributes.mode == "max")
    ctx.expect(ctx.has_input(4) && ctx.dims(4) == x && ctx.dtype(4) == dtype, "input 'X'",
               std::string(dtype_name(dtype)) + " " + to_string(x),
               ctx.has_input(4) ? to_string(ctx.dims(4)) : "none");
  ctx.output(0, dtype, x);
  if (dtype == DType::Float32) return [=](RunContext& run) { roi_align_backward<float>(s, attributes, run); };
  ctx.expect(dtype == DType::Float64, "dtype of input 'dY'", "a float type", dtype_name(dtype));
  return [=](RunContext& run) { roi_align_backward<double>(s, attributes, run); };
}

// The rows [begin, end) of the image that bin i of n covers of a region of `size` rows from `start` on.
struct BinRange {
  int64_t begin, end;
};
BinRange bin_range(double start, double size, int64_t i, int64_t n, int64_t limit) {
  const double step = size / static_cast<double>(n), top = static_cast<double>(limit);
  const double begin = std::floor(static_cast<double>(i) * step) + start,
               end = std::ceil(static_cast<double>(i + 1) * step) + start;
  return {static_cast<int64_t>(std::clamp(begin, 0.0, top)), static_cast<int64_t>(std::clamp(end, 0.0, top))};
}

template <typename T>
void max_roi_pool(const RoiShape& s, double scale, RunContext& run) {
  const T *x = run.in<T>(0), *rois = run.in<T>(1);
  T* y = run.out<T>(0);
  const int64_t plane = s.height * s.width;
  for (int64_t i = 0; i < s.rois * 5; ++i) {
    const T value = rois[i];
    const bool ok = i % 5 == 0 ? value >= 0 && value < static_cast<T>(s.batch) : std::isfinite(value);
    if (!ok)
      run.fail("input 'rois'", "a batch index in [0, " + std::to_string(s.batch) + ") and finite coordinates",
               std::to_string(value));
  }
  parallel_for(s.rois * s.channels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const T* roi = rois + task / s.channels * 5;
      const T* image = x + (static_cast<int64_t>(roi[0]) * s.channels + task % s.channels) * plane;
      const double left = std::round(static_cast<double>(roi[1]) * scale),
                   top = std::round(static_cast<double>(roi[2]) * scale);
      const double width = std::max(std::round(static_cast<double>(roi[3]) * scale) - left + 1, 1.0);
      const double height = std::max(std::round(static_cast<double>(roi[4]) * scale) - top + 1, 1.0);
      T* out = y + task * s.out_height * s.out_width;
      for (int64_t i = 0; i < s.out_height; ++i) {
        const BinRange rows = bin_range(top, height, i, s.out_height, s.height);
        for (int64_t j = 0; j < s.out_width; ++j) {
          const BinRange columns = bin_range(left, width, j, s.out_width, s.width);
          const bool empty = rows.begin >= rows.end || columns.begin >= columns.end;
          T best = empty ? T(0) : -std::numeric_limits<T>::infinity();
          for (int64_t r = rows.begin; r < rows.end; ++r)
            for (int64_t c = columns.begin; c < columns.end; ++c)
              if (const T value = image[r * s.width + c]; value > best || std::isnan(value)) best = value;
          *out++ = best;
        }
      }
    }
  });
}

Prepared prepare_max_roi_pool(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (is_narrow_float(dtype)) return widened(ctx, dtype, prepare_max_roi_pool);
  const auto attributes = ctx.attributes<MaxRoiPoolAttributes>();
  ctx.expect(ctx.rank(0) == 4, "rank of input 'X'", "4", std::to_string(ctx.rank(0)));
  const Dims &x = ctx.dims(0), &rois = ctx.dims(1);
  ctx.expect(rois.size() == 2 && rois[1] == 5, "dims of input 'rois'", "[num_rois, 5]", to_string(rois));
  ctx.expect(ctx.dtype(1) == dtype, "dtype of input 'rois'", dtype_name(dtype), dtype_name(ctx.dtype(1)));
  const bool shaped = attributes.pooled_shape && attributes.pooled_shape->size() == 2;
  ctx.expect(shaped && attributes.pooled_shape->at(0) >= 1 && attributes.pooled_shape->at(1) >= 1,
             "attribute 'pooled_shape'", "two values of at least 1",
             attributes.pooled_shape ? to_string(*attributes.pooled_shape) : "none");
  const RoiShape s{
      x[0], x[1], x[2], x[3], rois[0], attributes.pooled_shape->at(0), attributes.pooled_shape->at(1)};
  ctx.output(0, dtype, {s.rois, s.channels, s.out_height, s.out_width});
  const double scale = static_cast<double>(attributes.spatial_scale);
  if (dtype == DType::Float32) return [=](RunContext& run) { max_roi_pool<float>(s, scale, run); };
  ctx.expect(dtype == DType::Float64, "dtype of input 'X'", "a float type", dtype_name(dtype));
  return [=](RunContext& run) { max_roi_pool<double>(s, scale, run); };
}

}  // namespace

void register_pooling_roi(KernelRegistry& registry) {
  registry.ref("RoiAlign", prepare_roi_align);
  registry.ref("MaxRoiPool", prepare_max_roi_pool);
  registry.ref("RoiAlignBackward", prepare_roi_align_backward, kOwnDomain);
}

}  // namespace sardonyx::cpu
