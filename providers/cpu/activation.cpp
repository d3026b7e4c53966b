#include <algorithm>
#include <cmath>
#include <string>

#include "ops/activation.h"
#include "providers/cpu/support/elementwise.h"
#include "providers/cpu/support/integers.h"

namespace sardonyx::cpu {

namespace {

// Called in the type to compute in: double for f64, float for narrower floats. a and b are attributes.
struct Relu {
  template <typename T>
  T operator()(T x) const {
    return x < T(0) ? T(0) : x;
  }
};
struct LeakyRelu {
  template <typename T>
  T operator()(T x, T a, T) const {
    return x < 0 ? a * x : x;
  }
};
struct ThresholdedRelu {
  template <typename T>
  T operator()(T x, T a, T) const {
    return x <= a ? T(0) : x;
  }
};
struct Elu {
  template <typename T>
  T operator()(T x, T a, T) const {
    return x < 0 ? a * std::expm1(x) : x;
  }
};
struct Celu {
  template <typename T>
  T operator()(T x, T a, T) const {
    return x < 0 ? a * std::expm1(x / a) : x;
  }
};
struct Selu {
  template <typename T>
  T operator()(T x, T a, T b) const {
    return x > 0 ? b * x : b * (a * std::expm1(x));
  }
};
struct HardSigmoid {
  template <typename T>
  T operator()(T x, T a, T b) const {
    const T y = a * x + b;
    return y > 1 ? T(1) : y < 0 ? T(0) : y;
  }
};
struct HardSwish {
  template <typename T>
  T operator()(T x) const {
    return x * HardSigmoid()(x, T(1) / T(6), T(0.5));
  }
};
struct Sigmoid {
  template <typename T>
  T operator()(T x) const {
    const T e = std::exp(-std::fabs(x));
    return (x < 0 ? e : T(1)) / (1 + e);
  }
};
struct Softplus {
  template <typename T>
  T operator()(T x) const {
    return (x < 0 ? T(0) : x) + std::log1p(std::exp(-std::fabs(x)));
  }
};
struct Softsign {
  template <typename T>
  T operator()(T x) const {
    return x / (1 + std::fabs(x));
  }
};
struct Mish {
  template <typename T>
  T operator()(T x) const {
    return x * std::tanh(Softplus()(x));
  }
};
struct Swish {
  template <typename T>
  T operator()(T x, T a, T) const {
    return x * Sigmoid()(a * x);
  }
};
struct GeluErf {
  // erfc keeps the digits that 1 + erf loses for negative x.
  template <typename T>
  T operator()(T x) const {
    return T(0.5) * x * std::erfc(x * T(-0.70710678118654752440));
  }
};
struct GeluTanh {
  // (1 + tanh u) / 2 = sigmoid(2 u), with u = sqrt(2 / pi) (x + 0.044715 x^3)
  template <typename T>
  T operator()(T x) const {
    return x * Sigmoid()(T(1.59576912160573071176) * x * (1 + T(0.044715) * x * x));
  }
};
// Zero within [-lambd, lambd], moved towards it by bias outside. Integers are compared and moved as doubles.
struct Shrink {
  template <typename T>
  T operator()(T x, double bias, double lambd) const {
    using C = std::conditional_t<std::is_integral_v<T>, double, T>;
    const C value = static_cast<C>(x), by = static_cast<C>(bias), limit = static_cast<C>(lambd);
    if (value != value) return x;
    const C y = value < -limit ? value + by : value > limit ? value - by : C(0);
    if constexpr (std::is_integral_v<T>)
      return truncate_to<T>(y);
    else
      return y;
  }
};
struct PRelu {
  template <typename T>
  T operator()(T x, T slope) const {
    if constexpr (std::is_integral_v<T>)
      return x < T(0) ? wrapped<T>(unsigned_of(x) * unsigned_of(slope)) : x;
    else
      return x < 0 ? x * slope : x;
  }
};

template <typename F>
PrepareKernel ref(double ns) {
  return [ns](PrepareContext& ctx) { return prepare_unary<AllFloats, F>(ctx, ns); };
}
PrepareKernel vectors(simd::Unary op) {
  return [op](PrepareContext& ctx) { return prepare_simd_unary(ctx, op); };
}

template <typename F>
Prepared prepare_alpha(PrepareContext& ctx) {
  return prepare_unary<AllFloats, F>(ctx, 8, ctx.attributes<AlphaAttributes>().alpha);
}
template <simd::Unary kOp>
Prepared prepare_simd_alpha(PrepareContext& ctx) {
  const float alpha = ctx.attributes<AlphaAttributes>().alpha;
  if (kOp == simd::Unary::Celu && !(alpha > 0)) return decline("only a positive alpha");
  return prepare_simd_unary(ctx, kOp, alpha);
}

Prepared prepare_relu(PrepareContext& ctx) {
  return prepare_unary<Join<AllFloats, Types<int8_t, int16_t, int32_t, int64_t>>, Relu>(ctx, 1);
}
Prepared prepare_leaky_relu(PrepareContext& ctx) {
  return prepare_unary<AllFloats, LeakyRelu>(ctx, 1, ctx.attributes<LeakyReluAttributes>().alpha);
}
Prepared prepare_simd_leaky_relu(PrepareContext& ctx) {
  return prepare_simd_unary(ctx, simd::Unary::LeakyRelu, ctx.attributes<LeakyReluAttributes>().alpha);
}
Prepared prepare_selu(PrepareContext& ctx) {
  const auto a = ctx.attributes<SeluAttributes>();
  return prepare_unary<AllFloats, Selu>(ctx, 8, a.alpha, a.gamma);
}
Prepared prepare_simd_selu(PrepareContext& ctx) {
  const auto a = ctx.attributes<SeluAttributes>();
  return prepare_simd_unary(ctx, simd::Unary::Selu, a.alpha, a.gamma);
}
Prepared prepare_hard_sigmoid(PrepareContext& ctx) {
  const auto a = ctx.attributes<HardSigmoidAttributes>();
  return prepare_unary<AllFloats, HardSigmoid>(ctx, 2, a.alpha, a.beta);
}
Prepared prepare_simd_hard_sigmoid(PrepareContext& ctx) {
  const auto a = ctx.attributes<HardSigmoidAttributes>();
  return prepare_simd_unary(ctx, simd::Unary::HardSigmoid, a.alpha, a.beta);
}
Prepared prepare_simd_hard_swish(PrepareContext& ctx) {
  return prepare_simd_unary(ctx, simd::Unary::HardSwish, 1.0f / 6.0f, 0.5f);
}

bool tanh_approximation(const PrepareContext& ctx) {
  const std::string approximate = ctx.attributes<GeluAttributes>().approximate;
  ctx.expect(approximate == "none" || approximate == "tanh", "attribute 'approximate'", "none or tanh",
             approximate);
  return approximate == "tanh";
}
Prepared prepare_gelu(PrepareContext& ctx) {
  return tanh_approximation(ctx) ? prepare_unary<AllFloats, GeluTanh>(ctx, 8)
                                 : prepare_unary<AllFloats, GeluErf>(ctx, 12);
}
Prepared prepare_simd_gelu(PrepareContext& ctx) {
  return prepare_simd_unary(ctx, tanh_approximation(ctx) ? simd::Unary::GeluTanh : simd::Unary::GeluErf);
}

Prepared prepare_shrink(PrepareContext& ctx) {
  const auto a = ctx.attributes<ShrinkAttributes>();
  return prepare_unary<AllNumbers, Shrink>(ctx, 2, a.bias, a.lambd);
}

void expect_slope_fits(PrepareContext& ctx) {
  expect_same_dtype(ctx, 2);
  const Dims together = broadcast(ctx.dims(0), ctx.dims(1));
  ctx.expect(together == ctx.dims(0), "shape of input 'slope'",
             "one that broadcasts to " + to_string(ctx.dims(0)), to_string(ctx.dims(1)));
}
Prepared prepare_prelu(PrepareContext& ctx) {
  expect_slope_fits(ctx);
  return prepare_binary<Join<AllFloats, Types<int32_t, int64_t, uint32_t, uint64_t>>, PRelu>(ctx, 1);
}
Prepared prepare_simd_prelu(PrepareContext& ctx) {
  expect_slope_fits(ctx);
  return prepare_simd_binary(ctx, simd::Binary::PRelu);
}

void expect_same_dims(PrepareContext& ctx) {
  expect_same_dtype(ctx, 2);
  ctx.expect(ctx.dims(0) == ctx.dims(1), "shape of input 'B'", to_string(ctx.dims(0)),
             to_string(ctx.dims(1)));
}
Prepared prepare_simd_swiglu(PrepareContext& ctx) {
  const DType dtype = ctx.dtype(0);
  if (!has_float_rows(dtype)) return decline("only float, float16 and bfloat16");
  expect_same_dims(ctx);
  declare_elementwise(ctx, dtype, ctx.dims(0));
  const float alpha = ctx.attributes<AlphaAttributes>().alpha;
  return [dtype, alpha, n = ctx.input(0).size()](RunContext& run) {
    const void* x = run.input(0).data();
    const void* y = run.input(1).data();
    void* out = run.output(0).mutable_data();
    parallel_for(n, grain_for(1), [&](int64_t begin, int64_t end) {
      alignas(64) float gate[kFloatBlock], value[kFloatBlock];
      for (int64_t at = begin; at < end; at += kFloatBlock) {
        const int64_t size = std::min(kFloatBlock, end - at);
        const float* a = load_floats(dtype, x, at, size, gate);
        const float* b = load_floats(dtype, y, at, size, value);
        float* target = float_target(dtype, out, at, gate);
        simd::swiglu(a, b, target, size, alpha);
        store_floats(dtype, target, out, at, size);
      }
    });
  };
}
Prepared prepare_swiglu(PrepareContext& ctx) {
  expect_same_dims(ctx);
  const double alpha = ctx.attributes<AlphaAttributes>().alpha;
  Prepared prepared = no_kernel_for(ctx.dtype(0));
  visit<AllFloats>(ctx.dtype(0), [&]<typename T>() {
    declare_elementwise(ctx, ctx.dtype(0), ctx.dims(0));
    prepared = [alpha, n = ctx.input(0).size()](RunContext& run) {
      const T* a = run.in<T>(0);
      const T* b = run.in<T>(1);
      T* out = run.out<T>(0);
      parallel_for(n, grain_for(10), [&](int64_t begin, int64_t end) {
        using C = Compute<T>;
        for (int64_t i = begin; i < end; ++i)
          out[i] = static_cast<T>(Swish()(C(widen(a[i])), static_cast<C>(alpha), C(0)) * widen(b[i]));
      });
    };
  });
  return prepared;
}

}  // namespace

void register_activation(KernelRegistry& r) {
  r.add("Relu", "simd", kFirst, vectors(simd::Unary::Relu));
  r.add("LeakyRelu", "simd", kFirst, prepare_simd_leaky_relu);
  r.add("PRelu", "simd", kFirst, prepare_simd_prelu);
  r.add("Elu", "simd", kFirst, prepare_simd_alpha<simd::Unary::Elu>);
  r.add("Celu", "simd", kFirst, prepare_simd_alpha<simd::Unary::Celu>);
  r.add("ThresholdedRelu", "simd", kFirst, prepare_simd_alpha<simd::Unary::ThresholdedRelu>);
  r.add("Swish", "simd", kFirst, prepare_simd_alpha<simd::Unary::Swish>);
  r.add("SwiGLU", "simd", kFirst, prepare_simd_swiglu);
  r.add("Selu", "simd", kFirst, prepare_simd_selu);
  r.add("HardSigmoid", "simd", kFirst, prepare_simd_hard_sigmoid);
  r.add("HardSwish", "simd", kFirst, prepare_simd_hard_swish);
  r.add("Sigmoid", "simd", kFirst, vectors(simd::Unary::Sigmoid));
  r.add("Softplus", "simd", kFirst, vectors(simd::Unary::Softplus));
  r.add("Softsign", "simd", kFirst, vectors(simd::Unary::Softsign));
  r.add("Mish", "simd", kFirst, vectors(simd::Unary::Mish));
  r.add("Gelu", "simd", kFirst, prepare_simd_gelu);

  r.ref("Relu", prepare_relu);
  r.ref("LeakyRelu", prepare_leaky_relu);
  r.ref("PRelu", prepare_prelu);
  r.ref("Elu", prepare_alpha<Elu>);
  r.ref("Celu", prepare_alpha<Celu>);
  r.ref("ThresholdedRelu", prepare_alpha<ThresholdedRelu>);
  r.ref("Swish", prepare_alpha<Swish>);
  r.ref("SwiGLU", prepare_swiglu);
  r.ref("Selu", prepare_selu);
  r.ref("HardSigmoid", prepare_hard_sigmoid);
  r.ref("HardSwish", ref<HardSwish>(2));
  r.ref("Sigmoid", ref<Sigmoid>(8));
  r.ref("Softplus", ref<Softplus>(15));
  r.ref("Softsign", ref<Softsign>(2));
  r.ref("Mish", ref<Mish>(25));
  r.ref("Gelu", prepare_gelu);
  r.ref("Shrink", prepare_shrink);
}

}  // namespace sardonyx::cpu
