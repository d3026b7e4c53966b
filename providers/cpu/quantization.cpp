// QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "graph/shape.h"
#include "ops/quantization.h"
#include "providers/cpu/quantization.h"
#include "providers/cpu/support/elementwise.h"
#include "providers/cpu/support/widen.h"

namespace sardonyx::cpu {

namespace {

// Which scale each element of x uses. x is [rows, n]; the scale is one for the whole row, or moves with the
// element. Row r begins at scale (r / group_rows) * group_stride + (r % group_rows) / block * stride.
struct ScaleLayout {
  int64_t rows = 1, n = 0;
  int64_t step = 0;  // 1: a scale an element of the row
  int64_t group_rows = 1, group_stride = 0, block = 1, stride = 0;
  int64_t at(int64_t row) const {
    return row / group_rows * group_stride + row % group_rows / block * stride;
  }
};

ScaleLayout scale_layout(const PrepareContext& ctx, int64_t axis_attribute, int64_t block_size) {
  const Dims& x = ctx.dims(0);
  const Dims& scale = ctx.dims(1);
  if (ctx.has_input(2)) {
    const bool both_single = element_count(scale) == 1 && ctx.input(2).size() == 1;
    ctx.expect(both_single || ctx.dims(2) == scale, "shape of the zero point", to_string(scale),
               to_string(ctx.dims(2)));
  }
  ctx.expect(block_size >= 0, "attribute 'block_size'", "0 or more", std::to_string(block_size));
  ScaleLayout layout;
  const int64_t size = element_count(x);
  // In channels-last order the dims of a scalar are padded to the rank of x.
  if (block_size == 0 && element_count(scale) == 1 && (scale.size() <= 1 || scale.size() == x.size())) {
    layout.n = size;
    return layout;
  }
  const int rank = static_cast<int>(x.size());
  const int axis = normalize_axis(axis_attribute, rank);
  int64_t outer = 1, inner = 1;
  const int64_t length = x[static_cast<size_t>(axis)];
  for (int d = 0; d < rank; ++d)
    if (d != axis) (d < axis ? outer : inner) *= x[static_cast<size_t>(d)];
  if (block_size == 0) {
    ctx.expect(scale == Dims{length}, "shape of the scale", "[] or " + to_string(Dims{length}),
               to_string(scale));
    if (inner == 1) {
      layout.rows = outer;
      layout.n = length;
      layout.step = 1;
    } else {
      layout.rows = outer * length;
      layout.n = inner;
      layout.group_rows = length;
      layout.stride = 1;
    }
    return layout;
  }
  Dims expected = x;
  const int64_t blocks = length == 0 ? 0 : (length - 1) / block_size + 1;
  expected[static_cast<size_t>(axis)] = blocks;
  ctx.expect(scale == expected, "shape of the scale", to_string(expected), to_string(scale));
  layout.block = block_size;
  layout.group_rows = length;
  if (inner == 1) {
    // One row an element; scale_rows joins the elements of a block.
    layout.rows = outer * length;
    layout.n = 1;
    layout.group_stride = blocks;
    layout.stride = 1;
  } else {
    layout.rows = outer * length;
    layout.n = inner;
    layout.step = 1;
    layout.group_stride = blocks * inner;
    layout.stride = inner;
  }
  return layout;
}

// f(at, n, scale): n elements from `at` on, whose scales begin at `scale`.
template <typename F>
void scale_rows(const ScaleLayout& layout, int64_t grain, const F& f) {
  if (layout.rows == 1) {
    parallel_for(layout.n, grain, [&](int64_t begin, int64_t end) {
      f(begin, end - begin, layout.at(0) + begin * layout.step);
    });
    return;
  }
  parallel_for(
      layout.rows, std::max<int64_t>(1, grain / std::max<int64_t>(layout.n, 1)),
      [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end;) {
          int64_t count = 1;
          if (layout.n == 1 && layout.step == 0) {
            const int64_t place = row % layout.group_rows;
            count = std::min({end - row, layout.block - place % layout.block, layout.group_rows - place});
          }
          f(row * layout.n, layout.n * count, layout.at(row));
          row += count;
        }
      });
}

std::pair<double, double> integer_range(DType dtype) {
  const int bits = element_bits(dtype);
  const double span = std::ldexp(1, bits);
  return is_signed_integer(dtype) ? std::pair(-span / 2, span / 2 - 1) : std::pair(0.0, span - 1);
}

// Quotients rounded as the precision asks: f16 and bf16 operands are rounded before the division too.
template <typename C>
C quotient(C x, C scale, DType precision) {
  if (precision == DType::Float16)
    return static_cast<float>(Half(static_cast<float>(Half(x)) / static_cast<float>(Half(scale))));
  if (precision == DType::BFloat16)
    return static_cast<float>(
        BFloat16(static_cast<float>(BFloat16(x)) / static_cast<float>(BFloat16(scale))));
  return x / scale;
}

struct Quantization {
  ScaleLayout layout;
  DType from, to, precision;
  bool saturate;
};

// In the carrier type C (float, or double for int32 operands): quotients of a block, which are then rounded,
// moved by the zero point, and saturated.
template <typename C>
void quantize(const Quantization& q, RunContext& run) {
  const std::vector<C> scales = elements_as<C>(run.input(1));
  std::vector<C> zeros(scales.size(), C(-0.0));  // adding it keeps the sign of zero
  if (run.has_input(2)) zeros = elements_as<C>(run.input(2));
  const char* x = run.in<char>(0);
  char* y = run.out<char>(0);
  const int64_t from_size = static_cast<int64_t>(element_size(q.from)),
                to_size = static_cast<int64_t>(element_size(q.to));
  const bool integer = is_integer(q.to);
  const std::pair<double, double> range = integer ? integer_range(q.to) : std::pair(0.0, 0.0);
  const double low = range.first, high = range.second;  // clang's OpenMP takes no structured bindings
  scale_rows(q.layout, grain_for(5), [&](int64_t at, int64_t n, int64_t scale) {
    constexpr int64_t kBlock = 256;
    C values[kBlock];
    for (int64_t begin = 0; begin < n; begin += kBlock) {
      const int64_t size = std::min(kBlock, n - begin);
      cast_numbers(q.from, x + (at + begin) * from_size, dtype_of<C>, values, size, {});
      for (int64_t i = 0; i < size; ++i) {
        const size_t k = static_cast<size_t>(scale + (begin + i) * q.layout.step);
        C v = quotient<C>(values[i], scales[k], q.precision);
        if (integer) {
          v = std::nearbyint(v) + zeros[k];
          v = v > static_cast<C>(low) ? v : static_cast<C>(low);  // NaN too
          v = v < static_cast<C>(high) ? v : static_cast<C>(high);
        } else {
          v += zeros[k];
        }
        values[i] = v;
      }
      cast_numbers(dtype_of<C>, values, q.to, y + (at + begin) * to_size, size, {.saturate = q.saturate});
    }
  });
}

Prepared prepare_quantize(PrepareContext& ctx) {
  const auto a = ctx.attributes<QuantizeLinearAttributes>();
  Quantization q;
  q.layout = scale_layout(ctx, a.axis, a.block_size);
  q.from = ctx.dtype(0);
  q.to = ctx.has_input(2) ? ctx.dtype(2) : a.output_dtype ? static_cast<DType>(a.output_dtype) : DType::UInt8;
  ctx.expect(!ctx.has_input(2) || a.output_dtype == 0 || a.output_dtype == static_cast<int64_t>(q.to),
             "attribute 'output_dtype'",
             std::to_string(static_cast<int>(q.to)) + ", the type of the zero point",
             std::to_string(a.output_dtype));
  ctx.expect(is_valid_dtype(static_cast<int32_t>(q.to)) && (is_integer(q.to) || is_narrow_float(q.to)) &&
                 q.to != DType::Float16 && q.to != DType::BFloat16,
             "attribute 'output_dtype'", "a quantized type", std::to_string(static_cast<int>(q.to)));
  const DType scale = ctx.dtype(1);
  q.precision = a.precision ? static_cast<DType>(a.precision) : scale;
  ctx.expect(!a.precision || has_float_rows(q.precision) || q.precision == DType::Float64,
             "attribute 'precision'", "float, float16, bfloat16 or double", std::to_string(a.precision));
  q.saturate = a.saturate != 0;
  ctx.output(0, q.to, ctx.dims(0));
  const bool wide = q.precision == DType::Int32 || q.precision == DType::Float64;
  return [q, wide](RunContext& run) { wide ? quantize<double>(q, run) : quantize<float>(q, run); };
}

// Float to 8 bits with a scale a row: vector loops.
template <typename T>
void quantize_vectors(const ScaleLayout& layout, RunContext& run) {
  const float* x = run.in<float>(0);
  const float* scales = run.in<float>(1);
  const T* zeros = run.has_input(2) ? run.in<T>(2) : nullptr;
  T* y = run.out<T>(0);
  scale_rows(layout, grain_for(0.5), [&](int64_t at, int64_t n, int64_t scale) {
    simd::quantize(x + at, y + at, n, scales[scale], zeros ? zeros[scale] : 0);
  });
}

Prepared prepare_simd_quantize(PrepareContext& ctx) {
  const auto a = ctx.attributes<QuantizeLinearAttributes>();
  const DType to = ctx.has_input(2) ? ctx.dtype(2)
                   : a.output_dtype ? static_cast<DType>(a.output_dtype)
                                    : DType::UInt8;
  if (ctx.dtype(0) != DType::Float32 || ctx.dtype(1) != DType::Float32 ||
      (to != DType::UInt8 && to != DType::Int8))
    return decline("only float to 8-bit integers");
  if (a.precision != 0 && a.precision != static_cast<int64_t>(DType::Float32))
    return decline("only float precision");
  if (a.output_dtype != 0 && a.output_dtype != static_cast<int64_t>(to))
    return decline("contradicting output types");
  const ScaleLayout layout = scale_layout(ctx, a.axis, a.block_size);
  if (layout.step != 0 || (layout.n == 1 && layout.block < 8))
    return decline("only a scale for many elements");
  ctx.output(0, to, ctx.dims(0));
  return [layout, to](RunContext& run) {
    to == DType::Int8 ? quantize_vectors<int8_t>(layout, run) : quantize_vectors<uint8_t>(layout, run);
  };
}

// (x - zero) * scale in f32, rounded once. Differences of int32 are exact.
void dequantize(const ScaleLayout& layout, RunContext& run, DType from, DType to) {
  const std::vector<float> scales = elements_as<float>(run.input(1));
  std::vector<double> zeros(scales.size(), 0);
  if (run.has_input(2)) zeros = elements_as<double>(run.input(2));
  const char* x = run.in<char>(0);
  char* y = run.out<char>(0);
  const int64_t from_size = static_cast<int64_t>(element_size(from)),
                to_size = static_cast<int64_t>(element_size(to));
  scale_rows(layout, grain_for(5), [&](int64_t at, int64_t n, int64_t scale) {
    constexpr int64_t kBlock = 256;
    double values[kBlock];
    float results[kBlock];
    for (int64_t begin = 0; begin < n; begin += kBlock) {
      const int64_t size = std::min(kBlock, n - begin);
      cast_numbers(from, x + (at + begin) * from_size, DType::Float64, values, size, {});
      for (int64_t i = 0; i < size; ++i) {
        const size_t k = static_cast<size_t>(scale + (begin + i) * layout.step);
        results[i] = static_cast<float>(values[i] - zeros[k]) * scales[k];
      }
      cast_numbers(DType::Float32, results, to, y + (at + begin) * to_size, size, {});
    }
  });
}

DType dequantized_dtype(const PrepareContext& ctx, int64_t attribute) {
  const DType to = attribute ? static_cast<DType>(attribute) : ctx.dtype(1);
  ctx.expect(has_float_rows(to), "output type", "float, float16 or bfloat16",
             std::to_string(static_cast<int>(to)));
  return to;
}

Prepared prepare_dequantize(PrepareContext& ctx) {
  const auto a = ctx.attributes<DequantizeLinearAttributes>();
  const ScaleLayout layout = scale_layout(ctx, a.axis, a.block_size);
  const DType from = ctx.dtype(0), to = dequantized_dtype(ctx, a.output_dtype);
  if (ctx.has_input(2))
    ctx.expect(ctx.dtype(2) == from, "element type of the zero point", dtype_name(from),
               dtype_name(ctx.dtype(2)));
  ctx.output(0, to, ctx.dims(0));
  return [layout, from, to](RunContext& run) { dequantize(layout, run, from, to); };
}

template <typename T>
void dequantize_vectors(const ScaleLayout& layout, RunContext& run) {
  const T* x = run.in<T>(0);
  const float* scales = run.in<float>(1);
  const T* zeros = run.has_input(2) ? run.in<T>(2) : nullptr;
  float* y = run.out<float>(0);
  scale_rows(layout, grain_for(0.5), [&](int64_t at, int64_t n, int64_t scale) {
    simd::dequantize(x + at, y + at, n, scales[scale], zeros ? zeros[scale] : 0);
  });
}

Prepared prepare_simd_dequantize(PrepareContext& ctx) {
  const auto a = ctx.attributes<DequantizeLinearAttributes>();
  const DType from = ctx.dtype(0);
  if ((from != DType::UInt8 && from != DType::Int8) || ctx.dtype(1) != DType::Float32 ||
      dequantized_dtype(ctx, a.output_dtype) != DType::Float32 || (ctx.has_input(2) && ctx.dtype(2) != from))
    return decline("only 8-bit integers to float");
  const ScaleLayout layout = scale_layout(ctx, a.axis, a.block_size);
  if (layout.step != 0 || (layout.n == 1 && layout.block < 8))
    return decline("only a scale for many elements");
  ctx.output(0, DType::Float32, ctx.dims(0));
  return [layout, from](RunContext& run) {
    from == DType::Int8 ? dequantize_vectors<int8_t>(layout, run) : dequantize_vectors<uint8_t>(layout, run);
  };
}

Prepared prepare_dynamic_quantize(PrepareContext& ctx) {
  if (ctx.dtype(0) != DType::Float32) return no_kernel_for(ctx.dtype(0));
  ctx.output(0, DType::UInt8, ctx.dims(0));
  ctx.output(1, DType::Float32, {});
  ctx.output(2, DType::UInt8, {});
  return [n = ctx.input(0).size()](RunContext& run) {
    const float* x = run.in<float>(0);
    // In parts of a fixed size, so that the threads can share the search.
    constexpr int64_t kPart = 1 << 15;
    const int64_t parts = (n + kPart - 1) / kPart;
    std::vector<float> lows(static_cast<size_t>(parts)), highs(static_cast<size_t>(parts));
    parallel_for(parts, 2, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p)
        simd::range_with_zero(x + p * kPart, std::min(kPart, n - p * kPart), &lows[static_cast<size_t>(p)],
                              &highs[static_cast<size_t>(p)]);
    });
    float low = 0, high = 0;
    for (size_t p = 0; p < lows.size(); ++p) {
      low = lows[p] < low || std::isnan(lows[p]) ? lows[p] : low;
      high = highs[p] > high || std::isnan(highs[p]) ? highs[p] : high;
    }
    const float scale = (low == high ? 1.0f : high - low) / 255.0f;
    const float zero = std::nearbyint(std::min(255.0f, std::max(0.0f, 0.0f - low / scale)));
    if (run.wants(1)) *run.out<float>(1) = scale;
    if (run.wants(2)) *run.out<uint8_t>(2) = static_cast<uint8_t>(zero);
    if (!run.wants(0)) return;
    uint8_t* y = run.out<uint8_t>(0);
    parallel_for(n, grain_for(0.5), [&](int64_t begin, int64_t end) {
      simd::quantize(x + begin, y + begin, end - begin, scale, static_cast<int>(zero));
    });
  };
}

}  // namespace

void register_quantization(KernelRegistry& r) {
  r.add("QuantizeLinear", "simd", kFirst, prepare_simd_quantize);
  r.add("DequantizeLinear", "simd", kFirst, prepare_simd_dequantize);
  r.ref("QuantizeLinear", prepare_quantize);
  r.ref("DequantizeLinear", prepare_dequantize);
  r.ref("DynamicQuantizeLinear", prepare_dynamic_quantize);
}

}  // namespace sardonyx::cpu
