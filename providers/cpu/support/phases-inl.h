// Splitting a row by column modulo a stride. Included once for each instruction set by files on Highway's
// foreach_target.
#if defined(SARDONYX_PHASES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef SARDONYX_PHASES_INL_H
#undef SARDONYX_PHASES_INL_H
#else
#define SARDONYX_PHASES_INL_H
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace sardonyx::cpu {
namespace HWY_NAMESPACE {

// phases[p * length + j] = row[j * stride + p] for p < stride and j < length.
template <typename T>
void split_phases(const T* HWY_RESTRICT row, int64_t stride, int64_t length, T* HWY_RESTRICT phases) {
  namespace hn = hwy::HWY_NAMESPACE;
  int64_t done = 0;
  if (stride == 2) {
    const hn::ScalableTag<T> d;
    const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
    for (; done + lanes <= length; done += lanes) {
      hn::Vec<hn::ScalableTag<T>> even, odd;
      hn::LoadInterleaved2(d, row + 2 * done, even, odd);
      hn::StoreU(even, d, phases + done);
      hn::StoreU(odd, d, phases + length + done);
    }
  }
  for (int64_t p = 0; p < stride; ++p)
    for (int64_t j = done; j < length; ++j) phases[p * length + j] = row[j * stride + p];
}

}  // namespace HWY_NAMESPACE
}  // namespace sardonyx::cpu
HWY_AFTER_NAMESPACE();
#endif
