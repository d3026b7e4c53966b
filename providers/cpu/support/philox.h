// Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"): random numbers by the
// logical index of an element, so that a draw does not depend on threads, order or vector width.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <optional>

#include "providers/kernel.h"

namespace sardonyx::cpu {

// One stream of draws. The key is the seed; the counter holds the index of a block of four words and a
// mix of the node's stream, the step and the turns of the loops around the node.
class Philox {
 public:
  using Block = std::array<uint32_t, 4>;

  Philox(uint64_t seed, uint64_t stream, uint64_t step = 0, uint64_t loop_path = 0)
      : key_(seed), stream_(mix(mix(mix(stream) ^ step) ^ loop_path)) {}
  // The draws of the node that is running. A seed attribute of the node takes the place of the session's.
  explicit Philox(const RunContext& run, std::optional<double> seed = std::nullopt)
      : Philox(seed ? mix(std::bit_cast<uint64_t>(*seed)) : run.random().seed, run.node().stream,
               run.random().step, run.random().loop_path) {}

  uint64_t key() const { return key_; }
  uint64_t stream() const { return stream_; }
  Block block(uint64_t index) const {
    return rounds({low(index), high(index), low(stream_), high(stream_)}, low(key_), high(key_));
  }
  // Ten rounds on a counter and a key: the function of the paper.
  static Block rounds(Block c, uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; ++round) {
      const uint64_t a = uint64_t{0xD2511F53u} * c[0], b = uint64_t{0xCD9E8D57u} * c[2];
      c = {high(b) ^ c[1] ^ k0, low(b), high(a) ^ c[3] ^ k1, low(a)};
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return c;
  }

  // Element i of a tensor. float has 24 random bits and four draws a block, double 53 bits and two draws a
  // block; both kinds of draws of one stream use the same blocks.
  template <typename T>
  T uniform(uint64_t i) const {  // [0, 1)
    T draws[kPerBlock<T>];
    uniforms(i / kPerBlock<T>, draws);
    return draws[i % kPerBlock<T>];
  }
  template <typename T>
  T normal(uint64_t i) const {  // mean 0, variance 1 (Box and Muller)
    T draws[kPerBlock<T>];
    normals(i / kPerBlock<T>, draws);
    return draws[i % kPerBlock<T>];
  }

  // f(i, draw) for each i in [begin, end), computing each block once.
  template <typename T, typename F>
  void each_uniform(uint64_t begin, uint64_t end, F&& f) const {
    each<T>(begin, end, f, [this](uint64_t b, T* draws) { uniforms(b, draws); });
  }
  template <typename T, typename F>
  void each_normal(uint64_t begin, uint64_t end, F&& f) const {
    each<T>(begin, end, f, [this](uint64_t b, T* draws) { normals(b, draws); });
  }

 private:
  template <typename T>
  static constexpr uint64_t kPerBlock = 16 / sizeof(T);

  static uint32_t low(uint64_t v) { return static_cast<uint32_t>(v); }
  static uint32_t high(uint64_t v) { return static_cast<uint32_t>(v >> 32); }
  // The finalizer of SplitMix64: a bijection that spreads every bit.
  static uint64_t mix(uint64_t v) {
    v += 0x9E3779B97F4A7C15u;
    v = (v ^ (v >> 30)) * 0xBF58476D1CE4E5B9u;
    v = (v ^ (v >> 27)) * 0x94D049BB133111EBu;
    return v ^ (v >> 31);
  }
  static double unit53(uint32_t a, uint32_t b) {
    return static_cast<double>(((uint64_t{a} << 32) | b) >> 11) * 0x1p-53;
  }

  void uniforms(uint64_t b, float* draws) const {
    const Block words = block(b);
    for (int i = 0; i < 4; ++i) draws[i] = static_cast<float>(words[static_cast<size_t>(i)] >> 8) * 0x1p-24f;
  }
  void uniforms(uint64_t b, double* draws) const {
    const Block words = block(b);
    draws[0] = unit53(words[0], words[1]);
    draws[1] = unit53(words[2], words[3]);
  }
  template <typename T>
  static void box_muller(double u, double v, T* draws) {  // u in (0, 1]
    const double radius = std::sqrt(-2 * std::log(u)), angle = 2 * std::numbers::pi * v;
    draws[0] = static_cast<T>(radius * std::cos(angle));
    draws[1] = static_cast<T>(radius * std::sin(angle));
  }
  void normals(uint64_t b, float* draws) const {
    const Block words = block(b);
    box_muller((words[0] + 1.0) * 0x1p-32, words[1] * 0x1p-32, draws);
    box_muller((words[2] + 1.0) * 0x1p-32, words[3] * 0x1p-32, draws + 2);
  }
  void normals(uint64_t b, double* draws) const {
    const Block words = block(b);
    box_muller(unit53(words[0], words[1]) + 0x1p-53, unit53(words[2], words[3]), draws);
  }

  template <typename T, typename F, typename Draw>
  static void each(uint64_t begin, uint64_t end, F& f, Draw draw) {
    constexpr uint64_t kCount = kPerBlock<T>;
    T draws[kCount];
    for (uint64_t i = begin; i < end;) {
      draw(i / kCount, draws);
      for (uint64_t k = i % kCount; k < kCount && i < end; ++k, ++i) f(i, draws[k]);
    }
  }

  uint64_t key_, stream_;
};

}  // namespace sardonyx::cpu
