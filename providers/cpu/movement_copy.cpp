// Operators whose output is a strided copy of their inputs.
#include <algorithm>
#include <limits>
#include <numeric>

#include "ops/movement.h"
#include "providers/cpu/support/slice.h"
#include "providers/cpu/support/strided.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

namespace {

// The place of element `offset` of a tensor.
const void* at(const Tensor& tensor, int64_t offset) {
  return static_cast<const char*>(tensor.data()) +
         offset * static_cast<int64_t>(element_size(tensor.dtype()));
}
void* at(Tensor& tensor, int64_t offset) {
  return static_cast<char*>(tensor.mutable_data()) +
         offset * static_cast<int64_t>(element_size(tensor.dtype()));
}

// Strides of the axes, in ONNX's order, of a tensor stored in `layout`.
Dims strides_in(const Dims& dims, Layout layout) {
  const Dims memory = contiguous_strides(memory_dims(dims, layout));
  Dims strides;
  for (size_t axis = 0; axis < dims.size(); ++axis)
    strides.push_back(memory[memory_axis(axis, dims.size(), layout)]);
  return strides;
}

bool strides_follow(const Dims& strides, const Dims& dims, Layout layout) {
  const Dims wanted = strides_in(dims, layout);
  for (size_t i = 0; i < dims.size(); ++i)
    if (dims[i] != 1 && strides[i] != wanted[i]) return false;
  return true;
}

int64_t product(const Dims& dims, size_t begin, size_t end) {
  int64_t result = 1;
  for (size_t i = begin; i < end; ++i) result = checked_mul(result, dims[i], "elements");
  return result;
}

// Output 0 has `dims`, stored in `layout`, and is filled from input 0, read with `strides` from element
// `offset` on. `steps` are the dimensions in which the copy is done: those of the output in memory order,
// perhaps split further.
Prepared gather_copy(PrepareContext& ctx, Dims dims, const Dims& steps, const Dims& strides, int64_t offset,
                     Layout layout = Layout::Plain) {
  const DType dtype = ctx.dtype(0);
  StridedCopy copy(dtype, steps, strides, contiguous_strides(steps));
  const bool whole = offset == 0 && element_count(dims) == ctx.input(0).size();
  if (copy.contiguous() && (whole || (ctx.may_view(0) && element_count(dims) != 0))) {
    ctx.view(0, 0, std::move(dims), offset);
    ctx.output_layout(0, layout);
    return [](RunContext&) {};
  }
  const bool empty = element_count(dims) == 0;
  ctx.output(0, dtype, std::move(dims));
  ctx.output_layout(0, layout);
  return [copy = std::move(copy), offset, empty](RunContext& run) {
    if (!empty) copy.run(at(run.input(0), offset), run.output(0).mutable_data());
  };
}

Prepared prepare_transpose(PrepareContext& ctx) {
  const Dims& in = ctx.dims(0);
  const size_t rank = in.size();
  const auto given = ctx.attributes<TransposeAttributes>().perm;
  std::vector<int64_t> perm(rank);
  std::iota(perm.rbegin(), perm.rend(), 0);
  if (given) {
    perm = *given;
    ctx.expect(perm.size() == rank, "length of attribute 'perm'", std::to_string(rank),
               std::to_string(perm.size()));
  }
  std::vector<bool> seen(rank, false);
  const Dims in_strides = strides_in(in, ctx.take(0));
  Dims dims, strides;
  for (int64_t axis : perm) {
    const bool valid = axis >= 0 && axis < static_cast<int64_t>(rank) && !seen[static_cast<size_t>(axis)];
    ctx.expect(valid, "attribute 'perm'", "each axis below " + std::to_string(rank) + " once",
               to_string(perm));
    seen[static_cast<size_t>(axis)] = true;
    dims.push_back(in[static_cast<size_t>(axis)]);
    strides.push_back(in_strides[static_cast<size_t>(axis)]);
  }
  // What lies channels last already needs no copy.
  if (ctx.layouts() && rank >= 3 && strides_follow(strides, dims, Layout::ChannelsLast)) {
    ctx.alias(0, 0, dims);
    ctx.output_layout(0, Layout::ChannelsLast);
    return [](RunContext&) {};
  }
  return gather_copy(ctx, dims, dims, strides, 0);
}

Prepared prepare_concat(PrepareContext& ctx) {
  const auto attribute = ctx.attributes<ConcatAttributes>().axis;
  ctx.expect(attribute.has_value(), "attribute 'axis'", "an axis");
  const DType dtype = ctx.dtype(0);
  const int rank = ctx.rank(0);
  const size_t axis = static_cast<size_t>(normalize_axis(*attribute, rank));
  Dims dims = ctx.dims(0);
  dims[axis] = 0;
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    const std::string name = "input " + std::to_string(i);
    ctx.expect(ctx.dtype(i) == dtype, "type of " + name, dtype_name(dtype), dtype_name(ctx.dtype(i)));
    ctx.expect(ctx.rank(i) == rank, "rank of " + name, std::to_string(rank), std::to_string(ctx.rank(i)));
    for (size_t d = 0; d < dims.size(); ++d)
      ctx.expect(d == axis || ctx.dims(i)[d] == dims[d], name + " dim " + std::to_string(d),
                 std::to_string(dims[d]), std::to_string(ctx.dims(i)[d]));
    dims[axis] = checked_add(dims[axis], ctx.dims(i)[axis], "dimension of Concat");
  }
  Layout layout = Layout::Plain;
  for (size_t i = 0; i < ctx.input_count(); ++i)
    if (ctx.take(i) == Layout::ChannelsLast) layout = Layout::ChannelsLast;
  for (size_t i = 0; i < ctx.input_count(); ++i) ctx.want(i, layout);
  const int64_t total = element_count(dims);
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    if (ctx.input(i).size() != total) continue;
    ctx.alias(0, i, dims);  // the others are empty
    ctx.output_layout(0, layout);
    return [](RunContext&) {};
  }
  const size_t place = memory_axis(axis, dims.size(), layout);
  const Dims memory = memory_dims(dims, layout);
  struct Part {
    size_t input;
    int64_t offset;
    StridedCopy copy;
  };
  std::vector<Part> parts;
  const int64_t outer = product(memory, 0, place), row = product(memory, place, memory.size());
  int64_t offset = 0;
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    const int64_t width = product(memory_dims(ctx.dims(i), layout), place, memory.size());
    if (width != 0) parts.push_back({i, offset, StridedCopy(dtype, {outer, width}, {width, 1}, {row, 1})});
    if (width != 0 && outer == 1) ctx.may_lie_in_output(i, offset);
    offset += width;
  }
  ctx.output(0, dtype, std::move(dims));
  ctx.output_layout(0, layout);
  return [parts = std::move(parts)](RunContext& run) {
    Tensor& out = run.output(0);
    for (const Part& part : parts)
      if (const void* from = run.input(part.input).data(); from != at(out, part.offset))
        part.copy.run(from, at(out, part.offset));
  };
}

Prepared prepare_split(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<SplitAttributes>();
  const Dims& in = ctx.dims(0);
  const size_t axis = static_cast<size_t>(normalize_axis(attributes.axis, ctx.rank(0)));
  const int64_t dim = in[axis], count = static_cast<int64_t>(ctx.output_count());
  std::vector<int64_t> sizes;
  ctx.expect(count > 0, "outputs", "1 or more", "0");
  if (ctx.has_input(1)) {
    ctx.expect(!attributes.num_outputs, "attribute 'num_outputs'", "nothing beside input 'split'");
    sizes = ctx.host_ints(1);
    ctx.expect(static_cast<int64_t>(sizes.size()) == count, "length of input 'split'", std::to_string(count),
               std::to_string(sizes.size()));
  } else {
    ctx.expect(attributes.num_outputs.value_or(count) == count, "attribute 'num_outputs'",
               std::to_string(count) + ", the outputs of the node",
               std::to_string(attributes.num_outputs.value_or(0)));
    const int64_t part = (dim + count - 1) / count;
    for (int64_t i = 0, left = dim; i < count; ++i, left -= sizes.back())
      sizes.push_back(std::min(part, left));
  }
  int64_t sum = 0;
  for (int64_t size : sizes) {
    ctx.expect(size >= 0, "input 'split'", "sizes >= 0", to_string(sizes));
    sum = checked_add(sum, size, "sum of input 'split'");
  }
  ctx.expect(sum == dim, "sum of input 'split' " + to_string(sizes), std::to_string(dim),
             std::to_string(sum));
  struct Part {
    size_t output;
    int64_t offset;
    StridedCopy copy;
  };
  std::vector<Part> parts;
  const Layout layout = ctx.take(0);
  const Dims memory = memory_dims(in, layout);
  const size_t place = memory_axis(axis, in.size(), layout);
  const int64_t outer = product(memory, 0, place), inner = product(memory, place + 1, memory.size());
  int64_t offset = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    Dims dims = in;
    dims[axis] = sizes[i];
    const int64_t width = sizes[i] * inner;
    if (sizes[i] == dim || (outer == 1 && width != 0 && ctx.may_view(i))) {
      ctx.view(i, 0, std::move(dims), offset);
      ctx.output_layout(i, layout);
    } else if (ctx.wants(i)) {
      if (width * outer != 0)
        parts.push_back({i, offset, StridedCopy(ctx.dtype(0), {outer, width}, {dim * inner, 1}, {width, 1})});
      ctx.output(i, ctx.dtype(0), std::move(dims));
      ctx.output_layout(i, layout);
    }
    offset += width;
  }
  return [parts = std::move(parts)](RunContext& run) {
    for (const Part& part : parts)
      part.copy.run(at(run.input(0), part.offset), run.output(part.output).mutable_data());
  };
}

Prepared prepare_slice(PrepareContext& ctx) {
  const Dims& in = ctx.dims(0);
  const SliceRange range = slice_range(ctx, in, 1);
  const Layout layout = ctx.take(0);
  Dims strides = strides_in(in, layout);
  int64_t offset = 0;
  for (size_t i = 0; i < in.size(); ++i) {
    offset += range.first[i] * strides[i];
    strides[i] *= range.steps[i];
  }
  return gather_copy(ctx, range.counts, memory_dims(range.counts, layout), memory_dims(strides, layout),
                     offset, layout);
}

Prepared prepare_expand(PrepareContext& ctx) {
  const Dims& in = ctx.dims(0);
  const Dims shape = ctx.host_ints(1);
  for (int64_t d : shape) ctx.expect(d >= 0, "input 'shape'", "dimensions >= 0", to_string(shape));
  const Dims dims = broadcast(in, shape);
  element_count(dims);
  Dims strides(dims.size() - in.size(), 0);
  const Dims in_strides = contiguous_strides(in);
  for (size_t i = 0; i < in.size(); ++i) strides.push_back(in[i] == 1 ? 0 : in_strides[i]);
  return gather_copy(ctx, dims, dims, strides, 0);
}

Prepared prepare_tile(PrepareContext& ctx) {
  const Dims& in = ctx.dims(0);
  const Dims repeats = ctx.host_ints(1);
  ctx.expect(repeats.size() == in.size(), "length of input 'repeats'", std::to_string(in.size()),
             std::to_string(repeats.size()));
  const Dims in_strides = contiguous_strides(in);
  Dims dims, steps, strides;  // every axis twice: its turns, and the axis itself
  for (size_t i = 0; i < in.size(); ++i) {
    ctx.expect(repeats[i] >= 0, "input 'repeats'", "repeats >= 0", to_string(repeats));
    dims.push_back(checked_mul(in[i], repeats[i], "dimension of Tile"));
    steps.insert(steps.end(), {repeats[i], in[i]});
    strides.insert(strides.end(), {0, in_strides[i]});
  }
  element_count(dims);
  return gather_copy(ctx, dims, steps, strides, 0);
}

// DepthToSpace and SpaceToDepth split the dimensions of the input into six and put these in another order.
Prepared rearrange(PrepareContext& ctx, const Dims& dims, const Dims& split,
                   const std::vector<size_t>& order) {
  const Dims split_strides = contiguous_strides(split);
  Dims steps, strides;
  for (size_t i : order) {
    steps.push_back(split[i]);
    strides.push_back(split_strides[i]);
  }
  return gather_copy(ctx, dims, steps, strides, 0);
}

int64_t block_size(PrepareContext& ctx, const BlockAttributes& attributes) {
  ctx.expect(ctx.rank(0) == 4, "rank of the input", "4", std::to_string(ctx.rank(0)));
  const int64_t block = attributes.blocksize.value_or(0);
  ctx.expect(block > 0, "attribute 'blocksize'", "1 or more", std::to_string(block));
  ctx.expect(attributes.mode == "DCR" || attributes.mode == "CRD", "attribute 'mode'", "DCR or CRD",
             attributes.mode);
  return block;
}

Prepared prepare_depth_to_space(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<BlockAttributes>();
  const int64_t b = block_size(ctx, attributes), square = checked_mul(b, b, "blocksize * blocksize");
  const Dims& in = ctx.dims(0);
  const int64_t n = in[0], c = in[1], h = in[2], w = in[3];
  ctx.expect(c % square == 0, "channels", "a multiple of " + std::to_string(square), std::to_string(c));
  const Dims dims{n, c / square, checked_mul(h, b, "height"), checked_mul(w, b, "width")};
  if (attributes.mode == "DCR") return rearrange(ctx, dims, {n, b, b, c / square, h, w}, {0, 3, 4, 1, 5, 2});
  return rearrange(ctx, dims, {n, c / square, b, b, h, w}, {0, 1, 4, 2, 5, 3});
}

Prepared prepare_space_to_depth(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<BlockAttributes>();
  const int64_t b = block_size(ctx, attributes);
  const Dims& in = ctx.dims(0);
  const int64_t n = in[0], c = in[1], h = in[2], w = in[3];
  ctx.expect(h % b == 0 && w % b == 0, "height and width", "multiples of " + std::to_string(b),
             to_string(in));
  const Dims dims{n, checked_mul(c, checked_mul(b, b, "channels"), "channels"), h / b, w / b};
  const Dims split{n, c, h / b, b, w / b, b};
  if (attributes.mode == "DCR") return rearrange(ctx, dims, split, {0, 3, 5, 1, 2, 4});
  return rearrange(ctx, dims, split, {0, 1, 3, 5, 2, 4});
}

Prepared prepare_center_crop_pad(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<CenterCropPadAttributes>();
  const Dims& in = ctx.dims(0);
  const Dims shape = ctx.host_ints(1);
  Dims axes(in.size());
  std::iota(axes.begin(), axes.end(), 0);
  if (attributes.axes) axes = *attributes.axes;
  ctx.expect(shape.size() == axes.size(), "length of input 'shape'", std::to_string(axes.size()),
             std::to_string(shape.size()));
  Dims dims = in, kept = in, from(in.size(), 0), to(in.size(), 0);
  for (size_t i = 0; i < axes.size(); ++i) {
    const size_t axis =
        static_cast<size_t>(normalize_axis(axes[i], ctx.rank(0), "value of attribute 'axes'"));
    ctx.expect(shape[i] >= 0, "input 'shape'", "dimensions >= 0", to_string(shape));
    dims[axis] = shape[i];
    kept[axis] = std::min(shape[i], in[axis]);
    from[axis] = (in[axis] - kept[axis]) / 2;
    to[axis] = (shape[i] - kept[axis]) / 2;
  }
  const Dims src = contiguous_strides(in), dst = contiguous_strides(dims);
  const int64_t n = element_count(dims), copied = element_count(kept);
  const int64_t src_offset = std::inner_product(from.begin(), from.end(), src.begin(), int64_t{0});
  const int64_t dst_offset = std::inner_product(to.begin(), to.end(), dst.begin(), int64_t{0});
  if (kept == dims) return gather_copy(ctx, dims, dims, src, src_offset);
  const DType dtype = ctx.dtype(0);
  StridedCopy copy(dtype, kept, src, dst);
  ctx.output(0, dtype, std::move(dims));
  return [copy = std::move(copy), dtype, n, copied, src_offset, dst_offset](RunContext& run) {
    fill_zero(dtype, run.output(0).mutable_data(), n);
    if (copied > 0) copy.run(at(run.input(0), src_offset), at(run.output(0), dst_offset));
  };
}

}  // namespace

void register_movement_copy(KernelRegistry& registry) {
  registry.ref_aware("Transpose", prepare_transpose);
  registry.ref_aware("Concat", prepare_concat);
  registry.ref_aware("Split", prepare_split);
  registry.ref_aware("Slice", prepare_slice);
  registry.ref("Expand", prepare_expand);
  registry.ref("Tile", prepare_tile);
  registry.ref("DepthToSpace", prepare_depth_to_space);
  registry.ref("SpaceToDepth", prepare_space_to_depth);
  registry.ref("CenterCropPad", prepare_center_crop_pad);
}

}  // namespace sardonyx::cpu
