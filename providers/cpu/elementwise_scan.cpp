// CumSum and CumProd.
#include <algorithm>
#include <array>

#include "graph/shape.h"
#include "ops/elementwise.h"
#include "providers/cpu/support/elementwise.h"
#include "providers/cpu/support/integers.h"

namespace sardonyx::cpu {

namespace {

// f32 sums are carried in double: the last of many is as good as the first.
template <typename T>
using Carried = std::conditional_t<std::is_floating_point_v<Compute<T>>, double, T>;

struct Sum {
  static constexpr int kStart = 0;
  template <typename T>
  T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>)
      return wrapped<T>(unsigned_of(a) + unsigned_of(b));
    else
      return a + b;
  }
};
struct Product {
  static constexpr int kStart = 1;
  template <typename T>
  T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>)
      return wrapped<T>(unsigned_of(a) * unsigned_of(b));
    else
      return a * b;
  }
};

// x as [outer, length, inner]; lines along the middle dimension are scanned, some side by side.
struct Lines {
  int64_t outer, length, inner;
  bool exclusive, reverse;
};

template <typename T, typename F>
void scan(const Lines& lines, const T* x, T* y) {
  using C = Carried<T>;
  constexpr int64_t kSide = 64;
  const int64_t blocks = (lines.inner + kSide - 1) / kSide;
  const double work = static_cast<double>(lines.length * std::min(lines.inner, kSide)) + 1;
  parallel_for(lines.outer * blocks, grain_for(work), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t first = item % blocks * kSide, side = std::min(kSide, lines.inner - first);
      const int64_t base = item / blocks * lines.length * lines.inner + first;
      std::array<C, kSide> carried;
      carried.fill(static_cast<C>(F::kStart));
      for (int64_t i = 0; i < lines.length; ++i) {
        const int64_t at = base + (lines.reverse ? lines.length - 1 - i : i) * lines.inner;
        for (int64_t k = 0; k < side; ++k) {
          C& c = carried[static_cast<size_t>(k)];
          const C next = F()(c, static_cast<C>(widen(x[at + k])));
          y[at + k] = static_cast<T>(lines.exclusive ? c : next);
          c = next;
        }
      }
    }
  });
}

template <typename F>
Prepared prepare_scan(PrepareContext& ctx) {
  using Scannable = Join<AllFloats, Types<int32_t, int64_t, uint32_t, uint64_t>>;
  const auto a = ctx.attributes<CumulativeAttributes>();
  const DType axis_dtype = ctx.dtype(1);
  ctx.expect(axis_dtype == DType::Int32 || axis_dtype == DType::Int64, "element type of 'axis'",
             "int32 or int64", dtype_name(axis_dtype));
  ctx.expect(ctx.input(1).size() == 1, "input 'axis'", "a scalar", to_string(ctx.dims(1)));
  Prepared prepared = no_kernel_for(ctx.dtype(0));
  visit<Scannable>(ctx.dtype(0), [&]<typename T>() {
    ctx.output(0, ctx.dtype(0), ctx.dims(0));
    ctx.may_share(0, 0);
    prepared = [a, dims = ctx.dims(0)](RunContext& run) {
      const int64_t at = run.input(1).to_int64s()[0];
      // A scalar has one element, which is its own sum along axis 0 or -1.
      const int rank = std::max<int>(1, static_cast<int>(dims.size()));
      const int axis = normalize_axis(at, rank);
      Lines lines{1, 1, 1, a.exclusive != 0, a.reverse != 0};
      for (int d = 0; d < static_cast<int>(dims.size()); ++d)
        (d < axis ? lines.outer : d == axis ? lines.length : lines.inner) *= dims[static_cast<size_t>(d)];
      scan<T, F>(lines, run.in<T>(0), run.out<T>(0));
    };
  });
  return prepared;
}

}  // namespace

void register_elementwise_scan(KernelRegistry& r) {
  r.ref("CumSum", prepare_scan<Sum>);
  r.ref("CumProd", prepare_scan<Product>);
}

}  // namespace sardonyx::cpu
