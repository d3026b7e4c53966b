// Softmax and LogSoftmax: f32 through vectorised loops, f64 through plain ones, 16-bit floats in f32.
#include "ops/softmax.h"

#include <algorithm>
#include <cmath>

#include "providers/cpu/support/elementwise.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/simd_softmax.h"
#include "providers/cpu/support/widen.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {
namespace {

// The input seen as [outer, n, inner] with the axis in the middle.
struct View {
  int64_t outer = 1, n = 1, inner = 1;
};

View prepare_view(PrepareContext& ctx) {
  const Dims& dims = ctx.dims(0);
  const int64_t axis = ctx.attributes<SoftmaxAttributes>().axis;
  View view;
  // A scalar is its own only row, whatever ONNX's default axis says.
  if (!dims.empty() || (axis != -1 && axis != 0)) {
    const size_t at = static_cast<size_t>(normalize_axis(axis, ctx.rank(0)));
    for (size_t i = 0; i < dims.size(); ++i) (i < at ? view.outer : i == at ? view.n : view.inner) *= dims[i];
  }
  ctx.output(0, ctx.dtype(0), dims);
  ctx.may_share(0, 0);
  return view;
}

// Columns of one matrix are split so that threads have work even for a single matrix.
constexpr int64_t kTile = 256;

// f16 and bf16, a row or a tile of columns converted at a time.
Prepared prepare_converted(const View& v, DType dtype, bool log) {
  const int64_t width = std::min(v.inner, kTile), tiles = (v.inner + width - 1) / width;
  const double ns = static_cast<double>(v.n * width) + 10;
  return [v, width, tiles, ns, dtype, log](RunContext& run) {
    const void* x = run.input(0).data();
    void* y = run.output(0).mutable_data();
    parallel_for(v.outer * tiles, grain_for(ns), [&](int64_t begin, int64_t end) {
      std::vector<float> tile(static_cast<size_t>(v.n * width));
      for (int64_t item = begin; item < end; ++item) {
        const int64_t column = item % tiles * width, at = item / tiles * v.n * v.inner + column,
                      columns = std::min(width, v.inner - column);
        if (v.inner == 1) {
          load_floats(dtype, x, at, v.n, tile.data());
          simd_softmax_rows(tile.data(), tile.data(), 1, v.n, log);
          store_floats(dtype, tile.data(), y, at, v.n);
          continue;
        }
        for (int64_t i = 0; i < v.n; ++i)
          load_floats(dtype, x, at + i * v.inner, columns, tile.data() + i * width);
        simd_softmax_columns(tile.data(), tile.data(), v.n, width, columns, log);
        for (int64_t i = 0; i < v.n; ++i)
          store_floats(dtype, tile.data() + i * width, y, at + i * v.inner, columns);
      }
    });
  };
}

template <bool kLog>
Prepared prepare_simd(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (!has_float_rows(dtype)) return decline("only float, float16 and bfloat16");
  const View v = prepare_view(ctx);
  if (v.outer == 0 || v.n == 0 || v.inner == 0) return [](RunContext&) {};
  if (dtype != DType::Float32) return prepare_converted(v, dtype, kLog);
  if (v.inner == 1) {
    return [v](RunContext& run) {
      const float* x = run.in<float>(0);
      float* y = run.out<float>(0);
      parallel_for(v.outer, grain_for(static_cast<double>(v.n) * 0.7 + 10), [&](int64_t begin, int64_t end) {
        simd_softmax_rows(x + begin * v.n, y + begin * v.n, end - begin, v.n, kLog);
      });
    };
  }
  const int64_t width = std::min(v.inner, kTile), tiles = (v.inner + width - 1) / width;
  return [v, width, tiles](RunContext& run) {
    const float* x = run.in<float>(0);
    float* y = run.out<float>(0);
    parallel_for(
        v.outer * tiles, grain_for(static_cast<double>(v.n * width) + 10), [&](int64_t begin, int64_t end) {
          for (int64_t item = begin; item < end; ++item) {
            const int64_t column = item % tiles * width, at = item / tiles * v.n * v.inner + column;
            simd_softmax_columns(x + at, y + at, v.n, v.inner, std::min(width, v.inner - column), kLog);
          }
        });
  };
}

template <bool kLog>
Prepared prepare_ref(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (is_narrow_float(dtype)) return widened(ctx, dtype, prepare_simd<kLog>);
  if (dtype != DType::Float64) return decline(std::string("no kernel for ") + dtype_name(dtype));
  const View v = prepare_view(ctx);
  return [v](RunContext& run) {
    const double* x = run.in<double>(0);
    double* y = run.out<double>(0);
    parallel_for(v.outer * v.inner, grain_for(static_cast<double>(v.n) * 10),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t item = begin; item < end; ++item) {
                     const int64_t at = item / v.inner * v.n * v.inner + item % v.inner;
                     double max = -INFINITY, sum = 0;
                     for (int64_t i = 0; i < v.n; ++i) max = std::max(max, x[at + i * v.inner]);
                     for (int64_t i = 0; i < v.n; ++i) sum += std::exp(x[at + i * v.inner] - max);
                     const double shift = kLog ? std::log(sum) : 0;
                     for (int64_t i = 0; i < v.n; ++i) {
                       const double diff = x[at + i * v.inner] - max;
                       y[at + i * v.inner] = kLog ? diff - shift : std::exp(diff) / sum;
                     }
                   }
                 });
  };
}

}  // namespace

void register_softmax(KernelRegistry& registry) {
  registry.add("Softmax", "simd", kFirst, prepare_simd<false>);
  registry.ref("Softmax", prepare_ref<false>);
  registry.add("LogSoftmax", "simd", kFirst, prepare_simd<true>);
  registry.ref("LogSoftmax", prepare_ref<true>);
}

}  // namespace sardonyx::cpu
