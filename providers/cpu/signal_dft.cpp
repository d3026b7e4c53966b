// DFT and STFT.
#include <algorithm>
#include <mutex>

#include "graph/shape.h"
#include "ops/signal.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/fft.h"
#include "providers/cpu/support/parallel.h"
#include "providers/cpu/support/widen.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {
namespace {

// The transform of a kernel, made when it first runs: by then its outputs, at least as large, are there.
template <typename T>
class SharedFft {
 public:
  explicit SharedFft(int64_t n) : n_(n) {}
  const Fft<T>& get() {
    std::call_once(once_, [this] { fft_ = std::make_unique<Fft<T>>(n_); });
    return *fft_;
  }

 private:
  int64_t n_;
  std::once_flag once_;
  std::unique_ptr<Fft<T>> fft_;
};

double transform_ns(int64_t n) { return static_cast<double>(n) * 20 + 100; }

int64_t host_scalar(PrepareContext& ctx, size_t i, const char* name) {
  const auto values = ctx.host_ints(i);
  ctx.expect(values.size() == 1, std::string("input '") + name + "'", "a scalar", to_string(ctx.dims(i)));
  return values[0];
}

// What one DFT node does: `count` transforms of length n, each over a line of the input.
struct DftPlan {
  int64_t outer = 1, inner = 1, in_len = 0, out_len = 0, n = 0;
  int64_t in_parts = 1, out_parts = 2;  // 1: real, 2: complex
  bool inverse = false, onesided = false;
};

template <typename T>
void transform_line(const DftPlan& p, const Fft<T>& fft, const T* in, T* out, Complex<T>* work) {
  Complex<T>*x = work, *scratch = work + p.n + 1;
  const int64_t have = std::min(p.in_len, p.n), in_step = p.inner * p.in_parts,
                out_step = p.inner * p.out_parts;
  if (p.in_parts == 1 && !p.inverse) {
    T* reals = reinterpret_cast<T*>(scratch + fft.scratch_size());
    for (int64_t k = 0; k < have; ++k) reals[k] = in[k * in_step];
    std::fill(reals + have, reals + p.n, T(0));
    fft.real(reals, x, scratch);
    for (int64_t k = p.n / 2 + 1; k < p.out_len; ++k) x[k] = {x[p.n - k].re, -x[p.n - k].im};
  } else {
    for (int64_t k = 0; k < have; ++k) x[k] = {in[k * in_step], p.in_parts == 2 ? in[k * in_step + 1] : T(0)};
    std::fill(x + have, x + p.n, Complex<T>{0, 0});
    if (p.inverse && p.onesided) {
      // The other half of the spectrum of a real signal; what must be real in it is taken as real.
      x[0].im = 0;
      if (p.n % 2 == 0) x[p.n / 2].im = 0;
      for (int64_t k = p.n / 2 + 1; k < p.n; ++k) x[k] = {x[p.n - k].re, -x[p.n - k].im};
    }
    fft.transform(x, scratch, p.inverse);
  }
  const T scale = p.inverse ? T(1) / static_cast<T>(p.n) : T(1);
  for (int64_t k = 0; k < p.out_len; ++k) {
    out[k * out_step] = x[k].re * scale;
    if (p.out_parts == 2) out[k * out_step + 1] = x[k].im * scale;
  }
}

template <typename T>
int64_t work_size(const Fft<T>& fft) {
  return fft.size() + 1 + fft.scratch_size() + (fft.size() + 1) / 2;
}

DftPlan prepare_dft_plan(PrepareContext& ctx) {
  const auto a = ctx.attributes<DftAttributes>();
  DftPlan p;
  p.inverse = a.inverse != 0;
  p.onesided = a.onesided != 0;
  const Dims& dims = ctx.dims(0);
  const int rank = ctx.rank(0);
  ctx.expect(rank >= 2, "input 'input'", "at least rank 2", to_string(dims));
  p.in_parts = dims.back();
  ctx.expect(p.in_parts == 1 || p.in_parts == 2, "last dimension of the input", "1 (real) or 2 (complex)",
             std::to_string(p.in_parts));
  const int axis = normalize_axis(ctx.has_input(2) ? host_scalar(ctx, 2, "axis") : -2, rank);
  ctx.expect(axis != rank - 1, "input 'axis'", "an axis before the last", std::to_string(axis));
  p.in_len = dims[static_cast<size_t>(axis)];
  ctx.expect(!p.onesided || p.in_parts == (p.inverse ? 2 : 1), "input of a one-sided transform",
             p.inverse ? "complex" : "real", p.in_parts == 2 ? "complex" : "real");
  const bool to_real = p.inverse && p.onesided;
  p.n = ctx.has_input(1) ? host_scalar(ctx, 1, "dft_length") : to_real ? 2 * (p.in_len - 1) : p.in_len;
  ctx.expect(p.n > 0, "DFT length", "at least 1", std::to_string(p.n));
  ctx.expect(p.n < (int64_t{1} << 48), "DFT length", "less than 2^48", std::to_string(p.n));
  p.out_len = p.onesided && !p.inverse ? p.n / 2 + 1 : p.n;
  p.out_parts = to_real ? 1 : 2;
  Dims out = dims;
  for (int i = 0; i < axis; ++i) p.outer *= dims[static_cast<size_t>(i)];
  for (int i = axis + 1; i < rank - 1; ++i) p.inner *= dims[static_cast<size_t>(i)];
  out[static_cast<size_t>(axis)] = p.out_len;
  out.back() = p.out_parts;
  ctx.output(0, ctx.dtype(0), out);
  return p;
}

template <typename T>
Prepared prepare_dft_of(PrepareContext& ctx) {
  const DftPlan p = prepare_dft_plan(ctx);
  return [p, shared = std::make_shared<SharedFft<T>>(p.n)](RunContext& run) {
    if (p.outer * p.inner == 0) return;
    const Fft<T>& fft = shared->get();
    const T* in = run.in<T>(0);
    T* out = run.out<T>(0);
    parallel_for(p.outer * p.inner, grain_for(transform_ns(p.n)), [&](int64_t begin, int64_t end) {
      std::vector<Complex<T>> work(static_cast<size_t>(work_size(fft)));
      for (int64_t line = begin; line < end; ++line) {
        const int64_t o = line / p.inner, i = line % p.inner;
        transform_line(p, fft, in + (o * p.in_len * p.inner + i) * p.in_parts,
                       out + (o * p.out_len * p.inner + i) * p.out_parts, work.data());
      }
    });
  };
}

// Frames of the signal, each times the window, as lines of a DFT.
template <typename T>
Prepared prepare_stft_of(PrepareContext& ctx) {
  const Dims& dims = ctx.dims(0);
  ctx.expect(dims.size() == 3, "input 'signal'", "rank 3", to_string(dims));
  ctx.expect(dims[2] == 1 || dims[2] == 2, "last dimension of input 'signal'", "1 (real) or 2 (complex)",
             std::to_string(dims[2]));
  const int64_t batch = dims[0], length = dims[1], parts = dims[2], step = host_scalar(ctx, 1, "frame_step");
  ctx.expect(step > 0, "input 'frame_step'", "at least 1", std::to_string(step));
  const bool windowed = ctx.has_input(2);
  if (windowed) {
    ctx.expect(ctx.rank(2) == 1, "input 'window'", "rank 1", to_string(ctx.dims(2)));
    ctx.expect(ctx.dtype(2) == ctx.dtype(0), "input 'window'", dtype_name(ctx.dtype(0)),
               dtype_name(ctx.dtype(2)));
  }
  DftPlan p;
  p.n = ctx.has_input(3) ? host_scalar(ctx, 3, "frame_length") : windowed ? ctx.dims(2)[0] : length;
  ctx.expect(p.n > 0 && p.n <= length, "frame length", "1 to " + std::to_string(length), std::to_string(p.n));
  if (windowed)
    ctx.expect(ctx.dims(2)[0] == p.n, "input 'window'", std::to_string(p.n) + " elements",
               to_string(ctx.dims(2)));
  p.in_len = p.n;
  p.in_parts = parts;
  p.onesided = ctx.attributes<StftAttributes>().onesided != 0;
  p.out_len = p.onesided ? p.n / 2 + 1 : p.n;
  const int64_t frames = (length - p.n) / step + 1;
  ctx.output(0, ctx.dtype(0), {batch, frames, p.out_len, 2});
  return [=, shared = std::make_shared<SharedFft<T>>(p.n)](RunContext& run) {
    if (batch == 0) return;
    const Fft<T>& fft = shared->get();
    const T *signal = run.in<T>(0), *window = run.in<T>(2);
    T* out = run.out<T>(0);
    parallel_for(batch * frames, grain_for(transform_ns(p.n)), [&](int64_t begin, int64_t end) {
      std::vector<Complex<T>> work(static_cast<size_t>(work_size(fft)));
      std::vector<T> frame(static_cast<size_t>(p.n * parts));
      for (int64_t item = begin; item < end; ++item) {
        const T* from = signal + (item / frames * length + item % frames * step) * parts;
        for (int64_t i = 0; i < p.n * parts; ++i) frame[i] = window ? from[i] * window[i / parts] : from[i];
        transform_line(p, fft, frame.data(), out + item * p.out_len * 2, work.data());
      }
    });
  };
}

Prepared dispatch(PrepareContext& ctx, Prepared (*f32)(PrepareContext&), Prepared (*f64)(PrepareContext&)) {
  const DType dtype = ctx.dtype(0);
  if (dtype == DType::Float16 || dtype == DType::BFloat16) return widened(ctx, dtype, f32);
  if (dtype == DType::Float32) return f32(ctx);
  if (dtype == DType::Float64) return f64(ctx);
  return decline(std::string("no kernel for ") + dtype_name(dtype));
}

}  // namespace

void register_signal_dft(KernelRegistry& registry) {
  registry.ref("DFT", [](PrepareContext& ctx) {
    return dispatch(ctx, prepare_dft_of<float>, prepare_dft_of<double>);
  });
  registry.ref("STFT", [](PrepareContext& ctx) {
    return dispatch(ctx, prepare_stft_of<float>, prepare_stft_of<double>);
  });
}

}  // namespace sardonyx::cpu
