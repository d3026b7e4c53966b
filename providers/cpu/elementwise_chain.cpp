// Elementwise f32 nodes computed together: each of them over a block that stays in the first cache, one after
// the other.
#include <array>

#include "providers/cpu/support/elementwise.h"
#include "providers/cpu/support/row_ops.h"

namespace sardonyx::cpu {

namespace {

constexpr size_t kMaxRegisters = 5;  // blocks that live at a time
constexpr int64_t kBlock = 512;      // elements
constexpr size_t kMaxOperands = 16;
constexpr size_t kMaxRepeated = 3;  // operands that are copied

// Where a step reads: a block made by an earlier step, or operand `index` of the broadcast.
struct Source {
  bool made = false;
  size_t index = 0;
};
struct Step {
  simd::UnaryRow unary = nullptr;
  float a = 0, b = 0;
  simd::BinaryRow binary = nullptr;
  Source x, y;
  size_t to = 0;  // the register
};

struct Chain {
  std::vector<Step> steps;
  std::vector<size_t> inputs;  // of the kernel: the operands of the broadcast
  size_t count = 0;            // the followers taken

  size_t operand(size_t input) {
    for (size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i] == input) return i;
    inputs.push_back(input);
    return inputs.size() - 1;
  }
};

// Whether input i is f32 and broadcasts to `dims` without enlarging them.
bool fits(const PrepareContext& ctx, size_t i, const Dims& dims) {
  const TensorDesc& desc = ctx.input(i);
  if (desc.dtype != DType::Float32 || desc.dims.size() > dims.size()) return false;
  const size_t offset = dims.size() - desc.dims.size();
  for (size_t d = 0; d < desc.dims.size(); ++d)
    if (desc.dims[d] != 1 && desc.dims[d] != dims[offset + d]) return false;
  return true;
}

// The node and as many of its followers as there are loops for, up to the last that closes.
std::optional<Chain> make_chain(const PrepareContext& ctx, const Dims& dims) {
  using Follower = PrepareContext::Follower;
  Chain chain;
  const auto step_of = [&](const Node& node, auto&& source) -> std::optional<Step> {
    const auto op = row_op(ctx.graph(), node);
    if (!op) return std::nullopt;
    Step step;
    const auto x = source(0);
    if (!x) return std::nullopt;
    step.x = *x;
    if (op->unary) {
      step.unary = simd::row(*op->unary);
      step.a = op->a, step.b = op->b;
      return step;
    }
    const auto y = source(1);
    if (!y) return std::nullopt;
    step.y = *y;
    step.binary = simd::row(*op->binary);
    return step;
  };
  const auto operand = [&](size_t input) -> std::optional<Source> {
    if (!ctx.is_tensor(input) || !fits(ctx, input, dims)) return std::nullopt;
    return Source{false, chain.operand(input)};
  };
  const auto first = step_of(ctx.node(), operand);
  if (!first) return std::nullopt;
  chain.steps.push_back(*first);
  size_t operands = chain.inputs.size();
  for (const Follower& follower : ctx.followers()) {
    const auto step = step_of(*follower.node, [&](size_t i) -> std::optional<Source> {
      const auto& source = follower.inputs[i];
      if (source.made >= 0) return Source{true, static_cast<size_t>(source.made)};
      return operand(source.input);
    });
    if (!step) break;
    chain.steps.push_back(*step);
    if (!follower.closes) continue;
    chain.count = chain.steps.size() - 1;
    operands = chain.inputs.size();
  }
  chain.steps.resize(chain.count + 1);
  chain.inputs.resize(operands);
  if (chain.inputs.size() > kMaxOperands) return std::nullopt;

  // Registers, each free again after the last step that reads it. A loop may write over what it reads.
  std::vector<size_t> last(chain.steps.size(), 0);
  for (size_t s = 0; s < chain.steps.size(); ++s)
    for (const Source* source : {&chain.steps[s].x, &chain.steps[s].y})
      if (source->made) last[source->index] = s;
  std::vector<size_t> place(chain.steps.size());
  std::array<size_t, kMaxRegisters> busy_until = {};
  for (size_t s = 0; s < chain.steps.size(); ++s) {
    Step& step = chain.steps[s];
    for (Source* source : {&step.x, &step.y})
      if (source->made) source->index = place[source->index];
    size_t r = 0;
    while (r < kMaxRegisters && busy_until[r] > s) ++r;
    if (r == kMaxRegisters) return std::nullopt;
    step.to = place[s] = r;
    busy_until[r] = last[s];
  }
  return chain;
}

// Where operand k of the broadcast is read for the elements at hand, and its step.
struct Place {
  const float* data;
  int64_t step;
};

// Runs the steps on `count` elements, at most kBlock; operand k is at places[k].
void evaluate(const Chain& chain, const Place* places, int64_t count, float* out) {
  alignas(64) float blocks[kMaxRegisters][kBlock];
  const auto read = [&](const Source& source) {
    return source.made ? Place{blocks[source.index], 1} : places[source.index];
  };
  for (size_t s = 0; s < chain.steps.size(); ++s) {
    const Step& step = chain.steps[s];
    float* to = s + 1 == chain.steps.size() ? out : blocks[step.to];
    const Place x = read(step.x);
    if (step.unary) {
      step.unary(x.data, to, x.step ? count : 1, step.a, step.b);
      if (!x.step) std::fill(to + 1, to + count, to[0]);
    } else {
      const Place y = read(step.y);
      step.binary(x.data, x.step, y.data, y.step, to, count);
    }
  }
}

// Short rows of which some operands repeat the same one, as a bias for each channel in channels-last order:
// several rows are done at a time, with copies of the repeated ones.
bool has_short_rows(const Broadcast& plan, size_t operands) {
  size_t repeated = 0;
  for (size_t k = 1; k <= operands; ++k) {
    if (plan.step(k) == 1 && plan.row_step(k) == plan.row()) continue;
    if (plan.row_step(k) != 0) return false;
    repeated += plan.step(k) == 1;
  }
  return repeated > 0 && repeated <= kMaxRepeated && plan.row() <= kBlock / 2 && plan.rows_around() > 1;
}

void run_short_rows(const Chain& chain, const Broadcast& plan, double ns, const float* const* data,
                    float* out) {
  const int64_t row = plan.row(), around = plan.rows_around(), together = kBlock / row;
  const size_t operands = chain.inputs.size();
  parallel_for(plan.size() / row, grain_for(ns * static_cast<double>(row)), [&](int64_t begin, int64_t end) {
    alignas(64) float copies[kMaxRepeated][kBlock];
    std::array<Place, kMaxOperands> places;
    while (begin < end) {
      const int64_t rows = std::min(around - begin % around, end - begin);
      const std::vector<int64_t> from = plan.places(begin * row);
      size_t repeated = 0;
      for (size_t k = 0; k < operands; ++k) {
        places[k] = {data[k] + from[k + 1], plan.step(k + 1)};
        if (plan.step(k + 1) == 0 || plan.row_step(k + 1) != 0) continue;
        float* copy = copies[repeated++];
        for (int64_t r = 0; r < std::min(together, rows); ++r)
          std::copy_n(places[k].data, row, copy + r * row);
        places[k].data = copy;
      }
      for (int64_t done = 0; done < rows; done += together) {
        evaluate(chain, places.data(), std::min(together, rows - done) * row, out + (begin + done) * row);
        for (size_t k = 0; k < operands; ++k) places[k].data += plan.row_step(k + 1) * together;
      }
      begin += rows;
    }
  });
}

Prepared prepare_chain(PrepareContext& ctx) {
  std::vector<Dims> own;
  for (size_t i = 0; i < ctx.input_count(); ++i)
    if (ctx.is_tensor(i)) own.push_back(ctx.dims(i));
  if (own.empty()) return decline("no tensor");
  const Dims dims = Broadcast(own).dims();
  const auto chain = make_chain(ctx, dims);
  if (!chain) return decline("no loops for the node and what follows");
  std::vector<Dims> operands = {dims};
  for (const size_t input : chain->inputs) operands.push_back(ctx.dims(input));
  Broadcast plan(operands);
  const bool short_rows = has_short_rows(plan, chain->inputs.size());
  if (chain->count == 0 && !short_rows) return decline("nothing follows that could be computed with it");
  ctx.output(0, DType::Float32, dims);
  for (const size_t input : chain->inputs)
    if (!ctx.constant(input) && ctx.dims(input) == dims) {
      ctx.may_share(0, input);
      break;
    }
  ctx.absorb(chain->count);
  const double ns = 0.5 * static_cast<double>(chain->steps.size());
  return [chain = *chain, plan = std::move(plan), short_rows, ns](RunContext& run) {
    float* out = run.out<float>(0);
    std::array<const float*, kMaxOperands> data;
    const size_t operands = chain.inputs.size();
    for (size_t k = 0; k < operands; ++k) data[k] = run.in<float>(chain.inputs[k]);
    if (short_rows) return run_short_rows(chain, plan, ns, data.data(), out);
    plan.rows(grain_for(ns), [&](int64_t at, const int64_t* from, int64_t n) {
      std::array<Place, kMaxOperands> places;
      for (int64_t done = 0; done < n; done += kBlock) {
        for (size_t k = 0; k < operands; ++k)
          places[k] = {data[k] + from[k + 1] + done * plan.step(k + 1), plan.step(k + 1)};
        evaluate(chain, places.data(), std::min(kBlock, n - done), out + at + done);
      }
    });
  };
}

Prepared prepare_row(PrepareContext& ctx) {
  const auto op = row_op(ctx.graph(), ctx.node());
  if (!op) return decline("no loop for these attributes");
  return op->unary ? prepare_simd_unary(ctx, *op->unary, op->a, op->b)
                   : prepare_simd_binary(ctx, *op->binary);
}

}  // namespace

void register_elementwise_chain(KernelRegistry& r) {
  for (const std::string& name : row_op_names()) {
    r.add_aware(name, "chain", kFirst - 1, prepare_chain);
    r.add(name, "simd", kSecond, prepare_row);
  }
}

}  // namespace sardonyx::cpu
