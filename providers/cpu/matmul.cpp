// MatMul and Gemm.
#include "ops/matmul.h"

#include <limits>

#include "ops/registry/operator.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/product.h"
#include "providers/cpu/support/widen.h"
#include "providers/cpu/support/window.h"

namespace sardonyx::cpu {

namespace {

using MatMulTypes = Join<Floats, Types<int32_t, int64_t, uint32_t, uint64_t>>;

struct MatMulShape {
  ProductShape product;
  Dims dims;  // of the output
};

// But for C of Gemm, which precision "medium" leaves f32 beside bf16.
void check_same_dtype(const PrepareContext& ctx) {
  for (size_t i = 1; i < ctx.input_count(); ++i)
    if (ctx.has_input(i) && !(i == 2 && ctx.dtype(0) == DType::BFloat16 && ctx.dtype(2) == DType::Float32))
      ctx.expect(ctx.dtype(i) == ctx.dtype(0), "dtype of input " + std::to_string(i),
                 dtype_name(ctx.dtype(0)), dtype_name(ctx.dtype(i)));
}

// numpy.matmul: a first or last operand of rank 1 is a row or a column, and its dimension goes from the
// result.
MatMulShape matmul_shape(const PrepareContext& ctx) {
  check_same_dtype(ctx);
  const auto transposed = ctx.attributes<MatMulTransposedAttributes>();  // MatMul has neither
  Dims a = ctx.dims(0), b = ctx.dims(1);
  ctx.expect(!a.empty(), "rank of input 'A'", "at least 1", "0");
  ctx.expect(!b.empty(), "rank of input 'B'", "at least 1", "0");
  const bool ta = transposed.transA != 0, tb = transposed.transB != 0;
  ctx.expect(!ta || a.size() > 1, "rank of input 'A'", "at least 2", "1");
  ctx.expect(!tb || b.size() > 1, "rank of input 'B'", "at least 2", "1");
  if (ta) std::swap(a[a.size() - 2], a.back());
  if (tb) std::swap(b[b.size() - 2], b.back());
  const bool row = a.size() == 1, column = b.size() == 1;
  if (row) a.insert(a.begin(), 1);
  if (column) b.push_back(1);
  const int64_t m = a[a.size() - 2], k = a.back(), n = b.back();
  ctx.expect(b[b.size() - 2] == k, "input 'B' dim " + std::to_string(b.size() - 2), std::to_string(k),
             std::to_string(b[b.size() - 2]));
  const Dims a_batch(a.begin(), a.end() - 2), b_batch(b.begin(), b.end() - 2);
  MatMulShape s;
  s.dims = broadcast(a_batch, b_batch);
  const Dims batch = s.dims;
  if (!row) s.dims.push_back(m);
  if (!column) s.dims.push_back(n);
  s.product = ProductShape::dense(m, n, k);
  if (ta) s.product.a_row = 1, s.product.a_column = m;
  if (tb) s.product.b_row = 1, s.product.b_column = k;
  if (element_count(b_batch) == 1 && (!ta || element_count(a_batch) == 1)) {
    s.product.m = checked_mul(element_count(batch), m, "rows");  // one product of all the rows of A
    return s;
  }
  const int64_t result = checked_mul(m, n, "result");
  // Neighbouring batch dimensions that both operands walk through alike are merged.
  int64_t a_stride = m * k, b_stride = k * n, c_stride = result;
  for (size_t i = 0; i < batch.size(); ++i) {
    const size_t from_end = i + 1, at = batch.size() - from_end;
    const int64_t a_dim = from_end <= a_batch.size() ? a_batch[a_batch.size() - from_end] : 1;
    const int64_t b_dim = from_end <= b_batch.size() ? b_batch[b_batch.size() - from_end] : 1;
    const int64_t a_step = a_dim == 1 ? 0 : a_stride, b_step = b_dim == 1 ? 0 : b_stride;
    ProductShape& p = s.product;
    if (batch[at] != 1) {
      const bool merge = !p.batch.empty() && a_step == p.a_batch.front() * p.batch.front() &&
                         b_step == p.b_batch.front() * p.batch.front();
      if (merge) {
        p.batch.front() *= batch[at];
      } else {
        p.batch.insert(p.batch.begin(), batch[at]);
        p.a_batch.insert(p.a_batch.begin(), a_step);
        p.b_batch.insert(p.b_batch.begin(), b_step);
        p.c_batch.insert(p.c_batch.begin(), c_stride);
      }
    }
    a_stride *= a_dim, b_stride *= b_dim;
    c_stride = checked_mul(c_stride, batch[at], "result");
  }
  return s;
}

struct GemmShape {
  ProductShape product;
  float alpha = 1, beta = 1;
  bool has_c = false;
  int64_t c_row = 0, c_column = 0;  // strides of C, 0 where it is broadcast
};

GemmShape gemm_shape(const PrepareContext& ctx) {
  check_same_dtype(ctx);
  const auto attributes = ctx.attributes<GemmAttributes>();
  ctx.expect(ctx.rank(0) == 2, "rank of input 'A'", "2", std::to_string(ctx.rank(0)));
  ctx.expect(ctx.rank(1) == 2, "rank of input 'B'", "2", std::to_string(ctx.rank(1)));
  const Dims &a = ctx.dims(0), &b = ctx.dims(1);
  const bool ta = attributes.transA != 0, tb = attributes.transB != 0;
  const int64_t m = a[ta ? 1 : 0], k = a[ta ? 0 : 1], n = b[tb ? 0 : 1];
  ctx.expect(b[tb ? 1 : 0] == k, std::string("input 'B' dim ") + (tb ? "1" : "0"), std::to_string(k),
             std::to_string(b[tb ? 1 : 0]));
  GemmShape s;
  s.product = ProductShape::dense(m, n, k);
  if (ta) s.product.a_row = 1, s.product.a_column = m;
  if (tb) s.product.b_row = 1, s.product.b_column = k;
  s.alpha = attributes.alpha;
  s.beta = attributes.beta;
  s.has_c = ctx.has_input(2) && s.beta != 0;
  if (ctx.has_input(2)) {
    Dims c = ctx.dims(2);
    const bool fits = c.size() <= 2;
    if (fits) c.insert(c.begin(), 2 - c.size(), 1);
    ctx.expect(fits && (c[0] == 1 || c[0] == m) && (c[1] == 1 || c[1] == n), "dims of input 'C'",
               "broadcastable to " + to_string(Dims{m, n}), to_string(ctx.dims(2)));
    s.c_column = c[1] == 1 ? 0 : 1;
    s.c_row = c[0] == 1 ? 0 : c[1];
  }
  return s;
}

template <typename T>
T from_double(double value) {
  if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(value);
  } else {
    constexpr double low = static_cast<double>(std::numeric_limits<T>::min()),
                     high = static_cast<double>(std::numeric_limits<T>::max());
    return value >= high ? std::numeric_limits<T>::max()
           : value > low ? static_cast<T>(value)
                         : std::numeric_limits<T>::min();
  }
}

// y = alpha * y + beta * c.
template <typename T>
void scale_and_add(const GemmShape& s, const T* c, T* y) {
  const int64_t n = s.product.n;
  const bool plain = s.alpha == 1 && s.beta == 1;
  parallel_for(s.product.m, grain_for(0.5 * static_cast<double>(n) + 1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T* row = y + i * n;
      const T* from = c + i * s.c_row;
      if constexpr (std::is_same_v<T, float>) {
        for (int64_t j = 0; j < n; ++j)
          row[j] = s.has_c ? s.alpha * row[j] + s.beta * from[j * s.c_column] : s.alpha * row[j];
      } else {
        for (int64_t j = 0; j < n; ++j) {
          if (plain && std::is_integral_v<T>)
            row[j] =
                static_cast<T>(static_cast<uint64_t>(row[j]) + static_cast<uint64_t>(from[j * s.c_column]));
          else
            row[j] = from_double<T>(s.alpha * static_cast<double>(row[j]) +
                                    (s.has_c ? s.beta * static_cast<double>(from[j * s.c_column]) : 0.0));
        }
      }
    }
  });
}

// The specification's triple loop; floats are summed in f64.
template <typename T>
void multiply_plainly(const ProductShape& s, const T* a, const T* b, T* c) {
  using Sum = std::conditional_t<std::is_floating_point_v<T>, double, uint64_t>;
  Dims index(s.batch.size(), 0);
  for (int64_t batch = 0; batch < s.batches(); ++batch, next_index(index, s.batch)) {
    int64_t a_at = 0, b_at = 0, c_at = 0;
    for (size_t d = 0; d < index.size(); ++d)
      a_at += index[d] * s.a_batch[d], b_at += index[d] * s.b_batch[d], c_at += index[d] * s.c_batch[d];
    parallel_for(s.m, grain_for(static_cast<double>(s.n) * static_cast<double>(s.k + 1)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) {
                     for (int64_t j = 0; j < s.n; ++j) {
                       Sum sum = 0;
                       for (int64_t l = 0; l < s.k; ++l)
                         sum += static_cast<Sum>(a[a_at + i * s.a_row + l * s.a_column]) *
                                static_cast<Sum>(b[b_at + l * s.b_row + j * s.b_column]);
                       c[c_at + i * s.c_row + j] = static_cast<T>(sum);
                     }
                   }
                 });
  }
}

bool is_half(DType dtype) { return dtype == DType::Float16 || dtype == DType::BFloat16; }

[[noreturn]] void wrong_dtype(const PrepareContext& ctx) {
  ctx.fail("dtype of input 'A'", "a float type, int32, int64, uint32 or uint64", dtype_name(ctx.dtype(0)));
}

Prepared prepare_matmul(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (dtype == DType::Float16) return widened(ctx, dtype, prepare_matmul);
  const MatMulShape s = matmul_shape(ctx);
  ScratchPlan scratch(ctx);
  const Product::Followed followed{&ctx, s.dims};
  const auto product = Product::plan(scratch, dtype, s.product, ctx.constant(1), DType::Undefined, &followed);
  if (!product)
    return dtype == DType::BFloat16 ? widened(ctx, dtype, prepare_matmul)
                                    : decline("no fast product of this dtype");
  ctx.output(0, product->result(), s.dims);
  absorb(ctx, product->epilogue());
  return [product = *product](RunContext& run) {
    product.run(run.scratch(), run.input(0).data(), product.reads_b() ? run.input(1).data() : nullptr,
                run.output(0).mutable_data(), nullptr, &run);
  };
}

Prepared prepare_matmul_ref(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (is_half(dtype)) return widened(ctx, dtype, prepare_matmul_ref);
  const MatMulShape s = matmul_shape(ctx);
  ctx.output(0, dtype, s.dims);
  std::function<void(RunContext&)> run;
  visit<MatMulTypes>(dtype, [&]<typename T>() {
    run = [p = s.product](RunContext& r) { multiply_plainly(p, r.in<T>(0), r.in<T>(1), r.out<T>(0)); };
  });
  if (!run) wrong_dtype(ctx);
  return run;
}

Prepared prepare_gemm(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (dtype == DType::Float16) return widened(ctx, dtype, prepare_gemm);
  const GemmShape s = gemm_shape(ctx);
  const bool scaled = s.alpha != 1 || (s.has_c && s.beta != 1);
  // C as a row is the bias of the product itself.
  const bool bias = s.has_c && !scaled && s.c_row == 0 && s.c_column == 1 && is_float(dtype);
  const bool after = scaled || (s.has_c && !bias);
  if (dtype == DType::BFloat16 && after) return widened(ctx, dtype, prepare_gemm);  // rounded once
  ScratchPlan scratch(ctx);
  const Product::Followed followed{&ctx, {s.product.m, s.product.n}};
  const auto product = Product::plan(scratch, dtype, s.product, ctx.constant(1),
                                     bias ? ctx.dtype(2) : DType::Undefined, after ? nullptr : &followed);
  if (!product)
    return dtype == DType::BFloat16 ? widened(ctx, dtype, prepare_gemm)
                                    : decline("no fast product of this dtype");
  ctx.output(0, product->result(), {s.product.m, s.product.n});
  absorb(ctx, product->epilogue());
  std::function<void(RunContext&)> finish;
  if (after)
    visit<MatMulTypes>(dtype, [&]<typename T>() {
      finish = [s](RunContext& r) { scale_and_add<T>(s, r.in<T>(2), r.out<T>(0)); };
    });
  return [product = *product, bias, finish](RunContext& run) {
    product.run(run.scratch(), run.input(0).data(), product.reads_b() ? run.input(1).data() : nullptr,
                run.output(0).mutable_data(), bias ? run.input(2).data() : nullptr, &run);
    if (finish) finish(run);
  };
}

Prepared prepare_gemm_ref(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (is_half(dtype)) return widened(ctx, dtype, prepare_gemm_ref);
  const GemmShape s = gemm_shape(ctx);
  ctx.output(0, dtype, {s.product.m, s.product.n});
  std::function<void(RunContext&)> run;
  visit<MatMulTypes>(dtype, [&]<typename T>() {
    run = [s](RunContext& r) {
      multiply_plainly(s.product, r.in<T>(0), r.in<T>(1), r.out<T>(0));
      if (s.has_c || s.alpha != 1) scale_and_add<T>(s, r.in<T>(2), r.out<T>(0));
    };
  });
  if (!run) wrong_dtype(ctx);
  return run;
}

}  // namespace

void register_matmul(KernelRegistry& registry) {
  registry.add_aware("MatMul", "product", kFirst, prepare_matmul);
  registry.ref("MatMul", prepare_matmul_ref);
  registry.add("MatMulTransposed", "product", kFirst, prepare_matmul, kOwnDomain, LayoutRule::Aware);
  registry.ref("MatMulTransposed", prepare_matmul_ref, kOwnDomain);
  registry.add_aware("Gemm", "product", kFirst, prepare_gemm);
  registry.ref("Gemm", prepare_gemm_ref);
}

}  // namespace sardonyx::cpu
