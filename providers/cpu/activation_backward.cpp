// The backward passes of activations that many tensors of a model go through: vector loops on f32 and the
// 16-bit floats, plain ones on every float.
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
#include "providers/cpu/support/simd.h"
#include "providers/cpu/support/simd_loop-inl.h"
#include "providers/cpu/support/simd_math-inl.h"

#ifndef SARDONYX_ACTIVATION_BACKWARD
#define SARDONYX_ACTIVATION_BACKWARD
namespace sardonyx::cpu::simd {
// The first four have rows in simd.h, which chains use too.
enum class Backward { Relu, Sigmoid, Tanh, HardSwish, HardSigmoid, Swish, GeluErf, GeluTanh };
}  // namespace sardonyx::cpu::simd
#endif

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

template <Backward kOp>
struct Function {
  V a;
  // g is the cotangent, v the input or output.
  HWY_INLINE V operator()(V g, V v) const {
    const V zero = hn::Zero(D()), one = constant(1);
    if constexpr (kOp == Backward::HardSigmoid)
      return hn::IfThenElseZero(hn::And(hn::Gt(v, zero), hn::Lt(v, one)), hn::Mul(g, a));
    if constexpr (kOp == Backward::Swish) {
      const V u = hn::Mul(v, a), s = sigmoid(u);
      return hn::Mul(hn::Mul(g, s), hn::MulAdd(u, hn::Sub(one, s), one));
    }
    if constexpr (kOp == Backward::GeluErf) return hn::Mul(g, gelu_slope(v));
    if constexpr (kOp == Backward::GeluTanh) return hn::Mul(g, gelu_tanh_slope(v));
  }
};

template <Backward kOp>
void loop(const float* dy, const float* x, float* dx, int64_t n, float a) {
  const D d;
  const Function<kOp> f{constant(a)};
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(f(hn::LoadU(d, dy + i), hn::LoadU(d, x + i)), d, dx + i);
  if (i == n) return;
  HWY_ALIGN float from_dy[hn::MaxLanes(d)], from_x[hn::MaxLanes(d)];
  copy_in(from_dy, dy + i, n - i);
  copy_in(from_x, x + i, n - i);
  hn::Store(f(hn::Load(d, from_dy), hn::Load(d, from_x)), d, from_x);
  copy_out(from_x, dx + i, n - i);
}

}  // namespace

// dx = f(dy, x), where dx may be one of them.
void BackwardRow(Backward op, const float* dy, const float* x, float* dx, int64_t n, float a) {
  switch (op) {
    case Backward::Relu:
      return row(Binary::ReluBackward)(dy, 1, x, 1, dx, n);
    case Backward::Sigmoid:
      return row(Binary::SigmoidBackward)(dy, 1, x, 1, dx, n);
    case Backward::Tanh:
      return row(Binary::TanhBackward)(dy, 1, x, 1, dx, n);
    case Backward::HardSwish:
      return row(Binary::HardSwishBackward)(dy, 1, x, 1, dx, n);
    case Backward::HardSigmoid:
      return loop<Backward::HardSigmoid>(dy, x, dx, n, a);
    case Backward::Swish:
      return loop<Backward::Swish>(dy, x, dx, n, a);
    case Backward::GeluErf:
      return loop<Backward::GeluErf>(dy, x, dx, n, a);
    case Backward::GeluTanh:
      return loop<Backward::GeluTanh>(dy, x, dx, n, a);
  }
}

}  // namespace sardonyx::cpu::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {

namespace simd {
namespace {
HWY_EXPORT(BackwardRow);
}  // namespace
}  // namespace simd

namespace {

using simd::Backward;

// The attribute of those that have one.
float prepare_ports(PrepareContext& ctx, Backward& op) {
  expect_same_dtype(ctx, 2);
  ctx.expect(ctx.dims(0) == ctx.dims(1), "shape of input 'dY'", to_string(ctx.dims(1)),
             to_string(ctx.dims(0)));
  declare_elementwise(ctx, ctx.dtype(1), ctx.dims(1));
  if (op == Backward::HardSigmoid) return ctx.attributes<HardSigmoidAttributes>().alpha;
  if (op == Backward::Swish) return ctx.attributes<AlphaAttributes>().alpha;
  if (op == Backward::GeluErf) {
    const std::string approximate = ctx.attributes<GeluAttributes>().approximate;
    ctx.expect(approximate == "none" || approximate == "tanh", "attribute 'approximate'", "none or tanh",
               approximate);
    if (approximate == "tanh") op = Backward::GeluTanh;
  }
  return 0;
}

Prepared prepare_simd(PrepareContext& ctx, Backward op) {
  const DType dtype = ctx.dtype(1);
  if (!has_float_rows(dtype)) return decline("only float, float16 and bfloat16");
  const float a = prepare_ports(ctx, op);
  const double ns =
      op == Backward::Relu || op == Backward::HardSwish || op == Backward::HardSigmoid ? 0.3 : 1;
  return [=, n = ctx.input(1).size()](RunContext& run) {
    const void *dy = run.input(0).data(), *x = run.input(1).data();
    void* dx = run.output(0).mutable_data();
    parallel_for(n, grain_for(ns), [&](int64_t begin, int64_t end) {
      using namespace simd;
      alignas(64) float from_dy[kFloatBlock], from_x[kFloatBlock];
      for (int64_t at = begin; at < end; at += kFloatBlock) {
        const int64_t size = std::min(kFloatBlock, end - at);
        const float* g = load_floats(dtype, dy, at, size, from_dy);
        const float* v = load_floats(dtype, x, at, size, from_x);
        float* target = float_target(dtype, dx, at, from_dy);
        HWY_DYNAMIC_DISPATCH(BackwardRow)(op, g, v, target, size, a);
        store_floats(dtype, target, dx, at, size);
      }
    });
  };
}

double backward(Backward op, double g, double x, double a) {
  const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  switch (op) {
    case Backward::Relu:
      return x <= 0 ? 0 : g;
    case Backward::Sigmoid:
      return g * x * (1 - x);
    case Backward::Tanh:
      return g * (1 - x * x);
    case Backward::HardSwish:
      return x <= -3 ? 0 : x < 3 ? g * (x / 3 + 0.5) : g;
    case Backward::HardSigmoid:
      return x > 0 && x < 1 ? g * a : 0;
    case Backward::Swish: {
      const double s = sigmoid(a * x);
      return g * s * (1 + a * x * (1 - s));
    }
    case Backward::GeluErf:
      return g * (0.5 * std::erfc(-0.70710678118654752440 * x) +
                  x * 0.39894228040143267794 * std::exp(-0.5 * x * x));
    case Backward::GeluTanh: {
      const double k = 1.59576912160573071176, cubic = 0.044715;
      const double s = sigmoid(k * x * (1 + cubic * x * x));
      return g * (s + x * k * (1 + 3 * cubic * x * x) * s * (1 - s));
    }
  }
  return 0;
}

Prepared prepare_ref(PrepareContext& ctx, Backward op) {
  const double a = static_cast<double>(prepare_ports(ctx, op));
  Prepared prepared = no_kernel_for(ctx.dtype(1));
  visit<AllFloats>(ctx.dtype(1), [&]<typename T>() {
    prepared = [=, n = ctx.input(1).size()](RunContext& run) {
      const T *dy = run.in<T>(0), *x = run.in<T>(1);
      T* dx = run.out<T>(0);
      parallel_for(n, grain_for(30), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
          dx[i] = static_cast<T>(
              backward(op, static_cast<double>(widen(dy[i])), static_cast<double>(widen(x[i])), a));
      });
    };
  });
  return prepared;
}

}  // namespace

void register_activation_backward(KernelRegistry& r) {
  const std::pair<const char*, Backward> operators[] = {{"ReluBackward", Backward::Relu},
                                                        {"SigmoidBackward", Backward::Sigmoid},
                                                        {"TanhBackward", Backward::Tanh},
                                                        {"HardSwishBackward", Backward::HardSwish},
                                                        {"HardSigmoidBackward", Backward::HardSigmoid},
                                                        {"SwishBackward", Backward::Swish},
                                                        {"GeluBackward", Backward::GeluErf}};
  for (const auto& [name, op] : operators) {
    r.add(
        name, "simd", kFirst, [op = op](PrepareContext& ctx) { return prepare_simd(ctx, op); }, kOwnDomain);
    r.ref(
        name, [op = op](PrepareContext& ctx) { return prepare_ref(ctx, op); }, kOwnDomain);
  }
}

}  // namespace sardonyx::cpu
#endif
