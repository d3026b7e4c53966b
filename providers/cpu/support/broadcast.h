// numpy's broadcasting for elementwise kernels: dimensions are collapsed once, then walked row by row.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "providers/cpu/support/parallel.h"
#include "sardonyx/tensor.h"

namespace sardonyx::cpu {

// The walk over the result of broadcasting dense operands. Neighbouring dimensions along which every
// operand moves evenly are merged, so that equal shapes, and an operand against a scalar, are one row.
class Broadcast {
 public:
  // InputError when the dims do not fit together.
  explicit Broadcast(const std::vector<Dims>& operands);

  const Dims& dims() const { return dims_; }
  int64_t size() const { return size_; }
  // How far operand k moves from one element of a row to the next: 1, or 0 where it is repeated.
  int64_t step(size_t k) const { return steps_[k]; }
  // Operand k has the dims of the result.
  bool whole(size_t k) const { return whole_[k]; }

  // Elements of the innermost merged dimension, how many rows of them lie in a row in the one around it, and
  // how far operand k moves from one of these to the next.
  int64_t row() const { return row_; }
  int64_t rows_around() const { return outer_.empty() ? 1 : outer_.back(); }
  int64_t row_step(size_t k) const {
    return outer_.empty() ? 0 : strides_[(outer_.size() - 1) * steps_.size() + k];
  }
  // Where the operands stand at element `at` of the result.
  std::vector<int64_t> places(int64_t at) const;

  // Calls row(at, from, n) for consecutive runs of the result: n elements from `at` on, which read operand k
  // from element from[k] on in steps of step(k). Ranges of at least `grain` elements go to the threads.
  template <typename Row>
  void rows(int64_t grain, Row&& row) const {
    parallel_for(size_, grain, [&](int64_t begin, int64_t end) {
      Cursor cursor(*this, begin);
      for (int64_t at = begin; at < end;) {
        const int64_t n = std::min(end - at, cursor.left());
        row(at, cursor.from(), n);
        at += n;
        if (at < end) cursor.next_row();
      }
    });
  }

 private:
  class Cursor {
   public:
    Cursor(const Broadcast& plan, int64_t at);
    int64_t left() const { return left_; }
    const int64_t* from() const { return from_; }
    void next_row();

   private:
    const Broadcast& plan_;
    int64_t left_;
    std::array<int64_t, 16> near_;  // index_ and from_ when they fit
    std::vector<int64_t> far_;
    int64_t* index_;  // of the outer dimensions
    int64_t* from_;   // of each operand
  };

  Dims dims_;
  int64_t size_ = 0;
  int64_t row_ = 1;               // elements of the innermost merged dimension
  std::vector<int64_t> outer_;    // the merged dimensions around it
  std::vector<int64_t> strides_;  // [outer dimension][operand]
  std::vector<int64_t> steps_;    // [operand]
  std::vector<bool> whole_;
};

}  // namespace sardonyx::cpu
