// A batched matrix product, planned once: oneDNN where it has a kernel, our own loops elsewhere.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "providers/cpu/support/epilogue.h"
#include "providers/cpu/support/packed.h"

namespace sardonyx::cpu {

// c[i, j] = sum over l of a[i, l] * b[l, j] (+ bias[j]) for every index of `batch`. Strides are in elements;
// a batch stride of 0 repeats a matrix. c has column stride 1.
struct ProductShape {
  int64_t m = 0, n = 0, k = 0;
  Dims batch;
  Dims a_batch, b_batch, c_batch;
  int64_t a_row = 0, a_column = 1, b_row = 0, b_column = 1, c_row = 0;
  int64_t batches() const { return element_count(batch); }

  // Dense row-major matrices, densely batched.
  static ProductShape dense(int64_t m, int64_t n, int64_t k, int64_t batches = 1);
};

class Product {
 public:
  // dtype: f32, f64, i32, u32, i64, u64; bf16 where oneDNN has it. `b` is the second operand if it is a
  // constant, to be packed. The bias, a vector of n elements, is for f32 and bf16 only, and may be f32
  // beside bf16; Undefined is none. Nothing when there is no kernel.
  // `followed`: a context whose output 0 is c, densely stored under `dims`; what follows it is computed too,
  // where the product is oneDNN's: see epilogue().
  struct Followed {
    const PrepareContext* ctx;
    Dims dims;
  };
  static std::optional<Product> plan(ScratchPlan& scratch, DType dtype, const ProductShape& shape,
                                     const Tensor* b = nullptr, DType bias = DType::Undefined,
                                     const Followed* followed = nullptr);
  const Epilogue& epilogue() const { return epilogue_; }
  // Of c: that of the operands, unless what follows converts it.
  DType result() const { return epilogue_.count != 0 ? epilogue_.result : dtype_; }
  // Whether run() reads b; a constant that was packed is not.
  bool reads_b() const { return !primitive_ || b_.reads(); }
  // `run`: the context of a kernel that is this product and nothing else; may be null where there is no
  // epilogue.
  void run(std::byte* scratch, const void* a, const void* b, void* c, const void* bias = nullptr,
           RunContext* run = nullptr) const;

 private:
  enum class Kind { Matrices, MatrixVector, VectorMatrix };
  bool plan_onednn(ScratchPlan& scratch, const Tensor* b, DType bias, const Followed* followed);
  dnnl::matmul::primitive_desc describe(const dnnl::memory::desc& b, const dnnl::post_ops& ops) const;
  // Offsets of a, b and c at a linear index over the batch.
  std::array<int64_t, 3> batch_offsets(int64_t index) const;
  void run_dots(const float* a, const float* b, float* c, const float* bias) const;
  template <typename T>
  void run_own(const T* a, const T* b, T* c, const T* bias) const;

  ProductShape shape_;
  Kind kind_ = Kind::Matrices;
  DType dtype_ = DType::Undefined;
  std::optional<dnnl::matmul> primitive_;
  dnnl::memory::desc a_, c_, bias_, work_;
  OneDnnOperand b_;
  size_t work_offset_ = 0;
  bool serial_ = false, biased_ = false;
  Epilogue epilogue_;
};

}  // namespace sardonyx::cpu
