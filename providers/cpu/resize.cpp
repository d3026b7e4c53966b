// Resize and Upsample.
#include "providers/cpu/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "graph/allocation.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/widen.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

namespace {

template <typename E>
E one_of(PrepareContext& ctx, const char* attribute, const std::string& name,
         std::initializer_list<std::pair<const char*, E>> known) {
  std::string names;
  for (const auto& [text, value] : known) {
    if (name == text) return value;
    names += (names.empty() ? "" : ", ") + std::string(text);
  }
  ctx.fail(std::string("attribute '") + attribute + "'", names, name);
}

}  // namespace

Sampling sampling_of(PrepareContext& ctx, const ResizeAttributes& a) {
  Sampling s;
  s.interpolation = one_of<Interpolation>(ctx, "mode", a.mode,
                                          {{"nearest", Interpolation::Nearest},
                                           {"linear", Interpolation::Linear},
                                           {"cubic", Interpolation::Cubic}});
  s.coordinates = one_of<Coordinates>(ctx, "coordinate_transformation_mode", a.coordinate_transformation_mode,
                                      {{"half_pixel", Coordinates::HalfPixel},
                                       {"half_pixel_symmetric", Coordinates::HalfPixelSymmetric},
                                       {"pytorch_half_pixel", Coordinates::PytorchHalfPixel},
                                       {"align_corners", Coordinates::AlignCorners},
                                       {"asymmetric", Coordinates::Asymmetric},
                                       {"tf_crop_and_resize", Coordinates::TfCropAndResize}});
  s.rounding = one_of<Rounding>(ctx, "nearest_mode", a.nearest_mode,
                                {{"round_prefer_floor", Rounding::PreferFloor},
                                 {"round_prefer_ceil", Rounding::PreferCeil},
                                 {"floor", Rounding::Floor},
                                 {"ceil", Rounding::Ceil}});
  s.cubic_a = a.cubic_coeff_a;
  s.antialias = a.antialias != 0;
  s.exclude_outside = a.exclude_outside != 0;
  ctx.expect(!s.antialias || s.interpolation != Interpolation::Nearest, "attribute 'antialias'",
             "mode linear or cubic", "nearest");
  return s;
}

namespace {

// The axes as the scales say: out = floor(in * scale), in float as ONNX's shape inference has it.
void take_scales(PrepareContext& ctx, const std::vector<double>& scales, const Dims& axes,
                 std::vector<AxisScale>& result) {
  ctx.expect(scales.size() == axes.size(), "length of input 'scales'", std::to_string(axes.size()),
             std::to_string(scales.size()));
  for (size_t i = 0; i < axes.size(); ++i) {
    AxisScale& axis = result[static_cast<size_t>(axes[i])];
    ctx.expect(scales[i] > 0 && std::isfinite(scales[i]), "input 'scales'", "positive numbers",
               std::to_string(scales[i]));
    const float out = std::floor(static_cast<float>(axis.in) * static_cast<float>(scales[i]));
    if (!(out < 9e18f)) throw LimitError("a resized dimension", "less than 2^63", std::to_string(out));
    axis.out = static_cast<int64_t>(out);
    axis.scale = scales[i];
    axis.exact = false;
  }
}

void take_sizes(PrepareContext& ctx, const Dims& sizes, const Dims& axes, const std::string& policy,
                std::vector<AxisScale>& result) {
  ctx.expect(sizes.size() == axes.size(), "length of input 'sizes'", std::to_string(axes.size()),
             std::to_string(sizes.size()));
  double least = std::numeric_limits<double>::infinity(), most = 0;
  for (size_t i = 0; i < axes.size(); ++i) {
    AxisScale& axis = result[static_cast<size_t>(axes[i])];
    ctx.expect(sizes[i] >= 0, "input 'sizes'", "sizes >= 0", to_string(sizes));
    axis.out = sizes[i];
    axis.scale = axis.in == 0 ? 1 : static_cast<double>(sizes[i]) / static_cast<double>(axis.in);
    least = std::min(least, axis.scale);
    most = std::max(most, axis.scale);
  }
  const bool larger = one_of<bool>(ctx, "keep_aspect_ratio_policy", policy,
                                   {{"stretch", false}, {"not_larger", false}, {"not_smaller", true}});
  if (policy == "stretch" || axes.empty()) return;
  for (int64_t d : axes) {
    AxisScale& axis = result[static_cast<size_t>(d)];
    axis.scale = larger ? most : least;
    const double out = std::floor(axis.scale * static_cast<double>(axis.in) + 0.5);
    if (!(out < 9e18)) throw LimitError("a resized dimension", "less than 2^63", std::to_string(out));
    axis.out = static_cast<int64_t>(out);
    axis.exact = static_cast<double>(axis.out) == axis.scale * static_cast<double>(axis.in);
  }
}

// Rounds half to even and saturates.
template <typename C, typename T>
T to_integer(C value) {
  constexpr C low = static_cast<C>(std::numeric_limits<T>::lowest()),
              high = static_cast<C>(std::numeric_limits<T>::max());
  if (value != value) return 0;
  if (value <= low) return std::numeric_limits<T>::lowest();
  if (value >= high) return std::numeric_limits<T>::max();
  return static_cast<T>(std::nearbyint(value));
}

// One element of the dtype with the value that positions outside take.
template <typename List>
bool element_of(DType dtype, double value, std::vector<std::byte>& bytes) {
  return visit<List>(dtype, [&]<typename T>() {
    T element{};
    if constexpr (std::is_same_v<T, bool>)
      element = value != 0;
    else if constexpr (std::is_integral_v<T>)
      element = to_integer<double, T>(value);
    else
      element = T(static_cast<Compute<T>>(value));
    bytes.resize(sizeof(T));
    std::memcpy(bytes.data(), &element, sizeof(T));
  });
}

// Integers are resampled in C and rounded once.
template <typename T, typename C>
Prepared resample_integers(ResamplePlan plan, int64_t in_size, int64_t out_size, float outside) {
  return [=, plan = std::move(plan)](RunContext& run) {
    const T* in = run.in<T>(0);
    T* out = run.out<T>(0);
    std::vector<C> wide_in(static_cast<size_t>(in_size)), wide_out(static_cast<size_t>(out_size));
    parallel_for(in_size, grain_for(1), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) wide_in[static_cast<size_t>(i)] = static_cast<C>(in[i]);
    });
    resample_weighted<C>(plan, wide_in.data(), wide_out.data(), static_cast<C>(outside));
    parallel_for(out_size, grain_for(2), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) out[i] = to_integer<C, T>(wide_out[static_cast<size_t>(i)]);
    });
  };
}

Prepared weighted(PrepareContext& ctx, ResamplePlan plan, int64_t out_size, float outside) {
  const DType dtype = ctx.dtype(0);
  if (is_complex(dtype)) {
    if (plan.any_outside) return decline("no extrapolation of complex numbers");
    plan.inner *= 2;
  }
  if (dtype == DType::Float32 || dtype == DType::Complex64)
    return [plan = std::move(plan), outside](RunContext& run) {
      resample_weighted<float>(plan, run.in<float>(0), run.out<float>(0), outside);
    };
  if (dtype == DType::Float64 || dtype == DType::Complex128)
    return [plan = std::move(plan), outside](RunContext& run) {
      resample_weighted<double>(plan, run.in<double>(0), run.out<double>(0), outside);
    };
  Prepared result = decline(std::string("no interpolation of ") + dtype_name(dtype));
  const int64_t in_size = ctx.input(0).size();
  visit<Ints>(dtype, [&]<typename T>() {
    using C = std::conditional_t<sizeof(T) <= 2, float, double>;
    result = resample_integers<T, C>(std::move(plan), in_size, out_size, outside);
  });
  return result;
}

// `axes` has one entry for each dimension of input 0.
Prepared resize(PrepareContext& ctx, const Sampling& sampling, const std::vector<AxisScale>& axes,
                float outside) {
  const DType dtype = ctx.dtype(0);
  Dims dims;
  bool same = true;
  for (const AxisScale& axis : axes) {
    dims.push_back(axis.out);
    same &= untouched(axis, sampling);
    ctx.expect(axis.in > 0 || axis.out == 0, "input dims " + to_string(ctx.dims(0)),
               "elements to resize from");
  }
  const int64_t out_size = element_count(dims);
  const Layout layout = ctx.take(0);
  std::vector<AxisScale> ordered(axes.size());  // as they lie in memory
  for (size_t i = 0; i < axes.size(); ++i) ordered[memory_axis(i, axes.size(), layout)] = axes[i];
  if (same) {
    ctx.alias(0, 0, std::move(dims));
    ctx.output_layout(0, layout);
    return [](RunContext&) {};
  }
  ctx.output(0, dtype, std::move(dims));
  ctx.output_layout(0, layout);
  if (out_size == 0) return [](RunContext&) {};
  // The tables below are not made for an output that there is no memory for.
  check_available(ctx.outputs_[0].desc.bytes());
  // Neighbouring axes that stay as they are become one; those behind the last resized axis are the block.
  ResamplePlan plan;
  for (const AxisScale& axis : ordered) {
    if (!untouched(axis, sampling)) {
      plan.axes.push_back({make_taps(axis, sampling)});
      plan.any_outside |= !plan.axes.back().taps.outside.empty();
    } else if (!plan.axes.empty() && !plan.axes.back().resampled()) {
      plan.axes.back().taps.in = plan.axes.back().taps.out = plan.axes.back().taps.in * axis.in;
    } else {
      plan.axes.emplace_back();
      plan.axes.back().taps.in = plan.axes.back().taps.out = axis.in;
    }
  }
  if (!plan.axes.back().resampled()) {
    plan.inner = plan.axes.back().taps.in;
    plan.axes.pop_back();
  }
  if (sampling.interpolation != Interpolation::Nearest)
    return weighted(ctx, std::move(plan), out_size, outside);
  std::vector<std::byte> constant;
  if (!element_of<Join<AllNumbers, Types<bool>>>(dtype, outside, constant) && plan.any_outside)
    return decline(std::string("no extrapolation of ") + dtype_name(dtype));
  const bool strings = dtype == DType::String;
  constant.resize(std::max(constant.size(), sizeof(Bits128)));
  return [plan = std::move(plan), dtype, strings, constant](RunContext& run) {
    const std::string empty;
    const void* value = strings ? static_cast<const void*>(&empty) : constant.data();
    resample_nearest(plan, dtype, run.input(0).data(), run.output(0).mutable_data(), value);
  };
}

std::vector<AxisScale> whole_axes(const Dims& dims) {
  std::vector<AxisScale> axes;
  for (int64_t d : dims) axes.push_back({d, d});
  return axes;
}

}  // namespace

std::vector<AxisScale> resized_axes(PrepareContext& ctx, const ResizeAttributes& attributes, const Dims& in,
                                    size_t first) {
  const size_t roi_at = first, scales_at = first + 1, sizes_at = first + 2;
  const int rank = static_cast<int>(in.size());
  Dims axes(static_cast<size_t>(rank));
  std::iota(axes.begin(), axes.end(), 0);
  if (attributes.axes) {
    axes.clear();
    for (int64_t axis : *attributes.axes) {
      const int64_t d = normalize_axis(axis, rank, "value of attribute 'axes'");
      ctx.expect(std::find(axes.begin(), axes.end(), d) == axes.end(), "attribute 'axes'", "each axis once",
                 to_string(*attributes.axes));
      axes.push_back(d);
    }
  }
  std::vector<AxisScale> scaled = whole_axes(in);
  const bool scales = ctx.has_input(scales_at) && ctx.input(scales_at).size() > 0,
             sizes = ctx.has_input(sizes_at) && ctx.input(sizes_at).size() > 0;
  if (scales == sizes && !axes.empty())
    ctx.fail("inputs 'scales' and 'sizes'", "one of them", scales ? "both" : "none");
  if (scales) {
    ctx.expect(ctx.host(scales_at) != nullptr, "input 'scales'", "a value known before the run");
    take_scales(ctx, ctx.host(scales_at)->to_doubles(), axes, scaled);
  } else if (sizes) {
    take_sizes(ctx, ctx.host_ints(sizes_at), axes, attributes.keep_aspect_ratio_policy, scaled);
  }
  if (attributes.coordinate_transformation_mode == "tf_crop_and_resize") {
    ctx.expect(ctx.host(roi_at) != nullptr, "input 'roi'", "a value known before the run");
    const std::vector<double> roi = ctx.host(roi_at)->to_doubles();
    ctx.expect(roi.size() == 2 * axes.size(), "length of input 'roi'", std::to_string(2 * axes.size()),
               std::to_string(roi.size()));
    for (size_t i = 0; i < axes.size(); ++i) {
      scaled[static_cast<size_t>(axes[i])].roi_start = roi[i];
      scaled[static_cast<size_t>(axes[i])].roi_end = roi[axes.size() + i];
    }
  }
  return scaled;
}

namespace {

Prepared prepare_resize(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<ResizeAttributes>();
  const Sampling sampling = sampling_of(ctx, attributes);
  if (is_narrow_float(ctx.dtype(0)) && sampling.interpolation != Interpolation::Nearest)
    return widened(ctx, ctx.dtype(0), prepare_resize);
  return resize(ctx, sampling, resized_axes(ctx, attributes, ctx.dims(0), 1), attributes.extrapolation_value);
}

// Upsample is Resize with asymmetric coordinates, rounded down.
Prepared prepare_upsample(PrepareContext& ctx) {
  Sampling sampling;
  sampling.interpolation = one_of<Interpolation>(ctx, "mode", ctx.attributes<UpsampleAttributes>().mode,
                                                 {{"nearest", Interpolation::Nearest},
                                                  {"linear", Interpolation::Linear},
                                                  {"bilinear", Interpolation::Linear}});
  sampling.coordinates = Coordinates::Asymmetric;
  sampling.rounding = Rounding::Floor;
  if (is_narrow_float(ctx.dtype(0)) && sampling.interpolation != Interpolation::Nearest)
    return widened(ctx, ctx.dtype(0), prepare_upsample);
  ctx.expect(ctx.host(1) != nullptr, "input 'scales'", "a value known before the run");
  std::vector<AxisScale> scaled = whole_axes(ctx.dims(0));
  Dims axes(scaled.size());
  std::iota(axes.begin(), axes.end(), 0);
  take_scales(ctx, ctx.host(1)->to_doubles(), axes, scaled);
  return resize(ctx, sampling, scaled, 0);
}

}  // namespace

void register_resize(KernelRegistry& registry) {
  registry.ref_aware("Resize", prepare_resize);
  registry.ref_aware("Upsample", prepare_upsample);
}

}  // namespace sardonyx::cpu
