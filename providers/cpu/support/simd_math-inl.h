// Elementary functions of f32 vectors, for the instruction set being compiled. Included once for each.
#if defined(SARDONYX_SIMD_MATH_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef SARDONYX_SIMD_MATH_INL
#undef SARDONYX_SIMD_MATH_INL
#else
#define SARDONYX_SIMD_MATH_INL
#endif

#include <hwy/highway.h>

#include <limits>

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::simd::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<float>;
using DI = hn::RebindToSigned<D>;
using DU = hn::RebindToUnsigned<D>;
using V = hn::Vec<D>;

HWY_INLINE V constant(float value) { return hn::Set(D(), value); }

// c[0] + c[1] x + c[2] x^2 + ...
template <size_t kCount>
HWY_INLINE V polynomial(V x, const float (&c)[kCount]) {
  V y = constant(c[kCount - 1]);
  for (size_t k = kCount - 1; k-- > 0;) y = hn::MulAdd(y, x, constant(c[k]));
  return y;
}

// x within [low, high]; NaN stays NaN.
HWY_INLINE V clamp(V x, float low, float high) {
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_SSE4
  // The instructions give their second operand when either is NaN.
  return hn::Min(constant(high), hn::Max(constant(low), x));
#else
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Min(constant(high), hn::Max(constant(low), x)));
#endif
}

// y * 2^n for whole n in [-152, 130] and 0.5 <= |y| <= 2, rounded once.
HWY_INLINE V scaled(V y, V n) {
#if HWY_TARGET == HWY_AVX3
  return V{_mm512_scalef_ps(y.raw, n.raw)};
#else
  // In two factors, so that neither leaves the range before the product does.
  const DI di;
  const auto whole = hn::ConvertTo(di, n);
  const auto half = hn::ShiftRight<1>(whole), bias = hn::Set(di, 127);
  const V first = hn::BitCast(D(), hn::ShiftLeft<23>(hn::Add(half, bias)));
  const V second = hn::BitCast(D(), hn::ShiftLeft<23>(hn::Add(hn::Sub(whole, half), bias)));
  return hn::Mul(hn::Mul(y, first), second);
#endif
}

// x = n ln 2 + r with |r| <= ln 2 / 2. |x| is at most a few hundred.
HWY_INLINE V reduce(V x, V* n) {
  *n = hn::Round(hn::Mul(x, constant(1.44269504f)));
  const V r = hn::NegMulAdd(*n, constant(0.693359375f), x);  // exact: the constant has 9 bits
  return hn::NegMulAdd(*n, constant(-2.12194440e-4f), r);
}

HWY_INLINE V exp(V x) {
  static constexpr float kSeries[] = {
      1, 1, 0.4999999f, 0.1666642f, 0.041668233f, 0.008374899f, 0.0013836742f};
  V n;
  const V r = reduce(clamp(x, -105.0f, 90.0f), &n);
  return scaled(polynomial(r, kSeries), n);
}

// exp(x) - 1 for x <= 0; NaN for NaN.
HWY_INLINE V expm1_negative(V x) {
  static constexpr float kSeries[] = {0.5f, 0.16666542f, 0.04166628f, 0.008366644f, 0.0013946554f};
  V n;
  const V r = reduce(clamp(x, -30.0f, 0.0f), &n);
  const V p = hn::MulAdd(hn::Mul(r, r), polynomial(r, kSeries), r);
#if HWY_TARGET == HWY_AVX3
  const V scale = scaled(constant(1), n);
#else
  const V scale = hn::BitCast(D(), hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(DI(), n), hn::Set(DI(), 127))));
#endif
  return hn::MulAdd(scale, p, hn::Sub(scale, constant(1)));
}

// log(x) + shift ln 2 for positive, finite, normal x.
HWY_INLINE V log_normal(V x, V shift) {
  static constexpr float kSeries[] = {0.3333333f,  -0.2500082f,  0.20001227f, -0.16623357f,
                                      0.14201757f, -0.13160183f, 0.12761578f, -0.076344974f};
  const DI di;
  // x = 2^e m with m in [sqrt(1/2), sqrt(2)).
  const auto bits = hn::BitCast(di, x);
  const auto e = hn::ShiftRight<23>(hn::Sub(bits, hn::Set(di, 0x3f3504f3)));
  const V f = hn::Sub(hn::BitCast(D(), hn::Sub(bits, hn::ShiftLeft<23>(e))), constant(1));
  const V exponent = hn::Add(hn::ConvertTo(D(), e), shift);
  const V ff = hn::Mul(f, f);
  V y = hn::Mul(hn::Mul(ff, f), polynomial(f, kSeries));
  y = hn::MulAdd(exponent, constant(-2.12194440e-4f), y);
  y = hn::NegMulAdd(ff, constant(0.5f), y);
  return hn::MulAdd(exponent, constant(0.693359375f), hn::Add(y, f));
}

HWY_INLINE V log(V x) {
  const auto tiny = hn::Lt(x, constant(1.17549435e-38f));
  const V normal = hn::IfThenElse(tiny, hn::Mul(x, constant(8388608.0f)), x);
  V y = log_normal(normal, hn::IfThenElseZero(tiny, constant(-23)));
  const float infinity = std::numeric_limits<float>::infinity();
  y = hn::IfThenElse(hn::Eq(x, constant(infinity)), x, y);
  y = hn::IfThenElse(hn::Eq(x, constant(0)), constant(-infinity), y);
  y = hn::IfThenElse(hn::Lt(x, constant(0)), constant(std::numeric_limits<float>::quiet_NaN()), y);
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

// log(1 + u) for u in [0, 1]; NaN for NaN.
HWY_INLINE V log1p_unit(V u) {
  const V y = hn::Add(u, constant(1));
  return hn::Add(log_normal(y, hn::Zero(D())), hn::Div(hn::Sub(u, hn::Sub(y, constant(1))), y));
}

HWY_INLINE V tanh(V x) {
  const V e = expm1_negative(hn::Mul(hn::Abs(x), constant(-2)));
  return hn::CopySign(hn::Div(e, hn::Add(e, constant(2))), x);
}

HWY_INLINE V sigmoid(V x) {
  const V e = exp(hn::Neg(hn::Abs(x)));
  return hn::Div(hn::IfThenElse(hn::Lt(x, constant(0)), e, constant(1)), hn::Add(e, constant(1)));
}

// erf(x) for |x| <= 0.875.
HWY_INLINE V erf_small(V x) {
  static constexpr float kSeries[] = {0.12837917f,  -0.37612635f,   0.11283733f,  -0.026861586f,
                                      0.005206748f, -0.0008211109f, 8.675411e-05f};
  return hn::MulAdd(x, polynomial(hn::Mul(x, x), kSeries), x);
}

// erfc(t) for t in [0, 15], as exp(-t^2) times a polynomial of 1 / (1 + t / 2). t^2 comes as a rounded square
// and what rounding took from it (0 on targets that do not fuse).
HWY_INLINE V erfc(V t, V square, V lost) {
  static constexpr float kSeries[] = {-8.223339e-08f, 0.2820864f,  0.28239056f,  0.24295707f, 0.20333591f,
                                      -0.028253319f,  0.28051648f, -0.48939216f, 0.2856513f,  -0.059292205f};
  const V y = hn::Div(constant(1), hn::MulAdd(t, constant(0.5f), constant(1)));
  const V e = exp(hn::Neg(square));
  return hn::Mul(hn::NegMulAdd(e, lost, e), polynomial(y, kSeries));
}

HWY_INLINE V erf(V x) {
  const V t = hn::Min(hn::Abs(x), constant(15));
  const V square = hn::Mul(t, t);
  const V large = hn::CopySign(hn::Sub(constant(1), erfc(t, square, hn::MulSub(t, t, square))), x);
  const V y = hn::IfThenElse(hn::Gt(t, constant(0.875f)), large, erf_small(x));
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

// x / 2 erfc(-x / sqrt(2)): accurate relative to the result also where 1 + erf would cancel.
HWY_INLINE V gelu(V x) {
  const V bounded = hn::Min(hn::Abs(x), constant(21)), half = constant(0.5f);
  const V square = hn::Mul(bounded, bounded);
  const V tail = hn::Mul(half, erfc(hn::Mul(bounded, constant(0.70710678f)), hn::Mul(half, square),
                                    hn::Mul(half, hn::MulSub(bounded, bounded, square))));
  return hn::Mul(x, hn::IfThenElse(hn::Lt(x, constant(0)), tail, hn::Sub(constant(1), tail)));
}

// Sine (kShift 0) or cosine (kShift 1), for |x| up to kLargestAngle; NaN for NaN.
constexpr float kLargestAngle = 8192;
template <int kShift>
HWY_INLINE V sine(V x) {
  static constexpr float kSine[] = {-0.16666654f, 0.008332131f, -0.0001951084f};
  static constexpr float kCosine[] = {0.041666646f, -0.0013887306f, 2.4431205e-05f};
  const DI di;
  const V n = hn::Round(hn::Mul(x, constant(0.636619772f)));
  // pi / 2 in four parts of few bits, so that their products with n are exact on every target.
  V r = hn::NegMulAdd(n, constant(1.5703125f), x);
  r = hn::NegMulAdd(n, constant(4.8351287841796875e-4f), r);
  r = hn::NegMulAdd(n, constant(3.1385570764541626e-7f), r);
  r = hn::NegMulAdd(n, constant(6.07710062827671e-11f), r);
  const V rr = hn::Mul(r, r);
  const V s = hn::MulAdd(hn::Mul(rr, r), polynomial(rr, kSine), r);
  const V c =
      hn::MulAdd(hn::Mul(rr, rr), polynomial(rr, kCosine), hn::NegMulAdd(rr, constant(0.5f), constant(1)));
  const auto quadrant = hn::Add(hn::ConvertTo(di, n), hn::Set(di, kShift));
  const auto odd = hn::Ne(hn::And(quadrant, hn::Set(di, 1)), hn::Zero(di));
  const auto sign = hn::ShiftLeft<30>(hn::And(quadrant, hn::Set(di, 2)));
  return hn::Xor(hn::IfThenElse(hn::RebindMask(D(), odd), c, s), hn::BitCast(D(), sign));
}

}  // namespace
}  // namespace sardonyx::cpu::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
