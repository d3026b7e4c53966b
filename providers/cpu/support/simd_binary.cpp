#include "providers/cpu/support/simd.h"

#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS HWY_SSSE3
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "providers/cpu/support/simd_binary.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "providers/cpu/support/simd_bfloat16-inl.h"
#include "providers/cpu/support/simd_loop-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu::simd::HWY_NAMESPACE {
namespace {

using D = hn::ScalableTag<float>;
using DU = hn::RebindToUnsigned<D>;
using V = hn::Vec<D>;

template <Binary kOp>
HWY_INLINE V apply(V x, V y) {
  if constexpr (kOp == Binary::Add) return hn::Add(x, y);
  if constexpr (kOp == Binary::Sub) return hn::Sub(x, y);
  if constexpr (kOp == Binary::Mul) return hn::Mul(x, y);
  if constexpr (kOp == Binary::Div) return hn::Div(x, y);
  // A comparison with NaN is false: the second operand's NaN is taken by the first selection, the first
  // operand's by the second.
  if constexpr (kOp == Binary::Max)
    return hn::IfThenElse(hn::IsNaN(x), x, hn::IfThenElse(hn::Gt(x, y), x, y));
  if constexpr (kOp == Binary::Min)
    return hn::IfThenElse(hn::IsNaN(x), x, hn::IfThenElse(hn::Lt(x, y), x, y));
  if constexpr (kOp == Binary::ReluBackward) return hn::IfThenZeroElse(hn::Le(y, hn::Zero(D())), x);
  if constexpr (kOp == Binary::SigmoidBackward) return hn::Mul(x, hn::Mul(y, hn::Sub(hn::Set(D(), 1.0f), y)));
  if constexpr (kOp == Binary::TanhBackward) return hn::Mul(x, hn::NegMulAdd(y, y, hn::Set(D(), 1.0f)));
  if constexpr (kOp == Binary::HardSwishBackward) {
    const V slope = hn::MulAdd(y, hn::Set(D(), 1.0f / 3), hn::Set(D(), 0.5f));
    const V right = hn::IfThenElse(hn::Lt(y, hn::Set(D(), 3.0f)), hn::Mul(x, slope), x);
    return hn::IfThenZeroElse(hn::Le(y, hn::Set(D(), -3.0f)), right);
  }
  if constexpr (kOp == Binary::PRelu) return hn::IfThenElse(hn::Lt(x, hn::Zero(D())), hn::Mul(x, y), x);
}

// Elements as they are, or f32 from the bits of bf16.
template <class Tag, typename T>
HWY_INLINE hn::Vec<Tag> load(Tag tag, const T* p) {
  if constexpr (std::is_same_v<T, hn::TFromD<Tag>>)
    return hn::LoadU(tag, p);
  else
    return cpu::HWY_NAMESPACE::load_row(tag, p);
}

// A row of elements, or one element repeated. Loads past the end of a row go through a copy.
template <bool kStep, class Tag, typename T = hn::TFromD<Tag>>
class Operand {
 public:
  HWY_INLINE Operand(const T* p) : p_(p), repeated_(hn::Zero(Tag())) {
    if constexpr (!kStep) {
      HWY_ALIGN T buffer[hn::MaxLanes(Tag())];
      for (T& element : buffer) element = *p;
      repeated_ = load(Tag(), buffer);
    }
  }
  HWY_INLINE hn::Vec<Tag> at(int64_t i) const {
    if constexpr (kStep) return load(Tag(), p_ + i);
    return repeated_;
  }
  HWY_INLINE hn::Vec<Tag> last(int64_t i, int64_t count) const {
    if constexpr (kStep) {
      HWY_ALIGN T buffer[hn::MaxLanes(Tag())];
      copy_in(buffer, p_ + i, count);
      return load(Tag(), buffer);
    }
    return repeated_;
  }

 private:
  const T* p_;
  hn::Vec<Tag> repeated_;
};

template <class Tag>
HWY_INLINE void store_last(hn::Vec<Tag> v, hn::TFromD<Tag>* out, int64_t count) {
  HWY_ALIGN hn::TFromD<Tag> buffer[hn::MaxLanes(Tag())];
  hn::Store(v, Tag(), buffer);
  copy_out(buffer, out, count);
}

// T: float, or uint16_t for the bits of bf16, computed in f32.
template <Binary kOp, bool kX, bool kY, typename T>
void stepped(const T* x, const T* y, T* out, int64_t n) {
  using cpu::HWY_NAMESPACE::store_row;
  const Operand<kX, D, T> left(x);
  const Operand<kY, D, T> right(y);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) store_row(apply<kOp>(left.at(i), right.at(i)), D(), out + i);
  if (i == n) return;
  HWY_ALIGN T buffer[hn::MaxLanes(D())];
  store_row(apply<kOp>(left.last(i, n - i), right.last(i, n - i)), D(), buffer);
  copy_out(buffer, out + i, n - i);
}

template <Binary kOp, typename T>
void loop(const T* x, int64_t x_step, const T* y, int64_t y_step, T* out, int64_t n) {
  if (x_step && y_step) return stepped<kOp, true, true>(x, y, out, n);
  if (x_step) return stepped<kOp, true, false>(x, y, out, n);
  if (y_step) return stepped<kOp, false, true>(x, y, out, n);
  stepped<kOp, false, false>(x, y, out, n);
}

template <typename Row>
Row find(Binary op) {
  switch (op) {
    case Binary::Add:
      return loop<Binary::Add>;
    case Binary::Sub:
      return loop<Binary::Sub>;
    case Binary::Mul:
      return loop<Binary::Mul>;
    case Binary::Div:
      return loop<Binary::Div>;
    case Binary::Max:
      return loop<Binary::Max>;
    case Binary::Min:
      return loop<Binary::Min>;
    case Binary::PRelu:
      return loop<Binary::PRelu>;
    case Binary::ReluBackward:
      return loop<Binary::ReluBackward>;
    case Binary::SigmoidBackward:
      return loop<Binary::SigmoidBackward>;
    case Binary::TanhBackward:
      return loop<Binary::TanhBackward>;
    case Binary::HardSwishBackward:
      return loop<Binary::HardSwishBackward>;
  }
  return nullptr;
}

BinaryRow find_binary(Binary op) { return find<BinaryRow>(op); }
NarrowBinaryRow find_narrow(Binary op) { return find<NarrowBinaryRow>(op); }

template <Comparison kOp>
HWY_INLINE hn::Vec<hn::Rebind<uint8_t, D>> compare(V x, V y) {
  const hn::RebindToSigned<D> di;
  const auto as_bytes = [&](auto mask) HWY_ATTR {
    const auto ones = hn::IfThenElseZero(hn::RebindMask(di, mask), hn::Set(di, 1));
    return hn::DemoteTo(hn::Rebind<uint8_t, D>(), ones);
  };
  if constexpr (kOp == Comparison::Equal) return as_bytes(hn::Eq(x, y));
  if constexpr (kOp == Comparison::Greater) return as_bytes(hn::Gt(x, y));
  if constexpr (kOp == Comparison::GreaterOrEqual) return as_bytes(hn::Ge(x, y));
  if constexpr (kOp == Comparison::Less) return as_bytes(hn::Lt(x, y));
  if constexpr (kOp == Comparison::LessOrEqual) return as_bytes(hn::Le(x, y));
}

template <Comparison kOp, bool kX, bool kY>
void compared(const float* x, const float* y, uint8_t* out, int64_t n) {
  using DB = hn::Rebind<uint8_t, D>;
  const Operand<kX, D> left(x);
  const Operand<kY, D> right(y);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(D()));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(compare<kOp>(left.at(i), right.at(i)), DB(), out + i);
  if (i < n) store_last<DB>(compare<kOp>(left.last(i, n - i), right.last(i, n - i)), out + i, n - i);
}

template <Comparison kOp>
void compare_loop(const float* x, int64_t x_step, const float* y, int64_t y_step, uint8_t* out, int64_t n) {
  if (x_step && y_step) return compared<kOp, true, true>(x, y, out, n);
  if (x_step) return compared<kOp, true, false>(x, y, out, n);
  if (y_step) return compared<kOp, false, true>(x, y, out, n);
  compared<kOp, false, false>(x, y, out, n);
}

CompareRow find_comparison(Comparison op) {
  switch (op) {
    case Comparison::Equal:
      return compare_loop<Comparison::Equal>;
    case Comparison::Greater:
      return compare_loop<Comparison::Greater>;
    case Comparison::GreaterOrEqual:
      return compare_loop<Comparison::GreaterOrEqual>;
    case Comparison::Less:
      return compare_loop<Comparison::Less>;
    case Comparison::LessOrEqual:
      return compare_loop<Comparison::LessOrEqual>;
  }
  return nullptr;
}

template <bool kX, bool kY>
void select_by(const uint8_t* condition, const uint32_t* x, const uint32_t* y, uint32_t* out, int64_t n) {
  using DB = hn::Rebind<uint8_t, DU>;
  const DU d;
  const Operand<kX, DU> left(x);
  const Operand<kY, DU> right(y);
  const auto zero = hn::Zero(d);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto mask = hn::Ne(hn::PromoteTo(d, hn::LoadU(DB(), condition + i)), zero);
    hn::StoreU(hn::IfThenElse(mask, left.at(i), right.at(i)), d, out + i);
  }
  if (i == n) return;
  HWY_ALIGN uint8_t buffer[hn::MaxLanes(DB())];
  copy_in(buffer, condition + i, n - i);
  const auto mask = hn::Ne(hn::PromoteTo(d, hn::Load(DB(), buffer)), zero);
  store_last<DU>(hn::IfThenElse(mask, left.last(i, n - i), right.last(i, n - i)), out + i, n - i);
}

void select_rows(const uint8_t* condition, int64_t condition_step, const uint32_t* x, int64_t x_step,
                 const uint32_t* y, int64_t y_step, uint32_t* out, int64_t n) {
  if (!condition_step) {
    const uint32_t* from = *condition ? x : y;
    const int64_t step = *condition ? x_step : y_step;
    for (int64_t i = 0; i < n; ++i) out[i] = from[i * step];
    return;
  }
  if (x_step && y_step) return select_by<true, true>(condition, x, y, out, n);
  if (x_step) return select_by<true, false>(condition, x, y, out, n);
  if (y_step) return select_by<false, true>(condition, x, y, out, n);
  select_by<false, false>(condition, x, y, out, n);
}

}  // namespace
}  // namespace sardonyx::cpu::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sardonyx::cpu::simd {
HWY_EXPORT(find_binary);
HWY_EXPORT(find_narrow);
HWY_EXPORT(find_comparison);
HWY_EXPORT(select_rows);
BinaryRow row(Binary op) { return HWY_DYNAMIC_DISPATCH(find_binary)(op); }
NarrowBinaryRow narrow_row(Binary op) { return HWY_DYNAMIC_DISPATCH(find_narrow)(op); }
CompareRow row(Comparison op) { return HWY_DYNAMIC_DISPATCH(find_comparison)(op); }
void select(const uint8_t* condition, int64_t condition_step, const uint32_t* x, int64_t x_step,
            const uint32_t* y, int64_t y_step, uint32_t* out, int64_t n) {
  HWY_DYNAMIC_DISPATCH(select_rows)(condition, condition_step, x, x_step, y, y_step, out, n);
}
}  // namespace sardonyx::cpu::simd
#endif
