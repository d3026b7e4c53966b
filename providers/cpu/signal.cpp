// Windows and mel filters: small tables computed in f64 and converted once.
#include "ops/signal.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "graph/shape.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {
namespace {

template <typename T>
T from_double(double value) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<int64_t>(value));
  else
    return static_cast<T>(value);
}

void store(Tensor& out, const std::vector<double>& values) {
  visit<AllNumbers>(out.dtype(), [&]<typename T>() {
    std::transform(values.begin(), values.end(), out.mutable_data<T>(), from_double<T>);
  });
}

DType output_type(PrepareContext& ctx, int64_t code) {
  const auto dtype = static_cast<DType>(code);
  const bool known = code > 0 && code < kDTypeCount && visit<AllNumbers>(dtype, []<typename T>() {});
  ctx.expect(known, "attribute 'output_datatype'", "a number type", std::to_string(code));
  return dtype;
}

int64_t host_scalar(PrepareContext& ctx, size_t i, const char* name) {
  const auto values = ctx.host_ints(i);
  ctx.expect(values.size() == 1, std::string("input '") + name + "'", "a scalar", to_string(ctx.dims(i)));
  return values[0];
}

// Each window is a sum of cosines of multiples of one angle: a0 - a1 cos(x) + a2 cos(2x).
template <int kWindow>
Prepared prepare_window(PrepareContext& ctx) {
  struct Terms {
    double a0, a1, a2;
  };
  constexpr Terms kTerms[] = {{0.42, 0.5, 0.08}, {25.0 / 46, 21.0 / 46, 0}, {0.5, 0.5, 0}};
  const auto a = ctx.attributes<WindowAttributes>();
  const int64_t size = host_scalar(ctx, 0, "size");
  ctx.expect(size >= 0, "input 'size'", "at least 0", std::to_string(size));
  ctx.output(0, output_type(ctx, a.output_datatype), {size});
  const int64_t period = a.periodic != 0 ? size : size - 1;
  return [size, period, t = kTerms[kWindow]](RunContext& run) {
    std::vector<double> values(static_cast<size_t>(size), 1.0);  // one point alone is 1
    for (int64_t i = 0; i < size && period > 0; ++i) {
      const double x = 2 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(period);
      // A squared sine keeps the ends of the Hann window exactly 0.
      if (t.a0 == t.a1)
        values[i] = std::sin(x / 2) * std::sin(x / 2);
      else
        values[i] = t.a0 - t.a1 * std::cos(x) + t.a2 * std::cos(2 * x);
    }
    store(run.output(0), values);
  };
}

double scalar_input(RunContext& run, size_t i, const char* name) {
  const auto values = run.input(i).to_doubles();
  if (values.size() != 1)
    run.fail(std::string("input '") + name + "'", "a scalar", to_string(run.input(i).dims()));
  return values[0];
}

Prepared prepare_mel(PrepareContext& ctx) {
  const DType dtype = output_type(ctx, ctx.attributes<MelWeightMatrixAttributes>().output_datatype);
  const int64_t filters = host_scalar(ctx, 0, "num_mel_bins"), length = host_scalar(ctx, 1, "dft_length");
  ctx.expect(filters >= 0, "input 'num_mel_bins'", "at least 0", std::to_string(filters));
  ctx.expect(length >= 0, "input 'dft_length'", "at least 0", std::to_string(length));
  const int64_t bins = length / 2 + 1;
  ctx.output(0, dtype, {bins, filters});
  return [filters, length, bins](RunContext& run) {
    const double rate = scalar_input(run, 2, "sample_rate");
    const double low = scalar_input(run, 3, "lower_edge_hertz"),
                 high = scalar_input(run, 4, "upper_edge_hertz");
    if (!(rate > 0)) run.fail("input 'sample_rate'", "a positive number", std::to_string(rate));
    const auto mel = [](double hertz) { return 2595 * std::log10(1 + hertz / 700); };
    const double from = mel(low), step = (mel(high) - from) / static_cast<double>(filters + 2);
    // The bin in which each corner of the triangles falls.
    std::vector<int64_t> corners(static_cast<size_t>(filters + 2));
    for (size_t i = 0; i < corners.size(); ++i) {
      const double hertz = 700 * (std::pow(10, (static_cast<double>(i) * step + from) / 2595) - 1);
      const double bin = std::floor(static_cast<double>(length + 1) * hertz / rate);
      if (!(bin >= 0 && bin < static_cast<double>(bins)))
        run.fail("inputs 'lower_edge_hertz' and 'upper_edge_hertz'", "frequencies within the spectrum",
                 "bin " + std::to_string(bin));
      corners[i] = static_cast<int64_t>(bin);
    }
    std::vector<double> values(static_cast<size_t>(bins * filters), 0.0);
    for (int64_t f = 0; f < filters; ++f) {
      const int64_t left = corners[f], peak = corners[f + 1], right = corners[f + 2];
      if (left == peak) values[peak * filters + f] = 1;
      for (int64_t j = left; j <= peak && peak > left; ++j)
        values[j * filters + f] = static_cast<double>(j - left) / static_cast<double>(peak - left);
      for (int64_t j = peak; j < right; ++j)
        values[j * filters + f] = static_cast<double>(right - j) / static_cast<double>(right - peak);
    }
    store(run.output(0), values);
  };
}

}  // namespace

void register_signal(KernelRegistry& registry) {
  registry.ref("BlackmanWindow", prepare_window<0>);
  registry.ref("HammingWindow", prepare_window<1>);
  registry.ref("HannWindow", prepare_window<2>);
  registry.ref("MelWeightMatrix", prepare_mel);
}

}  // namespace sardonyx::cpu
