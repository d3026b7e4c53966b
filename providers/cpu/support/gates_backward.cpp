#include "providers/cpu/support/gates_backward.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/support/gates_backward.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "hwy/contrib/math/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// f(tag, load, store) for every vector, where load(p) reads p[i...] and store(v, p) writes there; what is
// left goes element by element.
template <typename T, class F>
HWY_INLINE void vectors(int64_t n, F f) {
  const hn::ScalableTag<T> d;
  const hn::CappedTag<T, 1> one;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  const auto at = [&](auto tag) HWY_ATTR {
    f(
        tag, [=](const T* p) HWY_ATTR { return hn::LoadU(tag, p + i); },
        [=](hn::Vec<decltype(tag)> v, T* p) HWY_ATTR { hn::StoreU(v, tag, p + i); });
  };
  for (; i + lanes <= n; i += lanes) at(d);
  for (; i < n; ++i) at(one);
}

template <class D, class V>
HWY_INLINE V sigmoid(D d, V x) {
  const V one = hn::Set(d, 1);
  const V e = hn::Exp(d, hn::Neg(hn::Abs(x)));
  const V s = hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one), hn::Add(one, e));
  return hn::IfThenElse(hn::Eq(x, x), s, x);
}
template <class D, class V>
HWY_INLINE V tanh_of(D d, V x) {
  return hn::IfThenElse(hn::Eq(x, x), hn::Tanh(d, x), x);
}
// s * (1 - s) and 1 - t * t
template <class V>
HWY_INLINE V slope(V s) {
  return hn::NegMulAdd(s, s, s);
}
template <class D, class V>
HWY_INLINE V tanh_slope(D d, V t) {
  return hn::NegMulAdd(t, t, hn::Set(d, 1));
}

template <typename T>
HWY_INLINE void activate(const T* x, T* y, int64_t n, int64_t tanhs) {
  vectors<T>(n, [&](auto d, auto load, auto store) HWY_ATTR { store(sigmoid(d, load(x)), y); });
  x += n, y += n;
  vectors<T>(tanhs, [&](auto d, auto load, auto store) HWY_ATTR { store(tanh_of(d, load(x)), y); });
}

template <typename T>
HWY_INLINE void cell(const T* gates, int64_t stride, const T* before, T* c, T* t, int64_t n) {
  vectors<T>(n, [&](auto d, auto load, auto store) HWY_ATTR {
    const auto now =
        hn::MulAdd(load(gates + 2 * stride), load(before), hn::Mul(load(gates), load(gates + 3 * stride)));
    store(now, c);
    store(tanh_of(d, now), t);
  });
}

template <typename T>
HWY_INLINE void lstm(T* gates, int64_t stride, const T* before, const T* t, const T* dh, T* dc, int64_t n) {
  T *in = gates, *out = gates + stride, *forget = gates + 2 * stride, *fresh = gates + 3 * stride;
  vectors<T>(n, [&](auto d, auto load, auto store) HWY_ATTR {
    const auto i = load(in), o = load(out), f = load(forget), g = load(fresh), tc = load(t), dy = load(dh);
    const auto by_cell = hn::MulAdd(hn::Mul(dy, o), tanh_slope(d, tc), load(dc));
    store(hn::Mul(hn::Mul(by_cell, g), slope(i)), in);
    store(hn::Mul(hn::Mul(dy, tc), slope(o)), out);
    store(hn::Mul(hn::Mul(by_cell, load(before)), slope(f)), forget);
    store(hn::Mul(hn::Mul(by_cell, i), tanh_slope(d, g)), fresh);
    store(hn::Mul(by_cell, f), dc);
  });
}

template <typename T>
HWY_INLINE void gru_forward(const T* x, const T* h, T* gates, int64_t stride, int64_t n) {
  vectors<T>(n, [&](auto d, auto load, auto store) HWY_ATTR {
    const auto reset = sigmoid(d, hn::Add(load(x + stride), load(h + stride)));
    store(sigmoid(d, hn::Add(load(x), load(h))), gates);
    store(reset, gates + stride);
    store(tanh_of(d, hn::MulAdd(reset, load(h + 2 * stride), load(x + 2 * stride))), gates + 2 * stride);
  });
}

template <typename T>
HWY_INLINE void gru(T* gates, T* d_h, int64_t stride, const T* h, const T* before, const T* dh, T* carry,
                    int64_t n) {
  vectors<T>(n, [&](auto d, auto load, auto store) HWY_ATTR {
    const auto z = load(gates), r = load(gates + stride), fresh = load(gates + 2 * stride), dy = load(dh);
    const auto d_z = hn::Mul(hn::Mul(dy, hn::Sub(load(before), fresh)), slope(z));
    const auto d_fresh = hn::Mul(hn::NegMulAdd(dy, z, dy), tanh_slope(d, fresh));
    const auto d_r = hn::Mul(hn::Mul(d_fresh, load(h)), slope(r));
    store(d_z, gates), store(d_z, d_h);
    store(d_r, gates + stride), store(d_r, d_h + stride);
    store(d_fresh, gates + 2 * stride), store(hn::Mul(d_fresh, r), d_h + 2 * stride);
    store(hn::Mul(dy, z), carry);
  });
}

template <typename T>
HWY_INLINE void rnn(const T* y, const T* dh, T* dx, int64_t n) {
  vectors<T>(n, [&](auto d, auto load, auto store)
                    HWY_ATTR { store(hn::Mul(load(dh), tanh_slope(d, load(y))), dx); });
}

#define SARDONYX_GATES(T, S)                                                                           \
  void Activate##S(const T* x, T* y, int64_t n, int64_t tanhs) { activate(x, y, n, tanhs); }           \
  void Cell##S(const T* gates, int64_t stride, const T* before, T* c, T* t, int64_t n) {               \
    cell(gates, stride, before, c, t, n);                                                              \
  }                                                                                                    \
  void Lstm##S(T* gates, int64_t stride, const T* before, const T* t, const T* dh, T* dc, int64_t n) { \
    lstm(gates, stride, before, t, dh, dc, n);                                                         \
  }                                                                                                    \
  void GruGates##S(const T* x, const T* h, T* gates, int64_t stride, int64_t n) {                      \
    gru_forward(x, h, gates, stride, n);                                                               \
  }                                                                                                    \
  void Gru##S(T* gates, T* d_h, int64_t stride, const T* h, const T* before, const T* dh, T* carry,    \
              int64_t n) {                                                                             \
    gru(gates, d_h, stride, h, before, dh, carry, n);                                                  \
  }                                                                                                    \
  void Rnn##S(const T* y, const T* dh, T* d, int64_t n) { rnn(y, dh, d, n); }
SARDONYX_GATES(float, F32)
SARDONYX_GATES(double, F64)
#undef SARDONYX_GATES

}  // namespace sardonyx::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu {

#define SARDONYX_GATES(T, S)                                                                                 \
  HWY_EXPORT(Activate##S);                                                                                   \
  HWY_EXPORT(Cell##S);                                                                                       \
  HWY_EXPORT(Lstm##S);                                                                                       \
  HWY_EXPORT(GruGates##S);                                                                                   \
  HWY_EXPORT(Gru##S);                                                                                        \
  HWY_EXPORT(Rnn##S);                                                                                        \
  template <>                                                                                                \
  void activate_gates(const T* x, T* y, int64_t n, int64_t tanhs) {                                          \
    HWY_DYNAMIC_DISPATCH(Activate##S)(x, y, n, tanhs);                                                       \
  }                                                                                                          \
  template <>                                                                                                \
  void lstm_cell(const T* gates, int64_t stride, const T* before, T* c, T* t, int64_t n) {                   \
    HWY_DYNAMIC_DISPATCH(Cell##S)(gates, stride, before, c, t, n);                                           \
  }                                                                                                          \
  template <>                                                                                                \
  void lstm_backward(T* gates, int64_t stride, const T* before, const T* t, const T* dh, T* dc, int64_t n) { \
    HWY_DYNAMIC_DISPATCH(Lstm##S)(gates, stride, before, t, dh, dc, n);                                      \
  }                                                                                                          \
  template <>                                                                                                \
  void gru_gates(const T* x, const T* h, T* gates, int64_t stride, int64_t n) {                              \
    HWY_DYNAMIC_DISPATCH(GruGates##S)(x, h, gates, stride, n);                                               \
  }                                                                                                          \
  template <>                                                                                                \
  void gru_backward(T* gates, T* d_h, int64_t stride, const T* h, const T* before, const T* dh, T* carry,    \
                    int64_t n) {                                                                             \
    HWY_DYNAMIC_DISPATCH(Gru##S)(gates, d_h, stride, h, before, dh, carry, n);                               \
  }                                                                                                          \
  template <>                                                                                                \
  void rnn_backward(const T* y, const T* dh, T* d, int64_t n) {                                              \
    HWY_DYNAMIC_DISPATCH(Rnn##S)(y, dh, d, n);                                                               \
  }
SARDONYX_GATES(float, F32)
SARDONYX_GATES(double, F64)
#undef SARDONYX_GATES

}  // namespace sardonyx::cpu
#endif
