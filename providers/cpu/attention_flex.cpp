// FlexAttention: attention whose scores and probabilities may pass through graphs of the model.
#include "ops/attention.h"
#include "providers/cpu/attention.h"
#include "providers/cpu/support/widen.h"
#include "providers/kernel.h"

namespace sardonyx::cpu {
namespace {

struct Plan {
  AttentionShape shape;
  DType type{}, precision{};  // of the inputs, and of scores and probabilities
  double scale = 1;
  std::shared_ptr<Body> score_mod, prob_mod;
};

Tensor converted(const Tensor& tensor, DType to) {
  if (tensor.dtype() == to) return tensor;
  Tensor copy(to, tensor.dims());
  convert_floats(tensor.dtype(), tensor.data(), to, copy.mutable_data(), tensor.size());
  return copy;
}

// What a body makes of a tensor: the same dims and type.
Tensor modified(RunContext& run, Body& body, const Tensor& in, const char* name) {
  const std::vector<Value> out = body.run(run, {in});
  if (out.size() != 1 || !out[0].is_tensor())
    run.fail(std::string("attribute '") + name + "'", "a graph with one tensor output");
  const Tensor& tensor = out[0].tensor();
  if (tensor.dtype() != in.dtype() || tensor.dims() != in.dims())
    run.fail(std::string("output of attribute '") + name + "'",
             std::string(dtype_name(in.dtype())) + to_string(in.dims()),
             std::string(dtype_name(tensor.dtype())) + to_string(tensor.dims()));
  return tensor;
}

template <typename T>
void run_plan(const Plan& p, int threads, RunContext& run) {
  constexpr DType kType = dtype_of<T>;
  AttentionProblem<T> problem;
  static_cast<AttentionShape&>(problem) = p.shape;
  const Tensor q = converted(run.input(0), kType), k = converted(run.input(1), kType),
               v = converted(run.input(2), kType);
  Tensor y = p.type == kType ? run.output(0) : Tensor(kType, run.output(0).dims());
  problem.q = q.data<T>();
  problem.k = k.data<T>();
  problem.v = v.data<T>();
  problem.y = y.mutable_data<T>();
  const auto dense = [](int64_t heads, int64_t positions, int64_t size) {
    return HeadStrides{heads * positions * size, positions * size, size};
  };
  problem.q_at = dense(problem.q_heads, problem.q_len, problem.head);
  problem.k_at = dense(problem.kv_heads, problem.kv_len, problem.head);
  problem.v_at = dense(problem.kv_heads, problem.kv_len, problem.v_head);
  problem.y_at = dense(problem.q_heads, problem.q_len, problem.v_head);
  problem.scale = static_cast<T>(p.scale);
  problem.empty_is_zero = false;
  problem.precision = p.precision;
  if (!p.score_mod && !p.prob_mod) {
    attend(problem, threads, reinterpret_cast<T*>(run.scratch()));
  } else {
    const int64_t sets = problem.batch * problem.q_heads, length = problem.kv_len, ld = problem.padded(),
                  size = problem.block();
    Tensor scores(kType, {problem.batch, problem.q_heads, problem.q_len, length});
    const auto each_block = [&](auto f) {
      parallel_for(
          sets,
          grain_for(static_cast<double>(problem.q_len * length) * static_cast<double>(problem.head) / 10 +
                    50),
          [&](int64_t begin, int64_t end) {
            std::vector<T> tile(static_cast<size_t>(problem.tile_floats()));
            for (int64_t set = begin; set < end; ++set)
              for (int64_t i = 0; i < problem.q_len; i += size) {
                const AttentionBlock<T> block{set / problem.q_heads, set % problem.q_heads, i,
                                              std::min(size, problem.q_len - i), false};
                f(block, scores.mutable_data<T>() + (set * problem.q_len + i) * length, tile.data());
              }
          });
    };
    each_block([&](const AttentionBlock<T>& block, T* rows, T* tile) {
      attention_scores<T>(problem, block, 0, length, nullptr, tile, ld);
      for (int64_t r = 0; r < block.n; ++r) std::copy_n(tile + r * ld, length, rows + r * length);
    });
    if (p.score_mod)
      scores =
          converted(modified(run, *p.score_mod, converted(scores, p.precision), "score_mod"), kType).clone();
    parallel_for(sets * problem.q_len, grain_for(static_cast<double>(length) + 10),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t row = begin; row < end; ++row)
                     softmax_row(scores.mutable_data<T>() + row * length, length, false);
                 });
    if (p.prob_mod)
      scores =
          converted(modified(run, *p.prob_mod, converted(scores, p.precision), "prob_mod"), kType).clone();
    std::vector<T> tails(static_cast<size_t>(problem.value_floats()));
    for (int64_t kv = 0; std::is_same_v<T, float> && !tails.empty() && kv < problem.batch * problem.kv_heads;
         ++kv)
      pack_panels(reinterpret_cast<const float*>(problem.v + kv * length * problem.v_head + problem.v_head -
                                                 problem.value_tail()),
                  problem.v_head, 1, length, problem.value_tail(),
                  reinterpret_cast<float*>(tails.data()) + kv * length * kPanel);
    each_block([&](const AttentionBlock<T>& block, T* rows, T*) {
      const int64_t kv = block.b * problem.kv_heads + block.head / problem.group();
      attention_values<T>(problem, block, 0, length,
                          tails.empty() ? nullptr : tails.data() + kv * length * kPanel, rows, length);
    });
  }
  if (p.type != kType) convert_floats(kType, y.data(), p.type, run.output(0).mutable_data(), y.size());
}

Prepared prepare(PrepareContext& ctx) {
  Plan p;
  const auto a = ctx.attributes<FlexAttentionAttributes>();
  for (size_t i : {size_t{0}, size_t{1}, size_t{2}})
    ctx.expect(ctx.rank(i) == 4, std::string("input '") + "QKV"[i] + "'", "rank 4", to_string(ctx.dims(i)));
  const Dims &q = ctx.dims(0), &k = ctx.dims(1), &v = ctx.dims(2);
  p.type = ctx.dtype(0);
  ctx.expect(is_float(p.type), "input 'Q'", "a float type", dtype_name(p.type));
  ctx.expect(ctx.dtype(1) == p.type && ctx.dtype(2) == p.type, "inputs 'K' and 'V'", dtype_name(p.type));
  p.shape.batch = q[0], p.shape.q_heads = q[1], p.shape.q_len = q[2], p.shape.head = q[3];
  p.shape.kv_heads = k[1], p.shape.kv_len = k[2], p.shape.v_head = v[3];
  ctx.expect(k == Dims{q[0], k[1], k[2], q[3]}, "input 'K'", to_string(Dims{q[0], k[1], k[2], q[3]}),
             to_string(k));
  ctx.expect(v == Dims{q[0], k[1], k[2], v[3]}, "input 'V'", to_string(Dims{q[0], k[1], k[2], v[3]}),
             to_string(v));
  ctx.expect(q[1] == k[1] || (k[1] > 0 && q[1] % k[1] == 0), "number of query heads",
             "a multiple of " + std::to_string(k[1]), std::to_string(q[1]));
  p.precision = p.type == DType::Float64 ? DType::Float64 : DType::Float32;
  if (a.softmax_precision) {
    p.precision = static_cast<DType>(*a.softmax_precision);
    ctx.expect(p.precision == DType::Float32 || p.precision == DType::Float64 ||
                   p.precision == DType::Float16 || p.precision == DType::BFloat16,
               "attribute 'softmax_precision'", "1, 10, 11 or 16", std::to_string(*a.softmax_precision));
  }
  p.scale = a.scale ? static_cast<double>(*a.scale) : 1 / std::sqrt(static_cast<double>(p.shape.head));
  if (a.score_mod) p.score_mod = ctx.body("score_mod");
  if (a.prob_mod) p.prob_mod = ctx.body("prob_mod");
  for (const auto* body : {&p.score_mod, &p.prob_mod})
    ctx.expect(!*body || ((*body)->graph().inputs().size() == 1 && (*body)->graph().outputs().size() == 1),
               "a modifier graph", "one input and one output");
  ctx.output(0, p.type, {q[0], q[1], q[2], v[3]});
  const int threads = std::max(ctx.threads(), 1);
  if (p.type == DType::Float64 || p.precision == DType::Float64)
    return [p, threads](RunContext& run) { run_plan<double>(p, threads, run); };
  ctx.scratch(
      static_cast<size_t>(checked_mul(p.shape.scratch_floats(threads), sizeof(float), "attention scratch")));
  return [p, threads](RunContext& run) { run_plan<float>(p, threads, run); };
}

}  // namespace

void register_attention_flex(KernelRegistry& registry) {
  registry.ref("FlexAttention", prepare, "ai.onnx.preview");
}

}  // namespace sardonyx::cpu
