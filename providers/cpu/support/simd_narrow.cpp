// Binary functions on bf16 in one pass, computed in f32.
#include "providers/cpu/support/simd.h"

#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS HWY_SSSE3
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/support/simd_narrow.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "providers/cpu/support/simd_bfloat16-inl.h"
#include "providers/cpu/support/simd_loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::simd::HWY_NAMESPACE {
namespace {

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;
using cpu::HWY_NAMESPACE::load_row;
using cpu::HWY_NAMESPACE::store_row;

template <Binary kOp>
HWY_INLINE V apply(V x, V y) {
  if constexpr (kOp == Binary::Add) return hn::Add(x, y);
  if constexpr (kOp == Binary::Sub) return hn::Sub(x, y);
  if constexpr (kOp == Binary::Mul) return hn::Mul(x, y);
  if constexpr (kOp == Binary::Div) return hn::Div(x, y);
}

// A row of elements, or one element repeated.
template <bool kStep>
class Operand {
 public:
  HWY_INLINE explicit Operand(const uint16_t* p) : p_(p), repeated_(hn::Zero(D())) {
    if constexpr (!kStep) {
      HWY_ALIGN uint16_t buffer[hn::MaxLanes(D())];
      for (uint16_t& bits : buffer) bits = *p;
      repeated_ = load_row(D(), buffer);
    }
  }
  HWY_INLINE V at(int64_t i) const {
    if constexpr (kStep) return load_row(D(), p_ + i);
    return repeated_;
  }
  HWY_INLINE V last(int64_t i, int64_t count) const {
    if constexpr (kStep) {
      HWY_ALIGN uint16_t buffer[hn::MaxLanes(D())];
      copy_in(buffer, p_ + i, count);
      return load_row(D(), buffer);
    }
    return repeated_;
  }

 private:
  const uint16_t* p_;
  V repeated_;
};

template <Binary kOp, bool kX, bool kY>
void stepped(const uint16_t* x, const uint16_t* y, uint16_t* out, int64_t n) {
  const Operand<kX> left(x);
  const Operand<kY> right(y);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) store_row(apply<kOp>(left.at(i), right.at(i)), D(), out + i);
  if (i == n) return;
  HWY_ALIGN uint16_t buffer[hn::MaxLanes(D())];
  store_row(apply<kOp>(left.last(i, n - i), right.last(i, n - i)), D(), buffer);
  copy_out(buffer, out + i, n - i);
}

template <Binary kOp>
void loop(const uint16_t* x, int64_t x_step, const uint16_t* y, int64_t y_step, uint16_t* out, int64_t n) {
  if (x_step && y_step) return stepped<kOp, true, true>(x, y, out, n);
  if (x_step) return stepped<kOp, true, false>(x, y, out, n);
  if (y_step) return stepped<kOp, false, true>(x, y, out, n);
  stepped<kOp, false, false>(x, y, out, n);
}

NarrowBinaryRow find(Binary op) {
  switch (op) {
    case Binary::Add:
      return loop<Binary::Add>;
    case Binary::Sub:
      return loop<Binary::Sub>;
    case Binary::Mul:
      return loop<Binary::Mul>;
    case Binary::Div:
      return loop<Binary::Div>;
    default:
      return nullptr;
  }
}

}  // namespace
}  // namespace sardonyx::cpu::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu::simd {
HWY_EXPORT(find);
NarrowBinaryRow narrow_row(Binary op) { return HWY_DYNAMIC_DISPATCH(find)(op); }
}  // namespace sardonyx::cpu::simd
#endif
