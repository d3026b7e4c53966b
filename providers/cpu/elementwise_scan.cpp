// CumSum, CumProd and LinearScan.
#include <algorithm>
#include <array>

#include "graph/shape.h"
#include "ops/elementwise.h"
#include "ops/registry/operator.h"
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

// A tensor as [outer, length, inner]; lines along the middle dimension are scanned, some side by side.
struct Lines {
  int64_t outer = 1, length = 1, inner = 1;
  bool exclusive = false, reverse = false;
};

Lines lines_of(const Dims& dims, int64_t axis, bool exclusive, bool reverse) {
  // A scalar has one element, which is its own sum along axis 0 or -1.
  const int at = normalize_axis(axis, std::max<int>(1, static_cast<int>(dims.size())));
  Lines lines{1, 1, 1, exclusive, reverse};
  for (int d = 0; d < static_cast<int>(dims.size()); ++d)
    (d < at ? lines.outer : d == at ? lines.length : lines.inner) *= dims[static_cast<size_t>(d)];
  return lines;
}

// step(at, carried): takes the carried number over the element there, and writes it before or after.
template <typename C, typename Step>
void scan(const Lines& lines, C start, const Step& step) {
  constexpr int64_t kSide = 64;
  const int64_t blocks = (lines.inner + kSide - 1) / kSide;
  const double work = static_cast<double>(lines.length * std::min(lines.inner, kSide)) + 1;
  parallel_for(lines.outer * blocks, grain_for(work), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t first = item % blocks * kSide, side = std::min(kSide, lines.inner - first);
      const int64_t base = item / blocks * lines.length * lines.inner + first;
      std::array<C, kSide> carried;
      carried.fill(start);
      for (int64_t i = 0; i < lines.length; ++i) {
        const int64_t at = base + (lines.reverse ? lines.length - 1 - i : i) * lines.inner;
        for (int64_t k = 0; k < side; ++k) step(at + k, carried[static_cast<size_t>(k)]);
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
      using C = Carried<T>;
      const T* x = run.in<T>(0);
      T* y = run.out<T>(0);
      const Lines lines = lines_of(dims, run.input(1).to_int64s()[0], a.exclusive != 0, a.reverse != 0);
      scan(lines, static_cast<C>(F::kStart), [x, y, exclusive = lines.exclusive](int64_t at, C& carried) {
        const C next = F()(carried, static_cast<C>(widen(x[at])));
        y[at] = static_cast<T>(exclusive ? carried : next);
        carried = next;
      });
    };
  });
  return prepared;
}

Prepared prepare_linear_scan(PrepareContext& ctx) {
  const bool reverse = ctx.attributes<LinearScanAttributes>().reverse != 0;
  ctx.expect(ctx.dims(0) == ctx.dims(1), "input 'B'", to_string(ctx.dims(0)), to_string(ctx.dims(1)));
  ctx.expect(ctx.input(2).size() == 1, "input 'axis'", "a scalar", to_string(ctx.dims(2)));
  Prepared prepared = no_kernel_for(ctx.dtype(0));
  visit<AllFloats>(ctx.dtype(0), [&]<typename T>() {
    ctx.output(0, ctx.dtype(0), ctx.dims(0));
    prepared = [reverse, dims = ctx.dims(0)](RunContext& run) {
      const T *a = run.in<T>(0), *b = run.in<T>(1);
      T* y = run.out<T>(0);
      const Lines lines = lines_of(dims, run.input(2).to_int64s()[0], true, reverse);
      scan(lines, 0.0, [a, b, y](int64_t at, double& carried) {
        const double next = static_cast<double>(widen(a[at])) * carried + static_cast<double>(widen(b[at]));
        y[at] = static_cast<T>(carried);
        carried = next;
      });
    };
  });
  return prepared;
}

}  // namespace

void register_elementwise_scan(KernelRegistry& r) {
  r.ref("CumSum", prepare_scan<Sum>);
  r.ref("CumProd", prepare_scan<Product>);
  r.ref("LinearScan", prepare_linear_scan, kOwnDomain);
}

}  // namespace sardonyx::cpu
