// Attention: f32 (and narrower floats, computed in f32) through packed products, f64 through plain loops.
#include "providers/cpu/attention.h"

#include "ops/attention.h"
#include "providers/cpu/support/attention_bfloat16.h"
#include "providers/cpu/support/dispatch.h"
#include "providers/cpu/support/panel_bfloat16.h"
#include "providers/cpu/support/widen.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {
namespace {

// Inputs: Q K V attn_mask past_key past_value nonpad_kv_seqlen. Outputs: Y present_key present_value qk.
struct Plan {
  AttentionShape shape;
  bool packed_heads = false;  // 3-D inputs: [batch, position, head * size]
  bool has_past = false, double_precision = false;
  int64_t new_len = 0, past_len = 0;  // keys of this call, keys before them
  DType q_type{}, v_type{}, mask_type{};
  Dims mask_dims;
  double scale = 1;
  AttentionAttributes attributes;
};

HeadStrides strides_of(const Plan& p, int64_t heads, int64_t positions, int64_t size) {
  if (p.packed_heads) return {positions * heads * size, size, heads * size};
  return {heads * positions * size, positions * size, size};
}

Plan prepare_plan(PrepareContext& ctx) {
  Plan p;
  p.attributes = ctx.attributes<AttentionAttributes>();
  const AttentionAttributes& a = p.attributes;
  const int rank = ctx.rank(0);
  ctx.expect(rank == 3 || rank == 4, "input 'Q'", "rank 3 or 4", to_string(ctx.dims(0)));
  for (size_t i : {size_t{1}, size_t{2}})
    ctx.expect(ctx.rank(i) == rank, std::string("input '") + " KV"[i] + "'", "rank " + std::to_string(rank),
               to_string(ctx.dims(i)));
  p.packed_heads = rank == 3;
  const Dims &q = ctx.dims(0), &k = ctx.dims(1), &v = ctx.dims(2);
  AttentionShape& s = p.shape;
  s.batch = q[0];
  if (p.packed_heads) {
    ctx.expect(a.q_num_heads && *a.q_num_heads > 0, "attribute 'q_num_heads'",
               "a positive number for inputs of rank 3");
    ctx.expect(a.kv_num_heads && *a.kv_num_heads > 0, "attribute 'kv_num_heads'",
               "a positive number for inputs of rank 3");
    s.q_heads = *a.q_num_heads;
    s.kv_heads = *a.kv_num_heads;
    s.q_len = q[1];
    p.new_len = k[1];
    const auto split = [&](int64_t width, int64_t heads, const char* name) {
      ctx.expect(width % heads == 0, std::string("input '") + name + "' dim 2",
                 "a multiple of " + std::to_string(heads) + " heads", std::to_string(width));
      return width / heads;
    };
    s.head = split(q[2], s.q_heads, "Q");
    ctx.expect(split(k[2], s.kv_heads, "K") == s.head, "input 'K' dim 2", std::to_string(s.head * s.kv_heads),
               std::to_string(k[2]));
    s.v_head = split(v[2], s.kv_heads, "V");
  } else {
    ctx.expect(!a.q_num_heads && !a.kv_num_heads, "attributes 'q_num_heads' and 'kv_num_heads'",
               "none for inputs of rank 4");
    s.q_heads = q[1], s.kv_heads = k[1], s.q_len = q[2], p.new_len = k[2], s.head = q[3], s.v_head = v[3];
    ctx.expect(k[3] == s.head, "input 'K' dim 3", std::to_string(s.head), std::to_string(k[3]));
    ctx.expect(v[1] == s.kv_heads, "input 'V' dim 1", std::to_string(s.kv_heads), std::to_string(v[1]));
  }
  ctx.expect(k[0] == s.batch && v[0] == s.batch, "dim 0 of inputs 'K' and 'V'", std::to_string(s.batch));
  ctx.expect(v[p.packed_heads ? 1 : 2] == p.new_len, "positions of input 'V'", std::to_string(p.new_len),
             to_string(v));
  ctx.expect(s.q_heads == s.kv_heads || (s.kv_heads > 0 && s.q_heads % s.kv_heads == 0),
             "number of query heads", "a multiple of " + std::to_string(s.kv_heads),
             std::to_string(s.q_heads));
  p.q_type = ctx.dtype(0);
  p.v_type = ctx.dtype(2);
  ctx.expect(is_float(p.q_type) && is_float(p.v_type), "inputs 'Q' and 'V'", "floats");
  ctx.expect(ctx.dtype(1) == p.q_type, "input 'K'", dtype_name(p.q_type), dtype_name(ctx.dtype(1)));
  p.double_precision = p.q_type == DType::Float64 || p.v_type == DType::Float64;

  p.has_past = ctx.has_input(4);
  ctx.expect(p.has_past == ctx.has_input(5), "inputs 'past_key' and 'past_value'", "both or none");
  if (p.has_past) {
    ctx.expect(ctx.rank(4) == 4 && ctx.rank(5) == 4, "inputs 'past_key' and 'past_value'", "rank 4");
    p.past_len = ctx.dims(4)[2];
    const Dims key{s.batch, s.kv_heads, p.past_len, s.head}, value{s.batch, s.kv_heads, p.past_len, s.v_head};
    ctx.expect(ctx.dims(4) == key, "input 'past_key'", to_string(key), to_string(ctx.dims(4)));
    ctx.expect(ctx.dims(5) == value, "input 'past_value'", to_string(value), to_string(ctx.dims(5)));
    ctx.expect(ctx.dtype(4) == p.q_type && ctx.dtype(5) == p.v_type, "inputs 'past_key' and 'past_value'",
               "the types of K and V");
    ctx.expect(!ctx.has_input(6), "input 'nonpad_kv_seqlen'", "none beside 'past_key'");
  }
  s.kv_len = checked_add(p.past_len, p.new_len, "number of keys");
  if (ctx.has_input(6)) {
    ctx.expect(ctx.dims(6) == Dims{s.batch}, "input 'nonpad_kv_seqlen'", to_string(Dims{s.batch}),
               to_string(ctx.dims(6)));
    ctx.expect(ctx.dtype(6) == DType::Int64, "input 'nonpad_kv_seqlen'", "int64", dtype_name(ctx.dtype(6)));
  }
  if (ctx.has_input(3)) {
    p.mask_type = ctx.dtype(3);
    p.mask_dims = ctx.dims(3);
    ctx.expect(!p.mask_dims.empty() && p.mask_dims.size() <= 4, "input 'attn_mask'", "rank 1 to 4",
               to_string(p.mask_dims));
    const Dims full{s.batch, s.q_heads, s.q_len, s.kv_len};
    p.mask_dims.insert(p.mask_dims.begin(), 4 - p.mask_dims.size(), 1);
    for (size_t i = 0; i < 3; ++i)
      ctx.expect(p.mask_dims[i] == 1 || p.mask_dims[i] == full[i], "input 'attn_mask'",
                 "a shape that broadcasts to " + to_string(full), to_string(ctx.dims(3)));
    ctx.expect(p.mask_dims[3] <= s.kv_len, "last dimension of input 'attn_mask'",
               "at most " + std::to_string(s.kv_len), std::to_string(p.mask_dims[3]));
    ctx.expect(p.mask_type == DType::Bool || is_float(p.mask_type) || is_integer(p.mask_type),
               "input 'attn_mask'", "bool or numbers");
  }
  ctx.expect(a.left_window_size >= -1 && a.right_window_size >= -1, "window sizes", "-1 or more");
  ctx.expect(a.qk_matmul_output_mode >= 0 && a.qk_matmul_output_mode <= 3,
             "attribute 'qk_matmul_output_mode'", "0 to 3", std::to_string(a.qk_matmul_output_mode));
  if (a.softmax_precision) {
    const auto to = static_cast<DType>(*a.softmax_precision);
    ctx.expect(to == DType::Float32 || to == DType::Float64 || to == DType::Float16 || to == DType::BFloat16,
               "attribute 'softmax_precision'", "1, 10, 11 or 16", std::to_string(*a.softmax_precision));
  }
  p.scale = a.scale ? static_cast<double>(*a.scale) : 1 / std::sqrt(static_cast<double>(s.head));

  ctx.output(0, p.q_type,
             p.packed_heads ? Dims{s.batch, s.q_len, checked_mul(s.q_heads, s.v_head, "output width")}
                            : Dims{s.batch, s.q_heads, s.q_len, s.v_head});
  ctx.output(1, p.q_type, {s.batch, s.kv_heads, s.kv_len, s.head});
  ctx.output(2, p.v_type, {s.batch, s.kv_heads, s.kv_len, s.v_head});
  ctx.output(3, p.q_type, {s.batch, s.q_heads, s.q_len, s.kv_len});
  return p;
}

// present = past and new positions of each head, one after the other.
void concatenate(const Plan& p, const Tensor* past, const Tensor& fresh, int64_t size, Tensor& present) {
  const AttentionShape& s = p.shape;
  const size_t element = element_size(fresh.dtype());
  const HeadStrides from = strides_of(p, s.kv_heads, p.new_len, size);
  const size_t row = static_cast<size_t>(size) * element, before = static_cast<size_t>(p.past_len) * row;
  char* to = static_cast<char*>(present.mutable_data());
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.kv_heads; ++h) {
      if (past)
        std::memcpy(to,
                    static_cast<const char*>(past->data()) + static_cast<size_t>(b * s.kv_heads + h) * before,
                    before);
      to += before;
      const char* src = static_cast<const char*>(fresh.data()) +
                        static_cast<size_t>(b * from.batch + h * from.head) * element;
      if (!p.packed_heads) {
        std::memcpy(to, src, static_cast<size_t>(p.new_len) * row);
        to += static_cast<size_t>(p.new_len) * row;
        continue;
      }
      for (int64_t i = 0; i < p.new_len; ++i, to += row)
        std::memcpy(to, src + static_cast<size_t>(i * from.position) * element, row);
    }
  }
}

// The tensor in the type to compute in: itself or a converted copy.
Tensor as_type(const Tensor& tensor, DType to) {
  if (tensor.dtype() == to) return tensor;
  Tensor copy(to, tensor.dims());
  if (is_float(tensor.dtype())) {
    convert_floats(tensor.dtype(), tensor.data(), to, copy.mutable_data(), tensor.size());
    return copy;
  }
  const std::vector<double> values = tensor.to_doubles();
  for (size_t i = 0; i < values.size(); ++i) {
    if (to == DType::Float32)
      copy.mutable_data<float>()[i] = static_cast<float>(values[i]);
    else
      copy.mutable_data<double>()[i] = values[i];
  }
  return copy;
}

// Everything of a problem but its operands. Returns what holds the mask.
template <typename T>
Tensor set_conditions(const Plan& p, RunContext& run, AttentionProblem<T>& problem) {
  constexpr DType kType = dtype_of<T>;
  const AttentionAttributes& a = p.attributes;
  Tensor mask;
  if (run.has_input(3)) {
    const Dims strides = contiguous_strides(p.mask_dims);
    const auto stride = [&](size_t i) { return p.mask_dims[i] == 1 ? 0 : strides[i]; };
    problem.mask_at = {stride(0), stride(1), stride(2)};
    problem.mask_len = p.mask_dims[3];
    mask = p.mask_type == DType::Bool ? run.input(3) : as_type(run.input(3), kType);
    if (p.mask_type == DType::Bool)
      problem.allow = static_cast<const uint8_t*>(mask.data());
    else
      problem.bias = mask.data<T>();
  }
  problem.causal = a.is_causal != 0;
  // Windows wider than any tensor are unbounded; the sums of positions stay small.
  const auto window = [](int64_t w) { return w > (int64_t{1} << 40) ? int64_t{-1} : w; };
  problem.left = window(a.left_window_size);
  problem.right = window(a.right_window_size);
  problem.past = p.past_len;
  if (run.has_input(6)) {
    problem.valid = run.in<int64_t>(6);
    problem.from_valid = true;
    for (int64_t b = 0; b < problem.batch; ++b)
      if (problem.valid[b] < 0 || problem.valid[b] > problem.kv_len)
        run.fail("input 'nonpad_kv_seqlen' at " + std::to_string(b), "0 to " + std::to_string(problem.kv_len),
                 std::to_string(problem.valid[b]));
  }
  problem.scale = static_cast<T>(p.scale);
  problem.softcap = static_cast<T>(a.softcap);
  if (a.softmax_precision) problem.precision = static_cast<DType>(*a.softmax_precision);
  // Rounding to the inputs' own type is what converting the result does.
  if (problem.precision == p.q_type) problem.precision = DType::Undefined;
  return mask;
}

template <typename T>
void run_plan(const Plan& p, int threads, RunContext& run) {
  constexpr DType kType = dtype_of<T>;
  AttentionProblem<T> problem;
  static_cast<AttentionShape&>(problem) = p.shape;
  const Tensor q = as_type(run.input(0), kType);
  problem.q = q.data<T>();
  problem.q_at = strides_of(p, problem.q_heads, problem.q_len, problem.head);

  // Keys and values: the inputs as they lie, or the concatenation with what came before.
  Tensor held[2];
  for (size_t i : {size_t{0}, size_t{1}}) {
    const Tensor& fresh = run.input(1 + i);
    const int64_t size = i == 0 ? problem.head : problem.v_head;
    if (run.wants(1 + i)) {
      concatenate(p, p.has_past ? &run.input(4 + i) : nullptr, fresh, size, run.output(1 + i));
      held[i] = as_type(run.output(1 + i), kType);
    } else if (p.has_past) {
      Tensor joined(fresh.dtype(), {problem.batch, problem.kv_heads, problem.kv_len, size});
      concatenate(p, &run.input(4 + i), fresh, size, joined);
      held[i] = as_type(joined, kType);
    } else {
      held[i] = as_type(fresh, kType);
    }
    const HeadStrides dense{problem.kv_heads * problem.kv_len * size, problem.kv_len * size, size};
    (i == 0 ? problem.k_at : problem.v_at) =
        run.wants(1 + i) || p.has_past ? dense : strides_of(p, problem.kv_heads, p.new_len, size);
  }
  problem.k = held[0].data<T>();
  problem.v = held[1].data<T>();

  const Tensor mask = set_conditions(p, run, problem);
  problem.y_at = strides_of(p, problem.q_heads, problem.q_len, problem.v_head);
  problem.qk_output = static_cast<QkOutput>(p.attributes.qk_matmul_output_mode);
  const bool direct = p.q_type == kType;
  Tensor y = direct ? run.output(0) : Tensor(kType, run.output(0).dims());
  Tensor qk;
  if (run.wants(3)) qk = direct ? run.output(3) : Tensor(kType, run.output(3).dims());
  problem.y = y.mutable_data<T>();
  problem.qk = run.wants(3) ? qk.mutable_data<T>() : nullptr;
  attend(problem, threads, reinterpret_cast<T*>(run.scratch()));
  if (direct) return;
  convert_floats(kType, y.data(), p.q_type, run.output(0).mutable_data(), y.size());
  if (run.wants(3)) convert_floats(kType, qk.data(), p.q_type, run.output(3).mutable_data(), qk.size());
}

template <bool kDouble>
Prepared prepare(PrepareContext& ctx) {
  const auto is_double = [&](size_t i) { return ctx.dtype(i) == DType::Float64; };
  if ((is_double(0) || is_double(2)) != kDouble) return decline(kDouble ? "only double" : "not double");
  const Plan p = prepare_plan(ctx);
  const int threads = std::max(ctx.threads(), 1);
  if constexpr (!kDouble)
    ctx.scratch(static_cast<size_t>(
        checked_mul(p.shape.scratch_floats(threads), sizeof(float), "attention scratch")));
  return [p, threads](RunContext& run) {
    run_plan<std::conditional_t<kDouble, double, float>>(p, threads, run);
  };
}

// All of bf16, with nothing kept and nothing shown: the products are bf16 too.
Prepared prepare_bfloat16(PrepareContext& ctx) {
  for (size_t i : {size_t{0}, size_t{1}, size_t{2}})
    if (ctx.dtype(i) != DType::BFloat16) return decline("not all of bf16");
  if (!has_panel_bfloat16()) return decline("no instructions for products of bf16");
  if (ctx.has_input(4) || ctx.wants(1) || ctx.wants(2) || ctx.wants(3)) return decline("more than Y is made");
  const Plan p = prepare_plan(ctx);
  if (p.attributes.softmax_precision && *p.attributes.softmax_precision != static_cast<int>(DType::Float32))
    return decline("scores are rounded");
  if (!p.shape.packs_keys() || p.shape.kv_len == 0 || p.shape.head % 2 != 0)
    return decline("too little, or odd heads");
  const int threads = std::max(ctx.threads(), 1);
  ctx.scratch(AttentionBFloat16(p.shape).scratch_bytes(threads));
  return [p, threads](RunContext& run) {
    AttentionProblem<float> problem;
    static_cast<AttentionShape&>(problem) = p.shape;
    const Tensor mask = set_conditions(p, run, problem);
    problem.q_at = strides_of(p, problem.q_heads, problem.q_len, problem.head);
    problem.k_at = strides_of(p, problem.kv_heads, p.new_len, problem.head);
    problem.v_at = strides_of(p, problem.kv_heads, p.new_len, problem.v_head);
    problem.y_at = strides_of(p, problem.q_heads, problem.q_len, problem.v_head);
    const auto bits = [&](size_t i) { return static_cast<const uint16_t*>(run.input(i).data()); };
    attend_bfloat16(problem,
                    {bits(0), bits(1), bits(2), static_cast<uint16_t*>(run.output(0).mutable_data())},
                    threads, run.scratch());
  };
}

}  // namespace

void register_attention(KernelRegistry& registry) {
  registry.add("Attention", "bfloat16", kFirst, prepare_bfloat16);
  registry.add("Attention", "simd", kSecond, prepare<false>);
  registry.ref("Attention", prepare<true>);
}

}  // namespace sardonyx::cpu
