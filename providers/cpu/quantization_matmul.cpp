// MatMulInteger and QLinearMatMul.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "graph/bytes.h"
#include "graph/shape.h"
#include "providers/cpu/quantization_matmul.h"
#include "providers/cpu/support/elementwise.h"
#include "providers/cpu/support/packed.h"

namespace sardonyx::cpu {

bool onednn_int8_is_exact() {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto needed = static_cast<unsigned>(dnnl::cpu_isa::avx512_core_vnni);
  return (isa & needed) == needed;
}

void flip_signs(const uint8_t* x, uint8_t* y, int64_t n) {
  parallel_for(n, grain_for(0.1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = x[i] ^ 0x80;
  });
}

Tensor signed_weights(const Tensor& weights) {
  if (weights.dtype() != DType::UInt8) return weights;
  Tensor flipped(DType::Int8, weights.dims());
  flip_signs(TensorBytes(weights).data<uint8_t>(), flipped.mutable_data<uint8_t>(), weights.size());
  return flipped;
}

IntegerProduct::Matrices IntegerProduct::matrices() const {
  const bool joined = b_matrices == 1 && a_matrices == batches;
  const int64_t rows = joined ? m * batches : m;
  Matrices dims;
  if (!joined)
    for (size_t d = 0; d < batch.size(); ++d) {
      dims.a.push_back(a_strides[d] ? batch[d] : 1);
      dims.b.push_back(b_strides[d] ? batch[d] : 1);
      dims.c.push_back(batch[d]);
    }
  dims.a.insert(dims.a.end(), {rows, k});
  dims.b.insert(dims.b.end(), {k, n});
  dims.c.insert(dims.c.end(), {rows, n});
  return dims;
}

namespace {

using Memory = dnnl::memory;

ScaleLines lines_of(const PrepareContext& ctx, size_t input, int64_t lines, int64_t matrices) {
  if (!ctx.has_input(input)) return {};
  const int64_t size = ctx.input(input).size();
  if (size == 1) return {};
  ctx.expect(size == lines || size == lines * matrices, "shape of input " + std::to_string(input),
             "a scalar or " + std::to_string(lines) + " values", to_string(ctx.dims(input)));
  return {1, size == lines ? 0 : lines};
}

Dims matrix_strides(const Dims& own, const Dims& batch) {
  Dims strides(batch.size(), 0);
  int64_t stride = 1;
  for (size_t d = own.size(); d-- > 0;) {
    if (own[d] != 1) strides[d + batch.size() - own.size()] = stride;
    stride *= own[d];
  }
  return strides;
}

}  // namespace

IntegerProduct integer_product(const PrepareContext& ctx, const ProductPorts& ports) {
  IntegerProduct p;
  p.ports = ports;
  Dims a = ctx.dims(ports.a), b = ctx.dims(ports.b);
  ctx.expect(!a.empty() && !b.empty(), "rank of the operands", "at least 1", "0");
  const bool vector_a = a.size() == 1, vector_b = b.size() == 1;
  if (vector_a) a.insert(a.begin(), 1);
  if (vector_b) b.push_back(1);
  p.m = a[a.size() - 2];
  p.k = a.back();
  p.n = b.back();
  ctx.expect(b[b.size() - 2] == p.k, "rows of the second operand", std::to_string(p.k),
             std::to_string(b[b.size() - 2]));
  const Dims a_batch(a.begin(), a.end() - 2), b_batch(b.begin(), b.end() - 2);
  p.batch = broadcast(a_batch, b_batch);
  p.a_strides = matrix_strides(a_batch, p.batch);
  p.b_strides = matrix_strides(b_batch, p.batch);
  p.batches = element_count(p.batch);
  p.a_matrices = element_count(a_batch);
  p.b_matrices = element_count(b_batch);
  p.out = p.batch;
  if (!vector_a) p.out.push_back(p.m);
  if (!vector_b) p.out.push_back(p.n);
  element_count(p.out);
  p.a_dtype = ctx.dtype(ports.a);
  p.b_dtype = ctx.dtype(ports.b);
  for (const auto& [zero, dtype] : {std::pair(ports.a_zero, p.a_dtype), std::pair(ports.b_zero, p.b_dtype)})
    if (ctx.has_input(zero))
      ctx.expect(ctx.dtype(zero) == dtype, "element type of input " + std::to_string(zero), dtype_name(dtype),
                 dtype_name(ctx.dtype(zero)));
  p.a_zero = lines_of(ctx, ports.a_zero, p.m, p.a_matrices);
  p.b_zero = lines_of(ctx, ports.b_zero, p.n, p.b_matrices);
  return p;
}

namespace {

// Takes rows of the 32-bit product to the output: as they are, or scaled and narrowed.
class Finish {
 public:
  Finish(const PrepareContext& ctx, const IntegerProduct& p)
      : quantized_(p.ports.y_scale != 0), dtype_(DType::Int32) {
    if (!quantized_) return;
    dtype_ = ctx.dtype(p.ports.y_zero);
    a_scale_ = lines_of(ctx, p.ports.a_scale, p.m, p.a_matrices);
    b_scale_ = lines_of(ctx, p.ports.b_scale, p.n, p.b_matrices);
    y_scale_ = lines_of(ctx, p.ports.y_scale, p.m, p.batches);
    y_zero_ = lines_of(ctx, p.ports.y_zero, p.m, p.batches);
  }
  DType dtype() const { return dtype_; }
  bool quantized() const { return quantized_; }

  // The scales and zero points of one run.
  struct Values {
    std::vector<float> a_scale, b_scale, y_scale;
    std::vector<int32_t> y_zero;
  };
  Values read(const RunContext& run, const IntegerProduct& p) const {
    if (!quantized_) return {};
    return {elements_as<float>(run.input(p.ports.a_scale)), elements_as<float>(run.input(p.ports.b_scale)),
            elements_as<float>(run.input(p.ports.y_scale)), elements_as<int32_t>(run.input(p.ports.y_zero))};
  }
  // Scale of the products of a row (with a scale a column: n of them), in `scales`.
  void row_scales(const Values& v, const IntegerProduct& p, int64_t batch, int64_t row, float* scales) const {
    const float a = v.a_scale[a_scale_.at(p.a_matrix(batch), row)], y = v.y_scale[y_scale_.at(batch, row)];
    const int64_t matrix = p.b_matrix(batch);
    for (int64_t j = 0; j < (b_scale_.step ? p.n : 1); ++j)
      scales[j] = a * v.b_scale[b_scale_.at(matrix, j)] / y;
  }
  void row(const Values& v, const IntegerProduct& p, int64_t batch, int64_t row, const int32_t* sums,
           const int32_t* offset, float* scales, void* out) const {
    const int64_t at = (batch * p.m + row) * p.n;
    if (!quantized_) return simd::add_int32(sums, offset, static_cast<int32_t*>(out) + at, p.n);
    row_scales(v, p, batch, row, scales);
    const int zero = v.y_zero[y_zero_.at(batch, row)];
    if (dtype_ == DType::Int8)
      simd::requantize(sums, offset, static_cast<int8_t*>(out) + at, p.n, scales, b_scale_.step, zero);
    else
      simd::requantize(sums, offset, static_cast<uint8_t*>(out) + at, p.n, scales, b_scale_.step, zero);
  }

 private:
  bool quantized_;
  DType dtype_;
  ScaleLines a_scale_, b_scale_, y_scale_, y_zero_;
};

// Plain loops: a row of the result at a time.
template <typename A, typename B>
void multiply(const IntegerProduct& p, const Finish& finish, RunContext& run) {
  const A* a = run.in<A>(p.ports.a);
  const B* b = run.in<B>(p.ports.b);
  const std::vector<int32_t> a_zeros = elements_as<int32_t>(run, p.ports.a_zero, 0);
  const std::vector<int32_t> b_zeros = elements_as<int32_t>(run, p.ports.b_zero, 0);
  const auto values = finish.read(run, p);
  void* out = run.output(0).mutable_data();
  const double work = static_cast<double>(p.k + 1) * static_cast<double>(p.n) * 0.5 + 10;
  parallel_for(p.batches * p.m, grain_for(work), [&](int64_t begin, int64_t end) {
    const size_t n = static_cast<size_t>(p.n);
    std::vector<uint32_t> sums(n);
    const std::vector<int32_t> no_offset(n, 0);
    std::vector<float> scales(std::max<size_t>(n, 1));
    for (int64_t item = begin; item < end; ++item) {
      const int64_t batch = item / p.m, row = item % p.m;
      const int64_t a_matrix = p.a_matrix(batch), b_matrix = p.b_matrix(batch);
      const A* from = a + (a_matrix * p.m + row) * p.k;
      const B* matrix = b + b_matrix * p.k * p.n;
      const int32_t zero = a_zeros[p.a_zero.at(a_matrix, row)];
      std::fill(sums.begin(), sums.end(), 0);
      uint32_t total = 0;
      for (int64_t l = 0; l < p.k; ++l) {
        const int32_t factor = from[l] - zero;
        total += static_cast<uint32_t>(factor);
        if (factor == 0) continue;
        const B* line = matrix + l * p.n;
        for (size_t j = 0; j < n; ++j) sums[j] += static_cast<uint32_t>(factor * line[j]);
      }
      for (size_t j = 0; j < n; ++j)
        sums[j] -= static_cast<uint32_t>(b_zeros[p.b_zero.at(b_matrix, static_cast<int64_t>(j))]) * total;
      finish.row(values, p, batch, row, reinterpret_cast<const int32_t*>(sums.data()), no_offset.data(),
                 scales.data(), out);
    }
  });
}

Prepared prepare_loops(PrepareContext& ctx, const ProductPorts& ports) {
  const IntegerProduct p = integer_product(ctx, ports);
  if (!is_byte(p.a_dtype) || !is_byte(p.b_dtype)) return no_kernel_for(p.a_dtype);
  const Finish finish(ctx, p);
  if (finish.quantized() && !is_byte(finish.dtype())) return no_kernel_for(finish.dtype());
  ctx.output(0, finish.dtype(), p.out);
  return [p, finish](RunContext& run) {
    const bool a_signed = p.a_dtype == DType::Int8, b_signed = p.b_dtype == DType::Int8;
    if (a_signed)
      b_signed ? multiply<int8_t, int8_t>(p, finish, run) : multiply<int8_t, uint8_t>(p, finish, run);
    else
      b_signed ? multiply<uint8_t, int8_t>(p, finish, run) : multiply<uint8_t, uint8_t>(p, finish, run);
  };
}

// QLinearMatMul where some operand is float8: products of the operands less their zero points, summed in
// double.
Prepared prepare_float8(PrepareContext& ctx) {
  const IntegerProduct p = integer_product(ctx, kQLinearMatMul);
  const DType to = ctx.dtype(kQLinearMatMul.y_zero);
  const ScaleLines a_scale = lines_of(ctx, kQLinearMatMul.a_scale, p.m, p.a_matrices);
  const ScaleLines b_scale = lines_of(ctx, kQLinearMatMul.b_scale, p.n, p.b_matrices);
  const ScaleLines y_scale = lines_of(ctx, kQLinearMatMul.y_scale, p.m, p.batches),
                   y_zero = lines_of(ctx, kQLinearMatMul.y_zero, p.m, p.batches);
  ctx.output(0, to, p.out);
  return [=](RunContext& run) {
    const auto a = elements_as<float>(run.input(kQLinearMatMul.a)),
               b = elements_as<float>(run.input(kQLinearMatMul.b));
    const auto a_zeros = elements_as<float>(run.input(kQLinearMatMul.a_zero)),
               b_zeros = elements_as<float>(run.input(kQLinearMatMul.b_zero));
    const auto a_scales = elements_as<float>(run.input(kQLinearMatMul.a_scale)),
               b_scales = elements_as<float>(run.input(kQLinearMatMul.b_scale));
    const auto y_scales = elements_as<float>(run.input(kQLinearMatMul.y_scale)),
               y_zeros = elements_as<float>(run.input(kQLinearMatMul.y_zero));
    std::vector<float> y(static_cast<size_t>(p.batches * p.m * p.n));
    parallel_for(
        p.batches * p.m, grain_for(static_cast<double>(p.k * p.n) + 10), [&](int64_t begin, int64_t end) {
          for (int64_t item = begin; item < end; ++item) {
            const int64_t batch = item / p.m, row = item % p.m, am = p.a_matrix(batch),
                          bm = p.b_matrix(batch);
            for (int64_t j = 0; j < p.n; ++j) {
              double sum = 0;
              for (int64_t l = 0; l < p.k; ++l)
                sum += static_cast<double>(a[static_cast<size_t>((am * p.m + row) * p.k + l)] -
                                           a_zeros[p.a_zero.at(am, row)]) *
                       (b[static_cast<size_t>((bm * p.k + l) * p.n + j)] - b_zeros[p.b_zero.at(bm, j)]);
              const float scale = a_scales[a_scale.at(am, row)] * b_scales[b_scale.at(bm, j)] /
                                  y_scales[y_scale.at(batch, row)];
              const float zero = y_zeros[y_zero.at(batch, row)], value = static_cast<float>(sum * scale);
              float& result = y[static_cast<size_t>(item * p.n + j)];
              if (is_float(to))
                result = value + zero;
              else
                result = std::clamp(std::nearbyint(value) + zero, to == DType::Int8 ? -128.0f : 0.0f,
                                    to == DType::Int8 ? 127.0f : 255.0f);
            }
          }
        });
    cast_numbers(DType::Float32, y.data(), to, run.output(0).mutable_data(), static_cast<int64_t>(y.size()),
                 {});
  };
}

Prepared prepare_qlinear(PrepareContext& ctx) {
  const bool integers = is_byte(ctx.dtype(kQLinearMatMul.a)) && is_byte(ctx.dtype(kQLinearMatMul.b)) &&
                        is_byte(ctx.dtype(kQLinearMatMul.y_zero));
  return integers ? prepare_loops(ctx, kQLinearMatMul) : prepare_float8(ctx);
}

// Sums of b's columns, as s8.
std::vector<int32_t> column_sums(const IntegerProduct& p, const int8_t* b) {
  std::vector<int32_t> sums(static_cast<size_t>(p.b_matrices * p.n), 0);
  for (int64_t matrix = 0; matrix < p.b_matrices; ++matrix)
    for (int64_t l = 0; l < p.k; ++l)
      for (int64_t j = 0; j < p.n; ++j)
        sums[static_cast<size_t>(matrix * p.n + j)] += b[(matrix * p.k + l) * p.n + j];
  return sums;
}

// oneDNN multiplies u8 by s8. Operands of the other sign are moved by 128, their zero points too, and
//   sum (a - za) (b - zb) = sum a b - za (sum b - k zb) - zb sum a
// brings the zero points in afterwards.
class OneDnnProduct {
 public:
  OneDnnProduct(PrepareContext& ctx, const IntegerProduct& p, const Finish& finish) : p_(p), finish_(finish) {
    ScratchPlan scratch(ctx);
    const auto dims = p.matrices();
    a_ = onednn_dense(DType::UInt8, dims.a);
    c_ = onednn_dense(DType::Int32, dims.c);
    const Memory::desc plain = onednn_dense(DType::Int8, dims.b);
    const Tensor* constant = ctx.constant(p.ports.b);
    const Memory::desc any(plain.get_dims(), plain.get_data_type(), Memory::format_tag::any);
    desc_ =
        dnnl::matmul::primitive_desc(onednn_engine(), a_, constant ? any : plain, c_, onednn_attributes());
    if (onednn_is_ref(desc_)) return;
    primitive_ = dnnl::matmul(desc_);
    flip_a_ = p.a_dtype == DType::Int8;
    flip_b_ = p.b_dtype == DType::UInt8;
    if (constant) {
      constant_b_ = signed_weights(*constant);
      constant_sums_ = column_sums(p, constant_b_.data<int8_t>());
    }
    b_ = OneDnnOperand::source(scratch, plain, desc_.weights_desc(), constant ? &constant_b_ : nullptr);
    a_bytes_ = p.a_matrices * p.m * p.k;
    b_bytes_ = p.b_matrices * p.k * p.n;
    if (flip_a_) a_at_ = scratch.add(static_cast<size_t>(a_bytes_));
    if (flip_b_ && !constant) b_at_ = scratch.add(static_cast<size_t>(b_bytes_));
    if (finish.quantized()) c_at_ = scratch.add(c_.get_size());
    work_at_ = scratch.add(desc_.scratchpad_desc().get_size());
  }
  bool usable() const { return static_cast<bool>(primitive_.get(true)); }

  void run(RunContext& run) const {
    std::byte* scratch = run.scratch();
    const uint8_t* a = run.in<uint8_t>(p_.ports.a);
    if (flip_a_) {
      uint8_t* flipped = reinterpret_cast<uint8_t*>(scratch + a_at_);
      flip_signs(a, flipped, a_bytes_);
      a = flipped;
    }
    const uint8_t* b = constant_b_.defined() ? constant_b_.data<uint8_t>() : run.in<uint8_t>(p_.ports.b);
    if (flip_b_ && !constant_b_.defined()) {
      uint8_t* flipped = reinterpret_cast<uint8_t*>(scratch + b_at_);
      flip_signs(b, flipped, b_bytes_);
      b = flipped;
    }
    int32_t* c = finish_.quantized() ? reinterpret_cast<int32_t*>(scratch + c_at_) : run.out<int32_t>(0);
    onednn_execute(primitive_,
                   {{DNNL_ARG_SRC, onednn_memory(a_, a)},
                    {DNNL_ARG_WEIGHTS, onednn_memory(b_.desc(), b_.load(scratch, b))},
                    {DNNL_ARG_DST, onednn_memory(c_, c)},
                    {DNNL_ARG_SCRATCHPAD, onednn_memory(desc_.scratchpad_desc(), scratch + work_at_)}});
    finish(run, a, reinterpret_cast<const int8_t*>(b), c);
  }

 private:
  void finish(RunContext& run, const uint8_t* a, const int8_t* b, const int32_t* c) const {
    const IntegerProduct& p = p_;
    std::vector<int32_t> a_zeros = elements_as<int32_t>(run, p.ports.a_zero, 0);
    std::vector<int32_t> b_zeros = elements_as<int32_t>(run, p.ports.b_zero, 0);
    for (int32_t& zero : a_zeros) zero += flip_a_ ? 128 : 0;
    for (int32_t& zero : b_zeros) zero -= flip_b_ ? 128 : 0;
    const auto is_zero = [](int32_t v) { return v == 0; };
    const bool no_a = std::all_of(a_zeros.begin(), a_zeros.end(), is_zero);
    const bool no_b = std::all_of(b_zeros.begin(), b_zeros.end(), is_zero);
    if (!finish_.quantized() && no_a && no_b) return;
    const std::vector<int32_t> sums = no_a ? std::vector<int32_t>(static_cast<size_t>(p.b_matrices * p.n), 0)
                                      : constant_b_.defined() ? constant_sums_
                                                              : column_sums(p, b);
    const auto values = finish_.read(run, p);
    void* out = run.output(0).mutable_data();
    const double work = static_cast<double>(p.n) + (no_b ? 0 : 0.2 * static_cast<double>(p.k)) + 10;
    parallel_for(p.batches * p.m, grain_for(work), [&](int64_t begin, int64_t end) {
      const size_t n = static_cast<size_t>(p.n);
      std::vector<int32_t> offset(n, 0);
      std::vector<float> scales(n);
      for (int64_t item = begin; item < end; ++item) {
        const int64_t batch = item / p.m, row = item % p.m, am = p.a_matrix(batch), bm = p.b_matrix(batch);
        const bool same_as_before = no_b && p.a_zero.step == 0 && item != begin && row != 0;
        if (!(no_a && no_b) && !same_as_before) {
          uint32_t total = 0;
          if (!no_b)
            for (int64_t l = 0; l < p.k; ++l) total += a[(am * p.m + row) * p.k + l];
          const int32_t za = a_zeros[p.a_zero.at(am, row)];
          const int32_t k = static_cast<int32_t>(static_cast<uint32_t>(p.k));
          for (size_t j = 0; j < n; ++j) {
            const int32_t zb = b_zeros[p.b_zero.at(bm, static_cast<int64_t>(j))];
            const int32_t rest = wrapped_product_sum(-1, sums[static_cast<size_t>(bm * p.n) + j], k, zb);
            offset[j] = wrapped_product_sum(za, rest, -zb, static_cast<int32_t>(total));
          }
        }
        finish_.row(values, p, batch, row, c + item * p.n, offset.data(), scales.data(), out);
      }
    });
  }

  IntegerProduct p_;
  Finish finish_;
  dnnl::matmul::primitive_desc desc_;
  dnnl::matmul primitive_;
  Memory::desc a_, c_;
  OneDnnOperand b_;
  Tensor constant_b_;  // as s8
  std::vector<int32_t> constant_sums_;
  bool flip_a_ = false, flip_b_ = false;
  int64_t a_bytes_ = 0, b_bytes_ = 0;
  size_t a_at_ = 0, b_at_ = 0, c_at_ = 0, work_at_ = 0;
};

Prepared prepare_onednn(PrepareContext& ctx, const ProductPorts& ports) {
  if (!onednn_int8_is_exact()) return decline("this processor's 8-bit products would saturate");
  const IntegerProduct p = integer_product(ctx, ports);
  if (!is_byte(p.a_dtype) || !is_byte(p.b_dtype)) return decline("only 8-bit integers");
  const Finish finish(ctx, p);
  if (finish.quantized() && !is_byte(finish.dtype())) return decline("only 8-bit integers");
  const int64_t results = element_count(p.out);
  if (results == 0 || p.k == 0) return decline("an empty operand");
  if (static_cast<double>(results) * static_cast<double>(p.k) <= 16384)
    return decline("too small to be worth a call of oneDNN");
  if (p.batch.size() > 10) return decline("too many batch dimensions");
  try {
    const auto product = std::make_shared<const OneDnnProduct>(ctx, p, finish);
    if (!product->usable()) return decline("oneDNN has only its reference implementation for this shape");
    ctx.output(0, finish.dtype(), p.out);
    return [product](RunContext& run) { product->run(run); };
  } catch (const dnnl::error& e) {
    return decline(std::string("oneDNN: ") + e.message);
  }
}

}  // namespace

void register_quantization_matmul(KernelRegistry& r) {
  r.add("MatMulInteger", "onednn", kFirst,
        [](PrepareContext& ctx) { return prepare_onednn(ctx, kMatMulInteger); });
  r.add("QLinearMatMul", "onednn", kFirst,
        [](PrepareContext& ctx) { return prepare_onednn(ctx, kQLinearMatMul); });
  r.ref("MatMulInteger", [](PrepareContext& ctx) { return prepare_loops(ctx, kMatMulInteger); });
  r.ref("QLinearMatMul", prepare_qlinear);
}

}  // namespace sardonyx::cpu
