// Comparisons, logic and bits of two operands, tests of one, and Where.
#include <cmath>
#include <string>

#include "ops/elementwise.h"
#include "providers/cpu/support/elementwise.h"
#include "providers/cpu/support/integers.h"

namespace sardonyx::cpu {

namespace {

#define SARDONYX_COMPARISON(Name, expression)       \
  struct Name {                                     \
    template <typename T>                           \
    bool operator()(const T& a, const T& b) const { \
      return expression;                            \
    }                                               \
  };
SARDONYX_COMPARISON(Equal, a == b)
SARDONYX_COMPARISON(Greater, a > b)
SARDONYX_COMPARISON(GreaterOrEqual, a >= b)
SARDONYX_COMPARISON(Less, a < b)
SARDONYX_COMPARISON(LessOrEqual, a <= b)
SARDONYX_COMPARISON(And, a&& b)
SARDONYX_COMPARISON(Or, a || b)
SARDONYX_COMPARISON(Xor, a != b)
#undef SARDONYX_COMPARISON

struct BitwiseAnd {
  template <typename T>
  T operator()(T a, T b) const {
    return static_cast<T>(a & b);
  }
};
struct BitwiseOr {
  template <typename T>
  T operator()(T a, T b) const {
    return static_cast<T>(a | b);
  }
};
struct BitwiseXor {
  template <typename T>
  T operator()(T a, T b) const {
    return static_cast<T>(a ^ b);
  }
};

// A shift by a negative amount, or by the width or more, leaves what sign extension fills in.
template <typename T>
bool shifts_out(T amount) {
  if constexpr (std::is_signed_v<T>)
    if (amount < 0) return true;
  return static_cast<std::make_unsigned_t<T>>(amount) >= sizeof(T) * 8;
}
struct ShiftLeft {
  template <typename T>
  T operator()(T a, T amount) const {
    return shifts_out(amount) ? T(0) : wrapped<T>(unsigned_of(a) << amount);
  }
};
struct ShiftRight {
  template <typename T>
  T operator()(T a, T amount) const {
    if (shifts_out(amount)) return a < 0 ? static_cast<T>(-1) : T(0);
    return static_cast<T>(a >> amount);
  }
};

template <typename F, typename List>
PrepareKernel compare() {
  return [](PrepareContext& ctx) { return prepare_binary<List, F, bool>(ctx, 1); };
}
PrepareKernel compare_vectors(simd::Comparison op) {
  return [op](PrepareContext& ctx) -> Prepared {
    if (ctx.dtype(0) != DType::Float32) return decline("only float");
    expect_same_dtype(ctx, 2);
    Broadcast plan({ctx.dims(0), ctx.dims(1)});
    ctx.output(0, DType::Bool, plan.dims());
    return [plan = std::move(plan), row = simd::row(op)](RunContext& run) {
      const float* a = run.in<float>(0);
      const float* b = run.in<float>(1);
      uint8_t* out = run.out<uint8_t>(0);
      plan.rows(grain_for(0.3), [&](int64_t at, const int64_t* from, int64_t n) {
        row(a + from[0], plan.step(0), b + from[1], plan.step(1), out + at, n);
      });
    };
  };
}
template <typename F>
PrepareKernel bits() {
  return [](PrepareContext& ctx) { return prepare_binary<Ints, F>(ctx, 1); };
}

Prepared prepare_shift(PrepareContext& ctx) {
  const auto direction = ctx.attributes<BitShiftAttributes>().direction.value_or("");
  if (direction == "LEFT") return prepare_binary<Ints, ShiftLeft>(ctx, 1);
  if (direction == "RIGHT") return prepare_binary<Ints, ShiftRight>(ctx, 1);
  ctx.fail("attribute 'direction'", "LEFT or RIGHT", direction);
}

struct IsNaN {
  template <typename T>
  bool operator()(T x) const {
    return std::isnan(x);
  }
};
template <bool kNegative, bool kPositive>
struct IsInf {
  template <typename T>
  bool operator()(T x) const {
    return std::isinf(x) && (x < 0 ? kNegative : kPositive);
  }
};
using Float8s = Types<Float8E4M3FN, Float8E4M3FNUZ, Float8E5M2, Float8E5M2FNUZ>;
using Testable = Join<AllFloats, Float8s>;

Prepared prepare_is_nan(PrepareContext& ctx) { return prepare_unary<Testable, IsNaN, bool>(ctx, 1); }

Prepared prepare_is_inf(PrepareContext& ctx) {
  const auto a = ctx.attributes<IsInfAttributes>();
  if (a.detect_negative && a.detect_positive) return prepare_unary<Testable, IsInf<true, true>, bool>(ctx, 1);
  if (a.detect_negative) return prepare_unary<Testable, IsInf<true, false>, bool>(ctx, 1);
  if (a.detect_positive) return prepare_unary<Testable, IsInf<false, true>, bool>(ctx, 1);
  return prepare_unary<Testable, IsInf<false, false>, bool>(ctx, 1);
}

// Where for an element type of these bits.
template <typename T>
void select_rows(const Broadcast& plan, const uint8_t* condition, const T* x, const T* y, T* out) {
  const int64_t c_step = plan.step(0), x_step = plan.step(1), y_step = plan.step(2);
  plan.rows(grain_for(sizeof(T) > 16 ? 20 : 1), [&](int64_t at, const int64_t* from, int64_t n) {
    const uint8_t* c = condition + from[0];
    const T* a = x + from[1];
    const T* b = y + from[2];
    if constexpr (std::is_same_v<T, uint32_t>) {
      simd::select(c, c_step, a, x_step, b, y_step, out + at, n);
    } else {
      for (int64_t i = 0; i < n; ++i) out[at + i] = c[i * c_step] ? a[i * x_step] : b[i * y_step];
    }
  });
}

Prepared prepare_where(PrepareContext& ctx) {
  ctx.expect(ctx.dtype(0) == DType::Bool, "element type of the condition", "bool", dtype_name(ctx.dtype(0)));
  ctx.expect(ctx.dtype(1) == ctx.dtype(2), "element type of input 2", dtype_name(ctx.dtype(1)),
             dtype_name(ctx.dtype(2)));
  Broadcast plan({ctx.dims(0), ctx.dims(1), ctx.dims(2)});
  declare_elementwise(ctx, ctx.dtype(1), plan.dims());
  Prepared prepared = no_kernel_for(ctx.dtype(1));
  visit_storage(ctx.dtype(1), [&]<typename T>() {
    prepared = [plan = std::move(plan)](RunContext& run) {
      select_rows(plan, run.in<uint8_t>(0), run.in<T>(1), run.in<T>(2), run.out<T>(0));
    };
  });
  return prepared;
}

}  // namespace

void register_elementwise_compare(KernelRegistry& r) {
  r.add("Equal", "simd", kFirst, compare_vectors(simd::Comparison::Equal));
  r.add("Greater", "simd", kFirst, compare_vectors(simd::Comparison::Greater));
  r.add("GreaterOrEqual", "simd", kFirst, compare_vectors(simd::Comparison::GreaterOrEqual));
  r.add("Less", "simd", kFirst, compare_vectors(simd::Comparison::Less));
  r.add("LessOrEqual", "simd", kFirst, compare_vectors(simd::Comparison::LessOrEqual));
  r.ref("Equal", compare<Equal, Join<AllNumbers, Types<bool, std::string>>>());
  r.ref("Greater", compare<Greater, AllNumbers>());
  r.ref("GreaterOrEqual", compare<GreaterOrEqual, AllNumbers>());
  r.ref("Less", compare<Less, AllNumbers>());
  r.ref("LessOrEqual", compare<LessOrEqual, AllNumbers>());
  r.ref("And", compare<And, Types<bool>>());
  r.ref("Or", compare<Or, Types<bool>>());
  r.ref("Xor", compare<Xor, Types<bool>>());
  r.ref("BitwiseAnd", bits<BitwiseAnd>());
  r.ref("BitwiseOr", bits<BitwiseOr>());
  r.ref("BitwiseXor", bits<BitwiseXor>());
  r.ref("BitShift", prepare_shift);
  r.ref("IsNaN", prepare_is_nan);
  r.ref("IsInf", prepare_is_inf);
  r.ref("Where", prepare_where);
}

}  // namespace sardonyx::cpu
