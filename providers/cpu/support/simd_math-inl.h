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
template <size_t kCount> HWY_INLINE V polynomial(V x, const float (&c)[kCount]) {
  V y = constant(c[kCount - 1]);
  for (size_t k = kCount - 1; k-- > 0;) y = hn::MulAdd(y, x, constant(c[k]));
  return y;
}

// x = n ln 2 + r with |r| <= ln 2 / 2; returns exp(r) - 1 and n. |x| is at most a few hundred.
HWY_INLINE V reduced_expm1(V x, hn::Vec<DI>* n) {
  static constexpr float kSeries[] = {0.5f, 0.16666667f, 0.041666355f, 0.008333273f, 0.0013941103f, 0.00019914302f};
  const V rounded = hn::Round(hn::Mul(x, constant(1.44269504f)));
  V r = hn::NegMulAdd(rounded, constant(0.693359375f), x);  // exact: the constant has 9 bits
  r = hn::NegMulAdd(rounded, constant(-2.12194440e-4f), r);
  *n = hn::ConvertTo(DI(), rounded);
  return hn::MulAdd(hn::Mul(r, r), polynomial(r, kSeries), r);
}

// 2^n for n in [-126, 127].
HWY_INLINE V power_of_two(hn::Vec<DI> n) {
  return hn::BitCast(D(), hn::ShiftLeft<23>(hn::Add(n, hn::Set(DI(), 127))));
}

HWY_INLINE V clamp(V x, float low, float high) { return hn::Min(hn::Max(x, constant(low)), constant(high)); }

HWY_INLINE V exp(V x) {
  hn::Vec<DI> n;
  const V p = reduced_expm1(clamp(x, -105.0f, 90.0f), &n);
  // In two factors, so that neither leaves the range before the product does.
  const hn::Vec<DI> half = hn::ShiftRight<1>(n);
  const V y = hn::Mul(hn::Mul(hn::Add(p, constant(1)), power_of_two(half)), power_of_two(hn::Sub(n, half)));
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

// exp(x) - 1 for x <= 0; NaN for NaN.
HWY_INLINE V expm1_negative(V x) {
  hn::Vec<DI> n;
  const V p = reduced_expm1(clamp(x, -30.0f, 0.0f), &n);
  const V scale = power_of_two(n);
  const V y = hn::MulAdd(scale, p, hn::Sub(scale, constant(1)));
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

HWY_INLINE V log(V x) {
  static constexpr float kSeries[] = {0.3333333f,  -0.2500082f,  0.20001227f, -0.16623357f,
                                      0.14201757f, -0.13160183f, 0.12761578f, -0.076344974f};
  const DI di;
  const auto tiny = hn::Lt(x, constant(1.17549435e-38f));
  const V normal = hn::IfThenElse(tiny, hn::Mul(x, constant(8388608.0f)), x);
  // normal = 2^e m with m in [sqrt(1/2), sqrt(2)).
  const auto bits = hn::BitCast(di, normal);
  const auto e = hn::ShiftRight<23>(hn::Sub(bits, hn::Set(di, 0x3f3504f3)));
  const V m = hn::BitCast(D(), hn::Sub(bits, hn::ShiftLeft<23>(e)));
  const V f = hn::Sub(m, constant(1));
  V exponent = hn::ConvertTo(D(), e);
  exponent = hn::IfThenElse(tiny, hn::Sub(exponent, constant(23)), exponent);
  const V ff = hn::Mul(f, f);
  V y = hn::Mul(hn::Mul(ff, f), polynomial(f, kSeries));
  y = hn::MulAdd(exponent, constant(-2.12194440e-4f), y);
  y = hn::NegMulAdd(ff, constant(0.5f), y);
  y = hn::MulAdd(exponent, constant(0.693359375f), hn::Add(y, f));
  const float infinity = std::numeric_limits<float>::infinity();
  y = hn::IfThenElse(hn::Eq(x, constant(infinity)), x, y);
  y = hn::IfThenElse(hn::Eq(x, constant(0)), constant(-infinity), y);
  y = hn::IfThenElse(hn::Lt(x, constant(0)), constant(std::numeric_limits<float>::quiet_NaN()), y);
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

// log(1 + u) for u in [0, 1].
HWY_INLINE V log1p_unit(V u) {
  const V y = hn::Add(u, constant(1));
  return hn::Add(log(y), hn::Div(hn::Sub(u, hn::Sub(y, constant(1))), y));
}

HWY_INLINE V tanh(V x) {
  const V e = expm1_negative(hn::Mul(hn::Abs(x), constant(-2)));
  return hn::CopySign(hn::Div(e, hn::Add(e, constant(2))), x);
}

HWY_INLINE V sigmoid(V x) {
  const V e = exp(hn::Neg(hn::Abs(x)));
  const V numerator = hn::IfThenElse(hn::Lt(x, constant(0)), e, constant(1));
  return hn::Div(numerator, hn::Add(e, constant(1)));
}

// erf(x) for |x| <= 0.875.
HWY_INLINE V erf_small(V x) {
  static constexpr float kSeries[] = {0.12837917f,   -0.37612635f,   0.11283733f,  -0.026861586f,
                                      0.005206748f, -0.0008211109f, 8.675411e-05f};
  return hn::MulAdd(x, polynomial(hn::Mul(x, x), kSeries), x);
}

// erfc(t) for t in [0.875, 15], as exp(-t^2) times a polynomial of 1 / (1 + t / 2). t^2 comes as a rounded
// square and what rounding took from it (0 on targets that do not fuse).
HWY_INLINE V erfc_large(V t, V square, V lost) {
  static constexpr float kSeries[] = {-5.654907e-06f, 0.28224006f, 0.28054133f,    0.25570413f, 0.14799692f,
                                      0.12811905f,    -0.0061460747f, -0.16137896f, 0.073274836f};
  const V y = hn::Div(constant(1), hn::MulAdd(t, constant(0.5f), constant(1)));
  const V e = exp(hn::Neg(square));
  return hn::Mul(hn::NegMulAdd(e, lost, e), polynomial(y, kSeries));
}

HWY_INLINE V erf(V x) {
  const V t = hn::Min(hn::Abs(x), constant(15));
  const V square = hn::Mul(t, t);
  const V large = hn::CopySign(hn::Sub(constant(1), erfc_large(t, square, hn::MulSub(t, t, square))), x);
  const V y = hn::IfThenElse(hn::Gt(t, constant(0.875f)), large, erf_small(x));
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

// x / 2 erfc(-x / sqrt(2)): accurate relative to the result also where 1 + erf would cancel.
HWY_INLINE V gelu(V x) {
  const V bounded = hn::Min(hn::Abs(x), constant(21));
  const V t = hn::Mul(bounded, constant(0.70710678f));
  const V square = hn::Mul(bounded, bounded), half = constant(0.5f);
  const V tail = erfc_large(t, hn::Mul(half, square), hn::Mul(half, hn::MulSub(bounded, bounded, square)));
  const V large = hn::IfThenElse(hn::Lt(x, constant(0)), tail, hn::Sub(constant(2), tail));
  const V small = hn::Add(constant(1), hn::CopySign(erf_small(t), x));
  return hn::Mul(hn::Mul(x, half), hn::IfThenElse(hn::Gt(t, constant(0.875f)), large, small));
}

}  // namespace
}  // namespace sardonyx::cpu::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
