// CrossEntropyBackward: (exp(log_prob) - [class is label]) share.
#include <cmath>

#include "ops/registry/operator.h"
#include "providers/cpu/support/elementwise.h"
#include "providers/cpu/support/simd.h"
#include "providers/cpu/support/widen.h"

namespace sardonyx::cpu {

namespace {

// log_prob [n, classes, inner], labels and shares [n, inner].
struct Shape {
  int64_t n = 1, classes = 1, inner = 1;
};

Shape shape_of(PrepareContext& ctx) {
  const Dims& dims = ctx.dims(0);
  ctx.expect(dims.size() >= 2, "rank of input 'log_prob'", "at least 2", std::to_string(dims.size()));
  Dims labels = dims;
  labels.erase(labels.begin() + 1);
  for (size_t i : {1, 2})
    ctx.expect(ctx.dims(i) == labels, i == 1 ? "dims of input 'labels'" : "dims of input 'share'",
               to_string(labels), to_string(ctx.dims(i)));
  ctx.expect(ctx.dtype(1) == DType::Int64, "dtype of input 'labels'", "int64", dtype_name(ctx.dtype(1)));
  ctx.expect(ctx.dtype(2) == ctx.dtype(0), "dtype of input 'share'", dtype_name(ctx.dtype(0)),
             dtype_name(ctx.dtype(2)));
  Shape s{dims[0], dims[1], 1};
  for (size_t i = 2; i < dims.size(); ++i) s.inner = checked_mul(s.inner, dims[i], "size");
  ctx.output(0, ctx.dtype(0), dims);
  ctx.may_share(0, 0);
  return s;
}

// One label's shares taken off; zeros where it is no class.
template <typename T>
void take_labels(const Shape& s, int64_t row, const int64_t* labels, const T* shares, T* dx) {
  for (int64_t i = 0; i < s.inner; ++i) {
    const int64_t label = labels[row * s.inner + i];
    T* column = dx + row * s.classes * s.inner + i;
    if (label >= 0 && label < s.classes)
      column[label * s.inner] -= shares[row * s.inner + i];
    else
      for (int64_t c = 0; c < s.classes; ++c) column[c * s.inner] = 0;
  }
}

Prepared prepare_simd(PrepareContext& ctx) {
  if (is_narrow_float(ctx.dtype(0))) return widened(ctx, ctx.dtype(0), prepare_simd);
  if (ctx.dtype(0) != DType::Float32) return decline("only float, float16 and bfloat16");
  const Shape s = shape_of(ctx);
  const double row_ns = 0.5 * static_cast<double>(s.classes) + 20,
               line_ns = 0.5 * static_cast<double>(s.inner) + 10;
  return [=](RunContext& run) {
    const float *log_prob = run.in<float>(0), *shares = run.in<float>(2);
    const int64_t* labels = run.in<int64_t>(1);
    float* dx = run.out<float>(0);
    const auto exp = simd::row(simd::Unary::Exp);
    const auto mul = simd::row(simd::Binary::Mul);
    // dx from `at` on, in pieces that stay in the first cache between the two functions.
    const auto scaled_exp = [&](int64_t at, int64_t n, const float* share, int64_t step) {
      constexpr int64_t kPiece = 2048;
      for (int64_t i = 0; i < n; i += kPiece) {
        const int64_t size = std::min(kPiece, n - i);
        exp(log_prob + at + i, dx + at + i, size, 0, 0);
        mul(dx + at + i, 1, share + i * step, step, dx + at + i, size);
      }
    };
    if (s.inner == 1) {
      parallel_for(s.n, grain_for(row_ns), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          scaled_exp(row * s.classes, s.classes, shares + row, 0);
          take_labels(s, row, labels, shares, dx);
        }
      });
      return;
    }
    parallel_for(s.n * s.classes, grain_for(line_ns), [&](int64_t begin, int64_t end) {
      for (int64_t line = begin; line < end; ++line)
        scaled_exp(line * s.inner, s.inner, shares + line / s.classes * s.inner, 1);
    });
    parallel_for(s.n, grain_for(line_ns), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) take_labels(s, row, labels, shares, dx);
    });
  };
}

Prepared prepare_ref(PrepareContext& ctx) {
  if (ctx.dtype(0) != DType::Float64) return prepare_simd(ctx);
  const Shape s = shape_of(ctx);
  return [s](RunContext& run) {
    const double *log_prob = run.in<double>(0), *shares = run.in<double>(2);
    double* dx = run.out<double>(0);
    for (int64_t row = 0; row < s.n; ++row) {
      for (int64_t i = 0; i < s.classes * s.inner; ++i) {
        const int64_t at = row * s.classes * s.inner + i;
        dx[at] = std::exp(log_prob[at]) * shares[row * s.inner + i % s.inner];
      }
      take_labels(s, row, run.in<int64_t>(1), shares, dx);
    }
  };
}

}  // namespace

void register_loss_backward(KernelRegistry& r) {
  r.add("CrossEntropyBackward", "simd", kFirst, prepare_simd, kOwnDomain);
  r.ref("CrossEntropyBackward", prepare_ref, kOwnDomain);
}

}  // namespace sardonyx::cpu
