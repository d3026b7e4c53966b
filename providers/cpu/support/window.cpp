#include "providers/cpu/support/window.h"

namespace sardonyx::cpu {

namespace {

enum class AutoPad { Explicit, SameUpper, SameLower, Valid };

AutoPad parse_auto_pad(const PrepareContext& ctx, const std::string& text) {
  if (text.empty() || text == "NOTSET") return AutoPad::Explicit;
  if (text == "SAME_UPPER") return AutoPad::SameUpper;
  if (text == "SAME_LOWER") return AutoPad::SameLower;
  if (text == "VALID") return AutoPad::Valid;
  ctx.fail("attribute 'auto_pad'", "NOTSET, SAME_UPPER, SAME_LOWER or VALID", text);
}

std::string spatial_name(const char* what, size_t i) {
  return std::string(what) + " of spatial dimension " + std::to_string(i);
}

// What both kinds of grid share: stride, dilation, explicit padding, and extents that do not overflow.
Window common_window(const PrepareContext& ctx, size_t rank, Dims kernel,
                     const WindowAttributes& attributes) {
  ctx.expect(rank >= 1 && rank <= 16, "rank of input 0", "3 to 18", std::to_string(rank + 2));
  ctx.expect(kernel.size() == rank, "kernel shape", std::to_string(rank) + " dimensions", to_string(kernel));
  Window w;
  w.kernel = std::move(kernel);
  w.stride = spatial_list(ctx, attributes.strides, "strides", rank, 1, 1);
  w.dilation = spatial_list(ctx, attributes.dilations, "dilations", rank, 1, 1);
  const Dims pads = spatial_list(ctx, attributes.pads, "pads", 2 * rank, 0, 0);
  w.pad_begin.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(rank));
  w.pad_end.assign(pads.begin() + static_cast<std::ptrdiff_t>(rank), pads.end());
  for (size_t i = 0; i < rank; ++i) {
    ctx.expect(w.kernel[i] >= 1, spatial_name("kernel", i), "at least 1", std::to_string(w.kernel[i]));
    checked_add(checked_mul(w.kernel[i] - 1, w.dilation[i], "dilated kernel"), 1, "dilated kernel");
    // Twice the padding may be added to an extent below.
    checked_mul(checked_add(w.pad_begin[i], w.pad_end[i], "padding"), 2, "padding");
  }
  return w;
}

void split_padding(Window& w, size_t i, int64_t total, bool more_at_end) {
  w.pad_begin[i] = more_at_end ? total / 2 : total - total / 2;
  w.pad_end[i] = total - w.pad_begin[i];
}

}  // namespace

Dims spatial_list(const PrepareContext& ctx, const std::optional<std::vector<int64_t>>& list,
                  const char* name, size_t size, int64_t fallback, int64_t least) {
  if (!list || list->empty()) return Dims(size, fallback);
  ctx.expect(list->size() == size, std::string("attribute '") + name + "'", std::to_string(size) + " values",
             std::to_string(list->size()));
  for (const int64_t value : *list)
    ctx.expect(value >= least, std::string("attribute '") + name + "'",
               "values of at least " + std::to_string(least), std::to_string(value));
  return *list;
}

Window make_window(const PrepareContext& ctx, Dims in, Dims kernel, const WindowAttributes& attributes) {
  const size_t rank = in.size();
  Window w = common_window(ctx, rank, std::move(kernel), attributes);
  w.in = std::move(in);
  w.out.resize(rank);
  const AutoPad mode = parse_auto_pad(ctx, attributes.auto_pad);
  for (size_t i = 0; i < rank; ++i) {
    const int64_t extent = w.extent(i), stride = w.stride[i];
    if (mode == AutoPad::SameUpper || mode == AutoPad::SameLower) {
      w.out[i] = ceil_div(w.in[i], stride);
      const int64_t reach = checked_add(
          checked_mul(std::max<int64_t>(w.out[i] - 1, 0), stride, "padded input"), extent, "padded input");
      split_padding(w, i, std::max<int64_t>(reach - w.in[i], 0), mode == AutoPad::SameUpper);
      continue;
    }
    if (mode == AutoPad::Valid) w.pad_begin[i] = w.pad_end[i] = 0;
    const int64_t padded = checked_add(w.in[i], w.pad_begin[i] + w.pad_end[i], "padded input");
    if (padded < extent) {
      ctx.expect(w.in[i] == 0, spatial_name("window", i),
                 "at most the padded input of " + std::to_string(padded), std::to_string(extent));
      w.out[i] = 0;
      continue;
    }
    // VALID rounds down even in ceil_mode.
    const bool up = attributes.ceil_mode && mode == AutoPad::Explicit;
    w.out[i] = (up ? ceil_div(padded - extent, stride) : (padded - extent) / stride) + 1;
    // A window that would start beyond the input and its leading padding does not exist.
    if (up && checked_mul(w.out[i] - 1, stride, "padded input") >= w.in[i] + w.pad_begin[i]) --w.out[i];
    checked_add(checked_mul(std::max<int64_t>(w.out[i] - 1, 0), stride, "padded input"), extent,
                "padded input");
  }
  return w;
}

Window make_transposed_window(const PrepareContext& ctx, Dims small, Dims kernel,
                              const WindowAttributes& attributes,
                              const std::optional<std::vector<int64_t>>& output_padding,
                              const std::optional<std::vector<int64_t>>& output_shape) {
  const size_t rank = small.size();
  Window w = common_window(ctx, rank, std::move(kernel), attributes);
  w.out = std::move(small);
  w.in.resize(rank);
  const AutoPad mode = parse_auto_pad(ctx, attributes.auto_pad);
  const Dims extra = spatial_list(ctx, output_padding, "output_padding", rank, 0, 0);
  const bool shaped = output_shape && !output_shape->empty();
  const Dims wanted = spatial_list(ctx, output_shape, "output_shape", rank, 0, 0);
  for (size_t i = 0; i < rank; ++i) {
    ctx.expect(extra[i] < std::max(w.stride[i], w.dilation[i]), "attribute 'output_padding'",
               "less than the stride or the dilation", std::to_string(extra[i]));
    const int64_t steps = checked_mul(std::max<int64_t>(w.out[i] - 1, 0), w.stride[i], "output");
    const int64_t full =
        w.out[i] == 0 ? 0 : checked_add(checked_add(steps, w.extent(i), "output"), extra[i], "output");
    if (shaped) {
      w.in[i] = wanted[i];
      split_padding(w, i, std::max<int64_t>(full - w.in[i], 0), mode == AutoPad::SameUpper);
    } else if (mode == AutoPad::SameUpper || mode == AutoPad::SameLower) {
      // input * stride elements, or fewer where windows do not reach each other.
      split_padding(w, i, std::max<int64_t>(w.extent(i) - w.stride[i], 0), mode == AutoPad::SameUpper);
      w.in[i] = std::max<int64_t>(full - w.pad_begin[i] - w.pad_end[i], 0);
    } else {
      if (mode == AutoPad::Valid) w.pad_begin[i] = w.pad_end[i] = 0;
      const int64_t cut = w.pad_begin[i] + w.pad_end[i];
      ctx.expect(full >= cut || w.out[i] == 0, spatial_name("padding", i), "at most " + std::to_string(full),
                 std::to_string(cut));
      w.in[i] = std::max<int64_t>(full - cut, 0);
    }
  }
  return w;
}

}  // namespace sardonyx::cpu
