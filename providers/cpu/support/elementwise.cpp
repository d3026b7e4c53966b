#include "providers/cpu/support/elementwise.h"

#include <algorithm>

namespace sardonyx::cpu {

void expect_same_dtype(const PrepareContext& ctx, size_t count) {
  for (size_t i = 1; i < count; ++i)
    if (ctx.has_input(i))
      ctx.expect(ctx.dtype(i) == ctx.dtype(0), "element type of input " + std::to_string(i),
                 dtype_name(ctx.dtype(0)), dtype_name(ctx.dtype(i)));
}

bool mixes_bfloat16(const PrepareContext& ctx) {
  const auto are = [&](DType a, DType b) { return ctx.dtype(0) == a && ctx.dtype(1) == b; };
  return ctx.is_tensor(0) && ctx.is_tensor(1) &&
         (are(DType::Float32, DType::BFloat16) || are(DType::BFloat16, DType::Float32));
}

void declare_elementwise(PrepareContext& ctx, DType dtype, const Dims& dims) {
  ctx.output(0, dtype, dims);
  if (dtype == DType::String) return;
  for (size_t i = 0; i < ctx.input_count(); ++i) {
    if (!ctx.is_tensor(i) || ctx.constant(i) || ctx.dims(i) != dims) continue;
    if (ctx.dtype(i) == DType::String || element_size(ctx.dtype(i)) != element_size(dtype)) continue;
    return ctx.may_share(0, i);
  }
}

const float* load_floats(DType dtype, const void* data, int64_t at, int64_t n, float* buffer) {
  if (dtype == DType::Float32) return static_cast<const float*>(data) + at;
  const uint16_t* bits = static_cast<const uint16_t*>(data) + at;
  if (dtype == DType::Float16)
    simd::half_to_float(bits, buffer, n);
  else
    simd::bfloat16_to_float(bits, buffer, n);
  return buffer;
}

void store_floats(DType dtype, const float* values, void* data, int64_t at, int64_t n) {
  if (dtype == DType::Float32) {
    float* out = static_cast<float*>(data) + at;
    if (out != values) std::copy_n(values, n, out);
    return;
  }
  uint16_t* bits = static_cast<uint16_t*>(data) + at;
  if (dtype == DType::Float16)
    simd::float_to_half(values, bits, n);
  else
    simd::float_to_bfloat16(values, bits, n);
}

void run_simd_unary(DType dtype, const void* x, void* y, int64_t n, simd::UnaryRow row, float a, float b) {
  parallel_for(n, grain_for(0.5), [&](int64_t begin, int64_t end) {
    if (dtype == DType::Float32)
      return row(static_cast<const float*>(x) + begin, static_cast<float*>(y) + begin, end - begin, a, b);
    alignas(64) float buffer[kFloatBlock];
    for (int64_t at = begin; at < end; at += kFloatBlock) {
      const int64_t count = std::min(kFloatBlock, end - at);
      row(load_floats(dtype, x, at, count, buffer), buffer, count, a, b);
      store_floats(dtype, buffer, y, at, count);
    }
  });
}

Prepared prepare_rows(PrepareContext& ctx, DType result, UnaryRow row, double ns, double a, double b) {
  declare_elementwise(ctx, result, ctx.dims(0));
  const size_t size = element_size(ctx.dtype(0)), result_size = element_size(result);
  return [n = ctx.input(0).size(), size, result_size, row, ns, a, b](RunContext& run) {
    const char* x = run.in<char>(0);
    char* y = run.out<char>(0);
    parallel_for(n, grain_for(ns), [&](int64_t begin, int64_t end) {
      const size_t at = static_cast<size_t>(begin);
      row(x + at * size, y + at * result_size, end - begin, a, b);
    });
  };
}

Prepared prepare_rows(PrepareContext& ctx, DType result, BinaryRow row, double ns) {
  Broadcast plan({ctx.dims(0), ctx.dims(1)});
  declare_elementwise(ctx, result, plan.dims());
  const int64_t a_size = static_cast<int64_t>(element_size(ctx.dtype(0)));
  const int64_t b_size = static_cast<int64_t>(element_size(ctx.dtype(1)));
  const int64_t result_size = static_cast<int64_t>(element_size(result));
  return [plan = std::move(plan), a_size, b_size, result_size, row, ns](RunContext& run) {
    const char* a = run.in<char>(0);
    const char* b = run.in<char>(1);
    char* out = run.out<char>(0);
    plan.rows(grain_for(ns), [&](int64_t at, const int64_t* from, int64_t n) {
      row(a + from[0] * a_size, plan.step(0), b + from[1] * b_size, plan.step(1), out + at * result_size, n);
    });
  };
}

Prepared prepare_simd_unary(PrepareContext& ctx, simd::Unary op, float a, float b) {
  const DType dtype = ctx.dtype(0);
  if (!has_float_rows(dtype)) return decline("only float, float16 and bfloat16");
  declare_elementwise(ctx, dtype, ctx.dims(0));
  return [dtype, n = ctx.input(0).size(), row = simd::row(op), a, b](RunContext& run) {
    run_simd_unary(dtype, run.input(0).data(), run.output(0).mutable_data(), n, row, a, b);
  };
}

Prepared prepare_simd_binary(PrepareContext& ctx, simd::Binary op) {
  const DType dtype = ctx.dtype(0);
  if (!has_float_rows(dtype)) return decline("only float, float16 and bfloat16");
  if (mixes_bfloat16(ctx)) return decline("f32 beside bf16");
  expect_same_dtype(ctx, 2);
  Broadcast plan({ctx.dims(0), ctx.dims(1)});
  declare_elementwise(ctx, dtype, plan.dims());
  const simd::NarrowBinaryRow narrow = dtype == DType::BFloat16 ? simd::narrow_row(op) : nullptr;
  return [dtype, plan = std::move(plan), row = simd::row(op), narrow](RunContext& run) {
    const void* a = run.input(0).data();
    const void* b = run.input(1).data();
    void* out = run.output(0).mutable_data();
    const int64_t a_step = plan.step(0), b_step = plan.step(1);
    plan.rows(grain_for(0.5), [&](int64_t at, const int64_t* from, int64_t n) {
      if (dtype == DType::Float32)
        return row(static_cast<const float*>(a) + from[0], a_step, static_cast<const float*>(b) + from[1],
                   b_step, static_cast<float*>(out) + at, n);
      if (narrow)
        return narrow(static_cast<const uint16_t*>(a) + from[0], a_step,
                      static_cast<const uint16_t*>(b) + from[1], b_step, static_cast<uint16_t*>(out) + at, n);
      alignas(64) float x[kFloatBlock], y[kFloatBlock];
      for (int64_t i = 0; i < n; i += kFloatBlock) {
        const int64_t count = std::min(kFloatBlock, n - i);
        load_floats(dtype, a, from[0] + i * a_step, a_step ? count : 1, x);
        load_floats(dtype, b, from[1] + i * b_step, b_step ? count : 1, y);
        row(x, a_step, y, b_step, x, count);
        store_floats(dtype, x, out, at + i, count);
      }
    });
  };
}

}  // namespace sardonyx::cpu
