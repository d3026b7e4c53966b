#include "providers/cpu/support/product.h"

#include <cstring>

#include "providers/cpu/support/gemm.h"
#include "providers/cpu/support/panel_gemm.h"
#include "providers/cpu/support/parallel.h"

namespace sardonyx::cpu {

namespace {

using Memory = dnnl::memory;

// Multiplications up to which our own loops on the calling thread beat a call of oneDNN.
constexpr int64_t kSmall = 48 * 1024;

// A matrix descriptor with its batch; where a dimension is 1 its stride means nothing, and is made to look
// dense.
Memory::desc matrix_desc(DType dtype, const ProductShape& s, const Dims& batch_strides, int64_t rows,
                         int64_t columns, int64_t row, int64_t column) {
  if (columns == 1) column = row == 1 ? rows : 1;
  if (rows == 1) row = column == 1 ? columns : 1;
  Dims dims, strides;
  for (size_t i = 0; i < s.batch.size(); ++i) {
    const bool one = s.batch[i] == 1 || batch_strides[i] == 0;
    dims.push_back(one ? 1 : s.batch[i]);
    strides.push_back(one ? rows * columns : batch_strides[i]);
  }
  dims.insert(dims.end(), {rows, columns});
  strides.insert(strides.end(), {row, column});
  return onednn_strided(dtype, dims, strides);
}

}  // namespace

ProductShape ProductShape::dense(int64_t m, int64_t n, int64_t k, int64_t batches) {
  ProductShape s;
  s.m = m, s.n = n, s.k = k;
  s.a_row = k, s.b_row = n, s.c_row = n;
  if (batches != 1) {
    s.batch = {batches};
    s.a_batch = {m * k}, s.b_batch = {k * n}, s.c_batch = {m * n};
  }
  return s;
}

std::optional<Product> Product::plan(ScratchPlan& scratch, DType dtype, const ProductShape& shape,
                                     const Tensor* b, DType bias, const Followed* followed) {
  Product product;
  product.shape_ = shape;
  product.dtype_ = dtype;
  const int64_t results = checked_mul(checked_mul(shape.batches(), shape.m, "product"), shape.n, "product");
  const bool f32 = dtype == DType::Float32;
  if (f32 && results > 0 && shape.k > 0 && shape.a_column == 1 && shape.b_row == 1) {
    // Rows of one operand times a vector that is the other.
    if (shape.n == 1 && shape.c_row == 1)
      product.kind_ = Kind::MatrixVector;
    else if (shape.m == 1)
      product.kind_ = Kind::VectorMatrix;
    if (product.kind_ != Kind::Matrices) return product;
  }
  if (f32 && (results == 0 || shape.k == 0 || results * shape.k <= kSmall)) return product;
  if (f32 || dtype == DType::BFloat16) {
    if (results > 0 && shape.k > 0 && shape.batch.size() <= 10 &&
        product.plan_onednn(scratch, b, bias, followed))
      return product;
    if (f32) return product;
    return std::nullopt;
  }
  switch (dtype) {
    case DType::Float64:
    case DType::Int32:
    case DType::UInt32:
    case DType::Int64:
    case DType::UInt64:
      return product;
    default:
      return std::nullopt;
  }
}

dnnl::matmul::primitive_desc Product::describe(const Memory::desc& b, const dnnl::post_ops& ops) const {
  dnnl::primitive_attr attributes = onednn_attributes();
  attributes.set_post_ops(ops);
  return biased_ ? dnnl::matmul::primitive_desc(onednn_engine(), a_, b, bias_, c_, attributes)
                 : dnnl::matmul::primitive_desc(onednn_engine(), a_, b, c_, attributes);
}

bool Product::plan_onednn(ScratchPlan& scratch, const Tensor* b, DType bias, const Followed* followed) {
  const ProductShape& s = shape_;
  const DType dtype = dtype_;
  const double m = static_cast<double>(s.m), n = static_cast<double>(s.n), k = static_cast<double>(s.k);
  const double batches = static_cast<double>(s.batches());
  serial_ = onednn_small(2 * batches * m * n * k,
                         static_cast<double>(element_size(dtype)) * batches * (m * k + k * n + m * n));
  const OneDnnSerial scope(serial_);
  // Where oneDNN has no fast implementation with what follows, the product alone may have one.
  const auto without_epilogue = [&] {
    const bool again = epilogue_.count != 0;
    epilogue_ = {};
    return again && plan_onednn(scratch, b, bias, nullptr);
  };
  try {
    a_ = matrix_desc(dtype, s, s.a_batch, s.m, s.k, s.a_row, s.a_column);
    c_ = matrix_desc(dtype, s, s.c_batch, s.m, s.n, s.c_row, 1);
    const Memory::desc plain = matrix_desc(dtype, s, s.b_batch, s.k, s.n, s.b_row, s.b_column);
    const Memory::desc wanted =
        b ? Memory::desc(plain.get_dims(), plain.get_data_type(), Memory::format_tag::any) : plain;
    if (followed && s.c_row == s.n) {
      const auto describe = [&](const TensorDesc& operand, const Dims& padded) {
        std::optional<std::pair<Memory::desc, Layout>> seen;
        // All of c, or one row for all of them.
        Dims dims(c_.get_dims().size(), 1);
        dims.back() = s.n;
        if (padded == followed->dims && operand.size() == s.batches() * s.m * s.n)
          seen.emplace(matrix_desc(operand.dtype, s, s.c_batch, s.m, s.n, s.c_row, 1), Layout::Plain);
        else if (operand.size() == s.n && padded.back() == s.n)
          seen.emplace(onednn_dense(operand.dtype, dims), Layout::Plain);
        return seen;
      };
      epilogue_ = onednn_epilogue(*followed->ctx, dtype, followed->dims, describe);
      c_ = matrix_desc(result(), s, s.c_batch, s.m, s.n, s.c_row, 1);
    }
    biased_ = bias != DType::Undefined;
    if (biased_) {
      Dims dims(s.batch.size() + 1, 1);
      dims.push_back(s.n);
      bias_ = onednn_dense(bias, dims);
    }
    const dnnl::matmul::primitive_desc desc = describe(wanted, epilogue_.ops);
    if (onednn_is_ref(desc)) return without_epilogue();
    primitive_ = dnnl::matmul(desc);
    b_ = OneDnnOperand::source(scratch, plain, desc.weights_desc(), b);
    work_ = desc.scratchpad_desc();
    work_offset_ = scratch.add(work_.get_size());
    return true;
  } catch (const dnnl::error&) {
    primitive_.reset();
    return without_epilogue();
  }
}

void Product::run_dots(const float* a, const float* b, float* c, const float* bias) const {
  const ProductShape& s = shape_;
  const bool matrix_first = kind_ == Kind::MatrixVector;
  const int64_t rows = matrix_first ? s.m : s.n, stride = matrix_first ? s.a_row : s.b_column;
  parallel_for(
      s.batches() * rows, grain_for(0.06 * static_cast<double>(s.k) + 3), [&](int64_t begin, int64_t end) {
        while (begin < end) {
          const int64_t batch = begin / rows, row = begin % rows, count = std::min(end - begin, rows - row);
          const auto [a_at, b_at, c_at] = batch_offsets(batch);
          const float *vector = matrix_first ? b + b_at : a + a_at,
                      *matrix = (matrix_first ? a + a_at : b + b_at) + row * stride;
          dot_rows(vector, matrix, count, stride, s.k, 1.0f, c + c_at + row);
          for (int64_t i = row; bias && i < row + count; ++i) c[c_at + i] += bias[matrix_first ? 0 : i];
          begin += count;
        }
      });
}

std::array<int64_t, 3> Product::batch_offsets(int64_t index) const {
  std::array<int64_t, 3> at = {0, 0, 0};
  for (size_t d = shape_.batch.size(); d-- > 0; index /= shape_.batch[d]) {
    const int64_t i = index % shape_.batch[d];
    at[0] += i * shape_.a_batch[d], at[1] += i * shape_.b_batch[d], at[2] += i * shape_.c_batch[d];
  }
  return at;
}

template <typename T>
void Product::run_own(const T* a, const T* b, T* c, const T* bias) const {
  const ProductShape& s = shape_;
  const int64_t batches = s.batches();
  const auto multiply = [&](int64_t begin, int64_t end, bool serial) {
    for (int64_t i = begin; i < end; ++i) {
      const auto [a_at, b_at, c_at] = batch_offsets(i);
      const MatrixView<T> left = {a + a_at, s.a_row, s.a_column}, right = {b + b_at, s.b_row, s.b_column};
      if (serial)
        gemm_serial<T>(s.m, s.n, s.k, left, right, c + c_at, s.c_row);
      else
        gemm<T>(s.m, s.n, s.k, left, right, c + c_at, s.c_row);
      for (int64_t r = 0; bias && r < s.m; ++r)
        for (int64_t j = 0; j < s.n; ++j) c[c_at + r * s.c_row + j] += bias[j];
    }
  };
  const double ns =
      0.1 * static_cast<double>(s.m) * static_cast<double>(s.n) * static_cast<double>(s.k + 1) + 20;
  if (batches >= thread_count() || ns < 20000)
    parallel_for(batches, grain_for(ns), [&](int64_t begin, int64_t end) { multiply(begin, end, true); });
  else
    multiply(0, batches, false);
}

void Product::run(std::byte* scratch, const void* a, const void* b, void* c, const void* bias,
                  RunContext* run) const {
  if (primitive_) {
    const OneDnnSerial scope(serial_);
    OneDnnArguments once;
    OneDnnArguments& arguments = run ? run->kept<OneDnnArguments>() : once;
    arguments.begin();
    arguments.add(DNNL_ARG_SRC, a_, a);
    arguments.add(DNNL_ARG_WEIGHTS, b_.desc(), b_.load(scratch, b));
    arguments.add(DNNL_ARG_DST, c_, c);
    arguments.add(DNNL_ARG_SCRATCHPAD, work_, scratch + work_offset_);
    if (bias) arguments.add(DNNL_ARG_BIAS, bias_, bias);
    if (run) epilogue_.add_arguments(arguments, *run);
    arguments.execute(*primitive_);
    if (run && epilogue_.to_repeat(run->output(0))) {
      const auto exact = describe(b_.desc(), *epilogue_.exact);
      arguments.execute_instead(dnnl::matmul(exact), exact.scratchpad_desc());
    }
    return;
  }
  if (kind_ != Kind::Matrices)
    return run_dots(static_cast<const float*>(a), static_cast<const float*>(b), static_cast<float*>(c),
                    static_cast<const float*>(bias));
  const auto own = [&]<typename T>() {
    run_own<T>(static_cast<const T*>(a), static_cast<const T*>(b), static_cast<T*>(c),
               static_cast<const T*>(bias));
  };
  switch (dtype_) {
    case DType::Float32:
      return own.template operator()<float>();
    case DType::Float64:
      return own.template operator()<double>();
    case DType::Int32:
    case DType::UInt32:
      return own.template operator()<uint32_t>();
    default:
      return own.template operator()<uint64_t>();
  }
}

}  // namespace sardonyx::cpu
