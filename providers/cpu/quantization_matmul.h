// What the kernels of MatMulInteger and QLinearMatMul share.
#pragma once

#include "providers/cpu/quantization.h"

namespace sardonyx::cpu {

// Which inputs of the node are what.
struct ProductPorts {
  size_t a, b, a_zero, b_zero;
  // QLinearMatMul only.
  size_t a_scale = 0, b_scale = 0, y_scale = 0, y_zero = 0;
};
inline constexpr ProductPorts kMatMulInteger{0, 1, 2, 3};
inline constexpr ProductPorts kQLinearMatMul{0, 3, 2, 5, 1, 4, 6, 7};

// One value of a scale or zero point for all, one a line (a row of A or Y, a column of B), or one a line of
// every matrix.
struct ScaleLines {
  int64_t step = 0, matrix_step = 0;
  size_t at(int64_t matrix, int64_t line) const {
    return static_cast<size_t>(matrix * matrix_step + line * step);
  }
};

// numpy's matmul of 8-bit operands.
struct IntegerProduct {
  ProductPorts ports;
  int64_t m = 1, n = 1, k = 1;
  Dims batch;                 // of the result
  Dims a_strides, b_strides;  // in matrices, along each dimension of batch
  int64_t batches = 1, a_matrices = 1, b_matrices = 1;
  Dims out;
  DType a_dtype, b_dtype;
  ScaleLines a_zero, b_zero;

  int64_t a_matrix(int64_t i) const { return matrix(i, a_strides); }
  int64_t b_matrix(int64_t i) const { return matrix(i, b_strides); }
  // The operands and the result as a batched product: where one matrix B serves all, the rows of all matrices
  // A are those of one.
  struct Matrices {
    Dims a, b, c;
  };
  Matrices matrices() const;

 private:
  int64_t matrix(int64_t i, const Dims& strides) const {
    int64_t at = 0;
    for (size_t d = batch.size(); d-- > 0; i /= batch[d]) at += i % batch[d] * strides[d];
    return at;
  }
};

// Reads and checks the inputs of a node.
IntegerProduct integer_product(const PrepareContext& ctx, const ProductPorts& ports);

}  // namespace sardonyx::cpu
