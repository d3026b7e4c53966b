// GeluBackward: a vector loop on f32 and the 16-bit floats, a plain one on every float.
#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS HWY_SSSE3
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/activation_backward.cpp"
#include <hwy/foreach_target.h>  // compiles what follows once for each instruction set
#include <hwy/highway.h>

#include <cmath>
#include <string>

#include "ops/activation.h"
#include "ops/registry/operator.h"
#include "providers/cpu/support/elementwise.h"
#include "providers/cpu/support/simd_loop-inl.h"
#include "providers/cpu/support/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::simd::HWY_NAMESPACE {
namespace {

// erfc(t) and the density share exp(-t^2), with t = |x| / sqrt(2).
HWY_INLINE V gelu_slope(V x) {
  const V t = hn::Min(hn::Mul(hn::Abs(x), constant(0.70710678f)), constant(15));
  const V square = hn::Mul(t, t);
  const V tail = hn::Mul(erfc(t, square, hn::Zero(D())), constant(0.5f));
  const V area = hn::IfThenElse(hn::Lt(x, constant(0)), tail, hn::Sub(constant(1), tail));
  const V density = hn::Mul(exp(hn::Neg(square)), constant(0.39894228f));
  return hn::MulAdd(x, density, area);
}

// x sigmoid(u) with u = x (a + b x^2): s + x u' s (1 - s).
HWY_INLINE V gelu_tanh_slope(V x) {
  constexpr float kLinear = 1.5957691f, kCubic = 0.07135482f;
  const V square = hn::Mul(x, x);
  const V s = sigmoid(hn::Mul(x, hn::MulAdd(square, constant(kCubic), constant(kLinear))));
  const V du = hn::MulAdd(square, constant(3 * kCubic), constant(kLinear));
  return hn::MulAdd(hn::Mul(hn::Mul(x, du), s), hn::Sub(constant(1), s), s);
}

}  // namespace

// dx = dy * slope(x); dx may be one of them.
void GeluBackwardRow(const float* dy, const float* x, float* dx, int64_t n, bool tanh) {
  const D d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto one = [&](V g, V v) HWY_ATTR { return hn::Mul(g, tanh ? gelu_tanh_slope(v) : gelu_slope(v)); };
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(one(hn::LoadU(d, dy + i), hn::LoadU(d, x + i)), d, dx + i);
  if (i == n) return;
  HWY_ALIGN float from_dy[hn::MaxLanes(d)], from_x[hn::MaxLanes(d)];
  copy_in(from_dy, dy + i, n - i);
  copy_in(from_x, x + i, n - i);
  hn::Store(one(hn::Load(d, from_dy), hn::Load(d, from_x)), d, from_x);
  copy_out(from_x, dx + i, n - i);
}

}  // namespace sardonyx::cpu::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {

namespace simd {
namespace {
HWY_EXPORT(GeluBackwardRow);
}  // namespace
}  // namespace simd

namespace {

bool prepare_ports(PrepareContext& ctx) {
  const std::string approximate = ctx.attributes<GeluAttributes>().approximate;
  ctx.expect(approximate == "none" || approximate == "tanh", "attribute 'approximate'", "none or tanh",
             approximate);
  expect_same_dtype(ctx, 2);
  ctx.expect(ctx.dims(0) == ctx.dims(1), "shape of input 'dY'", to_string(ctx.dims(1)),
             to_string(ctx.dims(0)));
  declare_elementwise(ctx, ctx.dtype(1), ctx.dims(1));
  return approximate == "tanh";
}

Prepared prepare_simd(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(1);
  if (!has_float_rows(dtype)) return decline("only float, float16 and bfloat16");
  const bool tanh = prepare_ports(ctx);
  return [dtype, tanh, n = ctx.input(1).size()](RunContext& run) {
    const void *dy = run.input(0).data(), *x = run.input(1).data();
    void* dx = run.output(0).mutable_data();
    parallel_for(n, grain_for(1), [&](int64_t begin, int64_t end) {
      using namespace simd;
      alignas(64) float from_dy[kFloatBlock], from_x[kFloatBlock];
      for (int64_t at = begin; at < end; at += kFloatBlock) {
        const int64_t size = std::min(kFloatBlock, end - at);
        const float* g = load_floats(dtype, dy, at, size, from_dy);
        const float* v = load_floats(dtype, x, at, size, from_x);
        float* target = float_target(dtype, dx, at, from_dy);
        HWY_DYNAMIC_DISPATCH(GeluBackwardRow)(g, v, target, size, tanh);
        store_floats(dtype, target, dx, at, size);
      }
    });
  };
}

double slope(double x, bool tanh) {
  if (tanh) {
    const double k = 1.59576912160573071176, cubic = 0.044715;
    const double s = 1 / (1 + std::exp(-k * x * (1 + cubic * x * x)));
    return s + x * k * (1 + 3 * cubic * x * x) * s * (1 - s);
  }
  return 0.5 * std::erfc(-0.70710678118654752440 * x) + x * 0.39894228040143267794 * std::exp(-0.5 * x * x);
}

Prepared prepare_ref(PrepareContext& ctx) {
  const bool tanh = prepare_ports(ctx);
  Prepared prepared = no_kernel_for(ctx.dtype(1));
  visit<AllFloats>(ctx.dtype(1), [&]<typename T>() {
    prepared = [tanh, n = ctx.input(1).size()](RunContext& run) {
      const T *dy = run.in<T>(0), *x = run.in<T>(1);
      T* dx = run.out<T>(0);
      parallel_for(n, grain_for(30), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          dx[i] = static_cast<T>(static_cast<double>(widen(dy[i])) *
                                 slope(static_cast<double>(widen(x[i])), tanh));
      });
    };
  });
  return prepared;
}

}  // namespace

void register_activation_backward(KernelRegistry& r) {
  r.add("GeluBackward", "simd", kFirst, prepare_simd, kOwnDomain);
  r.ref("GeluBackward", prepare_ref, kOwnDomain);
}

}  // namespace sardonyx::cpu
#endif
