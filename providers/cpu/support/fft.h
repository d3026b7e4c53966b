// Discrete Fourier transforms of any length.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace sardonyx::cpu {

template <typename T>
struct Complex {
  T re, im;
};

// A transform of one length: mixed radix when every prime factor is small, Bluestein's chirp convolution
// otherwise. Immutable once made; T is float or double.
template <typename T>
class Fft {
 public:
  // `reals`: whether real() will be called.
  explicit Fft(int64_t n, bool reals = true);
  ~Fft();
  int64_t size() const { return n_; }
  // Elements of scratch that the calls below need.
  int64_t scratch_size() const;
  // x becomes its transform, unnormalised; inverse: the conjugate transform, unnormalised.
  void transform(Complex<T>* x, Complex<T>* scratch, bool inverse) const;
  // The first n / 2 + 1 bins of the transform of n reals. out must not be x.
  void real(const T* x, Complex<T>* out, Complex<T>* scratch) const;

 private:
  struct Chirp;
  void mixed_radix(Complex<T>* x, Complex<T>* scratch) const;
  void chirp(Complex<T>* x) const;
  int64_t n_;
  std::vector<int> radices_;
  std::vector<Complex<T>> roots_;  // exp(-2 pi i k / n)
  std::unique_ptr<Chirp> chirp_;
  std::unique_ptr<Fft> half_;  // of length n / 2, for reals of an even length
};

}  // namespace sardonyx::cpu
