// Operators that look at a tensor under other dimensions, or make one from its dimensions alone.
#include "ops/movement.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/strided.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {

namespace {

Prepared view(PrepareContext& ctx, Dims dims) {
  ctx.alias(0, 0, std::move(dims));
  return [](RunContext&) {};
}

Prepared prepare_identity(PrepareContext& ctx) {
  if (!ctx.is_tensor(0)) return [](RunContext& run) { run.set_output(0, run.value(0)); };
  return view(ctx, ctx.dims(0));
}

Prepared prepare_reshape(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<ReshapeAttributes>();
  const Dims& in = ctx.dims(0);
  ctx.expect(ctx.rank(1) == 1, "rank of input 'shape'", "1", std::to_string(ctx.rank(1)));
  const Dims wanted = ctx.host_ints(1);
  Dims out = wanted;
  // Dimensions that are copied stand on both sides; -1 takes what the others leave.
  int unknown = -1;
  int64_t given = 1;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i] == -1) {
      ctx.expect(unknown < 0, "input 'shape' " + to_string(wanted), "at most one -1");
      unknown = static_cast<int>(i);
    } else if (wanted[i] == 0 && attributes.allowzero == 0) {
      ctx.expect(
          i < in.size(),
          "input 'shape' " + to_string(wanted) + " dim " + std::to_string(i) + ": 0 copies a dimension",
          "an input of rank above " + std::to_string(i), to_string(in));
      out[i] = in[i];
    } else {
      ctx.expect(wanted[i] >= 0, "input 'shape' " + to_string(wanted), "dimensions >= -1",
                 std::to_string(wanted[i]));
      ctx.expect(wanted[i] != 0 || std::find(wanted.begin(), wanted.end(), -1) == wanted.end(),
                 "input 'shape' " + to_string(wanted) + " with allowzero", "no 0 beside -1");
      given = checked_mul(given, wanted[i], "elements of Reshape");
    }
  }
  if (unknown >= 0) {
    int64_t left = 1;  // of the input, without the copied dimensions
    for (size_t i = 0; i < in.size(); ++i) {
      const bool is_copied = i < wanted.size() && wanted[i] == 0 && attributes.allowzero == 0;
      if (!is_copied) left = checked_mul(left, in[i], "elements of Reshape");
    }
    ctx.expect(given != 0 && left % given == 0,
               "cannot reshape " + to_string(in) + " to " + to_string(wanted));
    out[static_cast<size_t>(unknown)] = left / given;
  }
  ctx.expect(element_count(out) == element_count(in),
             "cannot reshape " + to_string(in) + " to " + to_string(wanted),
             std::to_string(element_count(in)) + " elements", std::to_string(element_count(out)));
  return view(ctx, std::move(out));
}

Prepared prepare_flatten(PrepareContext& ctx) {
  const Dims& in = ctx.dims(0);
  int64_t axis = ctx.attributes<FlattenAttributes>().axis;
  const int64_t rank = ctx.rank(0);
  ctx.expect(axis >= -rank && axis <= rank, "axis",
             "[" + std::to_string(-rank) + ", " + std::to_string(rank) + "]", std::to_string(axis));
  if (axis < 0) axis += rank;
  const auto middle = in.begin() + axis;
  return view(ctx, {element_count(Dims(in.begin(), middle)), element_count(Dims(middle, in.end()))});
}

// One flag an axis; InputError for an axis that is out of range or repeated.
std::vector<bool> marked_axes(PrepareContext& ctx, const std::vector<int64_t>& axes, int rank) {
  std::vector<bool> marked(static_cast<size_t>(rank), false);
  for (int64_t axis : axes) {
    const size_t i = static_cast<size_t>(normalize_axis(axis, rank, "value of input 'axes'"));
    ctx.expect(!marked[i], "input 'axes'", "each axis once", std::to_string(axis) + " twice");
    marked[i] = true;
  }
  return marked;
}

Prepared prepare_squeeze(PrepareContext& ctx) {
  const Dims& in = ctx.dims(0);
  Dims out;
  if (!ctx.has_input(1)) {
    std::copy_if(in.begin(), in.end(), std::back_inserter(out), [](int64_t d) { return d != 1; });
    return view(ctx, std::move(out));
  }
  const auto gone = marked_axes(ctx, ctx.host_ints(1), ctx.rank(0));
  for (size_t i = 0; i < in.size(); ++i) {
    ctx.expect(!gone[i] || in[i] == 1, "dim " + std::to_string(i) + " of " + to_string(in), "1",
               std::to_string(in[i]));
    if (!gone[i]) out.push_back(in[i]);
  }
  return view(ctx, std::move(out));
}

Prepared prepare_unsqueeze(PrepareContext& ctx) {
  const Dims& in = ctx.dims(0);
  const auto axes = ctx.host_ints(1);
  const auto added = marked_axes(ctx, axes, ctx.rank(0) + static_cast<int>(axes.size()));
  Dims out;
  auto next = in.begin();
  for (bool is_new : added) out.push_back(is_new ? 1 : *next++);
  return view(ctx, std::move(out));
}

// An output whose numbers are known from the shapes.
Prepared known_ints(PrepareContext& ctx, Dims dims, std::vector<int64_t> values) {
  ctx.output(0, DType::Int64, std::move(dims));
  ctx.reads_no_input();
  return [values = std::move(values)](RunContext& run) {
    std::copy(values.begin(), values.end(), run.out<int64_t>(0));
  };
}

Prepared prepare_shape(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<ShapeAttributes>();
  const Dims& in = ctx.dims(0);
  const int64_t rank = ctx.rank(0);
  auto place = [&](int64_t i) { return std::clamp<int64_t>(i < 0 ? i + rank : i, 0, rank); };
  const int64_t start = place(attributes.start), end = std::max(start, place(attributes.end.value_or(rank)));
  return known_ints(ctx, {end - start}, Dims(in.begin() + start, in.begin() + end));
}

Prepared prepare_size(PrepareContext& ctx) { return known_ints(ctx, {}, {ctx.input(0).size()}); }

Prepared prepare_constant_of_shape(PrepareContext& ctx) {
  const Tensor value = ctx.attributes<ConstantOfShapeAttributes>().value.value_or(Tensor::scalar<float>(0));
  ctx.expect(value.size() == 1, "elements of attribute 'value'", "1", std::to_string(value.size()));
  Dims dims = ctx.host_ints(0);
  for (int64_t d : dims)
    ctx.expect(d >= 0, "input 'input' " + to_string(dims), "dimensions >= 0", std::to_string(d));
  const int64_t n = element_count(dims);
  ctx.output(0, value.dtype(), std::move(dims));
  return [value, n](RunContext& run) { fill(value.dtype(), run.output(0).mutable_data(), value.data(), n); };
}

template <typename T, typename C>
Prepared range_of(PrepareContext& ctx) {
  C args[3];
  for (size_t i = 0; i < 3; ++i) args[i] = static_cast<C>(static_cast<Compute<T>>(*ctx.host(i)->data<T>()));
  const C start = args[0], limit = args[1], delta = args[2];
  ctx.expect(delta != C(0), "input 'delta'", "a step other than 0", "0");
  int64_t n = 0;
  if constexpr (std::is_floating_point_v<C>) {
    const double exact =
        std::ceil((static_cast<double>(limit) - static_cast<double>(start)) / static_cast<double>(delta));
    ctx.expect(!std::isnan(exact), "start, limit, delta", "numbers");
    if (exact > 9e18) throw LimitError("elements of Range", "less than 2^63", std::to_string(exact));
    n = static_cast<int64_t>(std::max(exact, 0.0));
  } else {
    const __int128 span = static_cast<__int128>(limit) - start, step = delta;
    if (span != 0 && (span > 0) == (step > 0)) {
      const __int128 count = (span + step - (step > 0 ? 1 : -1)) / step;
      if (count > std::numeric_limits<int64_t>::max())
        throw LimitError("elements of Range", "less than 2^63");
      n = static_cast<int64_t>(count);
    }
  }
  ctx.output(0, dtype_of<T>, {n});
  return [start, delta, n](RunContext& run) {
    T* out = run.out<T>(0);
    parallel_for(n, grain_for(1), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        if constexpr (std::is_integral_v<C>)  // wraps
          out[i] = static_cast<T>(static_cast<uint64_t>(start) +
                                  static_cast<uint64_t>(i) * static_cast<uint64_t>(delta));
        else
          out[i] = static_cast<T>(start + static_cast<C>(i) * delta);
      }
    });
  };
}

Prepared prepare_range(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<RangeAttributes>();
  for (size_t i = 0; i < 3; ++i) {
    ctx.expect(ctx.host(i) != nullptr, "input " + std::to_string(i), "a value known before the run");
    ctx.expect(ctx.host(i)->size() == 1, "elements of input " + std::to_string(i), "1",
               std::to_string(ctx.host(i)->size()));
    ctx.expect(ctx.dtype(i) == ctx.dtype(0), "type of input " + std::to_string(i), dtype_name(ctx.dtype(0)),
               dtype_name(ctx.dtype(i)));
  }
  const bool wide = attributes.stash_type == static_cast<int64_t>(DType::Float64);
  switch (ctx.dtype(0)) {
    case DType::Float32:
      return range_of<float, float>(ctx);
    case DType::Float64:
      return range_of<double, double>(ctx);
    case DType::Int16:
      return range_of<int16_t, int64_t>(ctx);
    case DType::Int32:
      return range_of<int32_t, int64_t>(ctx);
    case DType::Int64:
      return range_of<int64_t, int64_t>(ctx);
    case DType::Float16:
      return wide ? range_of<Half, double>(ctx) : range_of<Half, float>(ctx);
    case DType::BFloat16:
      return wide ? range_of<BFloat16, double>(ctx) : range_of<BFloat16, float>(ctx);
    default:
      return decline("no range of this type");
  }
}

Prepared prepare_eye_like(PrepareContext& ctx) {
  const auto attributes = ctx.attributes<EyeLikeAttributes>();
  ctx.expect(ctx.rank(0) == 2, "rank of the input", "2", std::to_string(ctx.rank(0)));
  const DType dtype = attributes.dtype ? static_cast<DType>(*attributes.dtype) : ctx.dtype(0);
  const int64_t rows = ctx.dims(0)[0], columns = ctx.dims(0)[1], k = attributes.k;
  Prepared result = decline("no identity matrix of this type");
  visit<Join<AllNumbers, Types<bool>>>(dtype, [&]<typename T>() {
    ctx.output(0, dtype, ctx.dims(0));
    result = [rows, columns, k](RunContext& run) {
      T* out = run.out<T>(0);
      fill_zero(dtype_of<T>, out, rows * columns);
      if (k >= columns || k <= -rows) return;
      for (int64_t i = std::max<int64_t>(0, -k); i < rows && i + k < columns; ++i) {
        if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>)
          out[i * columns + i + k] = T(1.0f);
        else
          out[i * columns + i + k] = T(1);
      }
    };
  });
  return result;
}

Prepared prepare_trilu(PrepareContext& ctx) {
  const bool upper = ctx.attributes<TriluAttributes>().upper != 0;
  ctx.expect(ctx.rank(0) >= 2, "rank of the input", "2 or more", std::to_string(ctx.rank(0)));
  if (ctx.has_input(1))
    ctx.expect(ctx.input(1).size() == 1, "elements of input 'k'", "1", std::to_string(ctx.input(1).size()));
  const Dims& dims = ctx.dims(0);
  const int64_t rows = dims[dims.size() - 2], columns = dims.back(), total = ctx.input(0).size();
  const DType dtype = ctx.dtype(0);
  ctx.output(0, dtype, dims);
  ctx.may_share(0, 0);
  return [=](RunContext& run) {
    if (total == 0) return;
    const int64_t* given = run.in<int64_t>(1);
    const int64_t k = std::clamp<int64_t>(given ? *given : 0, -rows, columns);
    visit_storage(dtype, [&]<typename T>() {
      const T* in = run.in<T>(0);
      T* out = run.out<T>(0);
      parallel_for(total / columns, grain_for(3 + static_cast<double>(columns) * 0.3),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t r = begin; r < end; ++r) {
                       const T* from = in + r * columns;
                       T* to = out + r * columns;
                       // [0, edge) lies below the diagonal.
                       const int64_t edge = std::clamp<int64_t>(r % rows + k + (upper ? 0 : 1), 0, columns);
                       const int64_t first = upper ? edge : 0, last = upper ? columns : edge;
                       std::fill(to, to + first, T{});
                       if (from != to) std::copy(from + first, from + last, to + first);
                       std::fill(to + last, to + columns, T{});
                     }
                   });
    });
  };
}

}  // namespace

void register_movement(KernelRegistry& registry) {
  registry.ref("Identity", prepare_identity);
  registry.ref("Reshape", prepare_reshape);
  registry.ref("Flatten", prepare_flatten);
  registry.ref("Squeeze", prepare_squeeze);
  registry.ref("Unsqueeze", prepare_unsqueeze);
  registry.ref("Shape", prepare_shape);
  registry.ref("Size", prepare_size);
  registry.ref("ConstantOfShape", prepare_constant_of_shape);
  registry.ref("Range", prepare_range);
  registry.ref("EyeLike", prepare_eye_like);
  registry.ref("Trilu", prepare_trilu);
}

}  // namespace sardonyx::cpu
