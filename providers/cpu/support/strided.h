// Copies between strided layouts: the one engine behind the operators that only move elements.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/shape.h"
#include "sardonyx/tensor.h"

namespace sardonyx::cpu {

// Copies a block of `dims` elements from one layout to another. Strides are in elements, those of the
// destination positive, those of the source of any sign or zero. Prepared once, run many times.
class StridedCopy {
 public:
  StridedCopy(DType dtype, const Dims& dims, const Dims& src_strides, const Dims& dst_strides);
  // `src` and `dst` are the addresses of element (0, ..., 0).
  void run(const void* src, void* dst) const;
  // Source and destination are walked in the same order without a gap: from the same first element on, the
  // copy is the source itself.
  bool contiguous() const { return kind_ == Kind::Nothing || (kind_ == Kind::Runs && axes_.empty()); }

 private:
  enum class Kind { Nothing, Runs, Tiles, Lines };
  // One dimension, outermost first; strides in bytes.
  struct Axis {
    int64_t size, src, dst;
  };
  template <typename Element>
  void run_as(const char* src, char* dst) const;
  template <typename Element>
  void runs(const char* src, char* dst) const;
  template <typename Element>
  void lines(const char* src, char* dst) const;
  template <typename Element>
  void tiles(const char* src, char* dst) const;
  template <typename Element>
  bool narrow_tiles(const char* src, char* dst) const;
  template <typename F>
  void walk(int64_t begin, int64_t end, F&& f) const;
  void classify();

  Kind kind_ = Kind::Nothing;
  bool strings_ = false;
  int64_t unit_ = 1;        // bytes of the element that is moved; several elements when they lie together
  int64_t run_ = 1;         // Runs: elements of a run
  std::vector<Axis> axes_;  // the outer dimensions, which walk() counts through
  int64_t outer_ = 1;       // their product
  Axis across_{},
      along_{};  // Lines: along_; Tiles: across_ is contiguous in the source, along_ in the destination
};

// dst[i] = value for n elements; `value` points at one element.
void fill(DType dtype, void* dst, const void* value, int64_t n);
// dst[i] = 0 (an empty string) for n elements.
void fill_zero(DType dtype, void* dst, int64_t n);
// dst[i] = src[i] for n elements, on several threads when that pays.
void copy(DType dtype, void* dst, const void* src, int64_t n);

}  // namespace sardonyx::cpu
