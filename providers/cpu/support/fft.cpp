#include "providers/cpu/support/fft.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

namespace sardonyx::cpu {
namespace {

constexpr int kLargestRadix = 31;  // primes above it go through the chirp convolution

template <typename T>
Complex<T> operator+(Complex<T> a, Complex<T> b) {
  return {a.re + b.re, a.im + b.im};
}
template <typename T>
Complex<T> operator-(Complex<T> a, Complex<T> b) {
  return {a.re - b.re, a.im - b.im};
}
template <typename T>
Complex<T> operator*(Complex<T> a, Complex<T> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <typename T>
Complex<T> turned(Complex<T> a) {
  return {a.im, -a.re};
}  // a * -i

// exp(-2 pi i k / n) with the angle reduced to an eighth of a turn, where sine and cosine are sharpest.
Complex<double> root_of_unity(int64_t k, int64_t n) {
  k %= n;
  if (8 * k > 4 * n) {
    const auto r = root_of_unity(n - k, n);
    return {r.re, -r.im};
  }
  if (8 * k > 2 * n) {
    // A half turn back: exp(-i a) = -exp(-i (a - pi)).
    const double b = std::numbers::pi * (1 - 2 * static_cast<double>(k) / static_cast<double>(n));
    return {-std::cos(b), -std::sin(b)};
  }
  const double a = 2 * std::numbers::pi * static_cast<double>(k) / static_cast<double>(n);
  return {std::cos(a), -std::sin(a)};
}

// One pass of the autosorting algorithm: x holds [radix, m, l], y receives [m, radix, l]. A transform of
// radix * m points, of which every l-th belongs together, becomes `radix` transforms of m points.
template <typename T, int kRadix, typename Butterfly>
void pass(const Complex<T>* x, Complex<T>* y, int64_t m, int64_t l, const Complex<T>* roots,
          Butterfly butterfly) {
  for (int64_t k = 0; k < m; ++k) {
    Complex<T> twiddles[kRadix];
    for (int p = 1; p < kRadix; ++p) twiddles[p] = roots[k * p * l];
    const Complex<T>* from = x + k * l;
    Complex<T>* to = y + k * kRadix * l;
    for (int64_t j = 0; j < l; ++j) {
      Complex<T> v[kRadix];
      for (int q = 0; q < kRadix; ++q) v[q] = from[q * m * l + j];
      butterfly(v);
      to[j] = v[0];
      for (int p = 1; p < kRadix; ++p) to[p * l + j] = v[p] * twiddles[p];
    }
  }
}

template <typename T>
void pass_any(int radix, const Complex<T>* x, Complex<T>* y, int64_t n, int64_t m, int64_t l,
              const Complex<T>* roots) {
  Complex<T> v[kLargestRadix];
  for (int64_t k = 0; k < m; ++k) {
    for (int64_t j = 0; j < l; ++j) {
      for (int q = 0; q < radix; ++q) v[q] = x[(q * m + k) * l + j];
      for (int p = 0; p < radix; ++p) {
        Complex<T> sum = v[0];
        for (int q = 1; q < radix; ++q) sum = sum + v[q] * roots[p * q % radix * (n / radix)];
        y[(k * radix + p) * l + j] = sum * roots[k * p * l];
      }
    }
  }
}

}  // namespace

template <typename T>
struct Fft<T>::Chirp {
  Fft<double> fft;
  std::vector<Complex<double>> chirp, kernel;  // exp(-pi i k^2 / n); the transform of its conjugate
  explicit Chirp(int64_t n, int64_t padded)
      : fft(padded, false), chirp(static_cast<size_t>(n)), kernel(static_cast<size_t>(padded)) {
    for (int64_t k = 0; k < n; ++k) {
      const auto square =
          static_cast<int64_t>(static_cast<unsigned __int128>(k) * static_cast<unsigned __int128>(k) %
                               static_cast<unsigned __int128>(2 * n));
      chirp[k] = root_of_unity(square, 2 * n);
      kernel[k] = {chirp[k].re, -chirp[k].im};
      if (k > 0) kernel[padded - k] = kernel[k];
    }
    std::vector<Complex<double>> scratch(static_cast<size_t>(padded));
    fft.transform(kernel.data(), scratch.data(), false);
  }
};

template <typename T>
Fft<T>::Fft(int64_t n, bool reals) : n_(n) {
  int64_t rest = n;
  for (int radix : {4, 2, 3, 5})
    for (; rest % radix == 0; rest /= radix) radices_.push_back(radix);
  for (int radix = 7; radix <= kLargestRadix; radix += 2)
    for (; rest % radix == 0; rest /= radix) radices_.push_back(radix);
  if (reals && n > 1 && n % 2 == 0) half_ = std::make_unique<Fft>(n / 2, false);
  if (rest > 1) {
    int64_t padded = 1;
    while (padded < 2 * n - 1) padded *= 2;
    chirp_ = std::make_unique<Chirp>(n, padded);
    if (!half_) return;
  }
  roots_.resize(static_cast<size_t>(n));
  for (int64_t k = 0; k < n; ++k) {
    const auto root = root_of_unity(k, n);
    roots_[k] = {static_cast<T>(root.re), static_cast<T>(root.im)};
  }
}

template <typename T>
Fft<T>::~Fft() = default;

template <typename T>
int64_t Fft<T>::scratch_size() const {
  return 2 * n_;
}

template <typename T>
void Fft<T>::mixed_radix(Complex<T>* x, Complex<T>* scratch) const {
  using C = Complex<T>;
  Complex<T>*from = x, *to = scratch;
  int64_t l = 1;
  const auto half = static_cast<T>(0.5), s3 = static_cast<T>(std::numbers::sqrt3 / 2);
  const auto c1 = static_cast<T>(0.30901699437494742410), c2 = static_cast<T>(-0.80901699437494742410);
  const auto s1 = static_cast<T>(0.95105651629515357212), s2 = static_cast<T>(0.58778525229247312917);
  for (int radix : radices_) {
    const int64_t m = n_ / (l * radix);
    const C* roots = roots_.data();
    if (radix == 4) {
      pass<T, 4>(from, to, m, l, roots, [](C* v) {
        const C a = v[0] + v[2], b = v[0] - v[2], c = v[1] + v[3], d = turned(v[1] - v[3]);
        v[0] = a + c, v[1] = b + d, v[2] = a - c, v[3] = b - d;
      });
    } else if (radix == 2) {
      pass<T, 2>(from, to, m, l, roots, [](C* v) {
        const C a = v[0] + v[1];
        v[1] = v[0] - v[1], v[0] = a;
      });
    } else if (radix == 3) {
      pass<T, 3>(from, to, m, l, roots, [=](C* v) {
        const C sum = v[1] + v[2], diff = v[1] - v[2];
        const C mid{v[0].re - half * sum.re, v[0].im - half * sum.im},
            side = turned(C{s3 * diff.re, s3 * diff.im});
        v[0] = v[0] + sum, v[1] = mid + side, v[2] = mid - side;
      });
    } else if (radix == 5) {
      pass<T, 5>(from, to, m, l, roots, [=](C* v) {
        const C a = v[1] + v[4], b = v[1] - v[4], c = v[2] + v[3], d = v[2] - v[3];
        const C m1{v[0].re + c1 * a.re + c2 * c.re, v[0].im + c1 * a.im + c2 * c.im};
        const C m2{v[0].re + c2 * a.re + c1 * c.re, v[0].im + c2 * a.im + c1 * c.im};
        const C n1 = turned(C{s1 * b.re + s2 * d.re, s1 * b.im + s2 * d.im});
        const C n2 = turned(C{s2 * b.re - s1 * d.re, s2 * b.im - s1 * d.im});
        v[0] = v[0] + a + c, v[1] = m1 + n1, v[4] = m1 - n1, v[2] = m2 + n2, v[3] = m2 - n2;
      });
    } else {
      pass_any(radix, from, to, n_, m, l, roots);
    }
    std::swap(from, to);
    l *= radix;
  }
  if (from != x) std::copy_n(from, n_, x);
}

template <typename T>
void Fft<T>::chirp(Complex<T>* x) const {
  const int64_t padded = chirp_->fft.size();
  std::vector<Complex<double>> work(static_cast<size_t>(padded), Complex<double>{0, 0}),
      scratch(static_cast<size_t>(chirp_->fft.scratch_size()));
  for (int64_t k = 0; k < n_; ++k)
    work[k] = Complex<double>{static_cast<double>(x[k].re), static_cast<double>(x[k].im)} * chirp_->chirp[k];
  chirp_->fft.transform(work.data(), scratch.data(), false);
  for (int64_t k = 0; k < padded; ++k) work[k] = work[k] * chirp_->kernel[k];
  chirp_->fft.transform(work.data(), scratch.data(), true);
  for (int64_t k = 0; k < n_; ++k) {
    const auto v = work[k] * chirp_->chirp[k];
    x[k] = {static_cast<T>(v.re / static_cast<double>(padded)),
            static_cast<T>(v.im / static_cast<double>(padded))};
  }
}

template <typename T>
void Fft<T>::transform(Complex<T>* x, Complex<T>* scratch, bool inverse) const {
  const auto swap_parts = [&] {
    for (int64_t k = 0; k < n_; ++k) std::swap(x[k].re, x[k].im);
  };
  if (inverse) swap_parts();
  if (chirp_)
    chirp(x);
  else
    mixed_radix(x, scratch);
  if (inverse) swap_parts();
}

template <typename T>
void Fft<T>::real(const T* x, Complex<T>* out, Complex<T>* scratch) const {
  if (!half_) {
    for (int64_t k = 0; k < n_; ++k) scratch[k] = {x[k], T(0)};
    transform(scratch, scratch + n_, false);
    std::copy_n(scratch, n_ / 2 + 1, out);
    return;
  }
  // Even samples as real, odd ones as imaginary parts of a transform of half the length.
  const int64_t m = n_ / 2;
  for (int64_t k = 0; k < m; ++k) scratch[k] = {x[2 * k], x[2 * k + 1]};
  half_->transform(scratch, scratch + m, false);
  for (int64_t k = 0; k <= m; ++k) {
    const Complex<T> a = scratch[k % m], b{scratch[(m - k) % m].re, -scratch[(m - k) % m].im};
    const Complex<T> even = a + b, odd = turned(a - b) * roots_[k];
    out[k] = {(even.re + odd.re) / 2, (even.im + odd.im) / 2};
  }
}

template class Fft<float>;
template class Fft<double>;

}  // namespace sardonyx::cpu
