// Elementwise nodes computed together: each of them over a block that stays in the first cache, one after the
// other. Values are f32; 8-bit integers are read through DequantizeLinear and written through QuantizeLinear.
#include <array>
#include <cstring>

#include "ops/quantization.h"
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
// One of unary, binary and bytes is set.
struct Step {
  simd::UnaryRow unary = nullptr;
  float a = 0, b = 0;
  simd::BinaryRow binary = nullptr;
  std::optional<ByteScale> bytes;
  bool quantizes = false;  // with bytes: from f32, else to f32
  Source x, y;
  size_t to = 0;  // the register
};

struct Operand {
  size_t input;   // of the kernel
  int64_t bytes;  // of an element
};

struct Chain {
  std::vector<Step> steps;
  std::vector<Operand> operands;  // of the broadcast
  DType dtype = DType::Float32;   // of the result
  size_t count = 0;               // the followers taken

  size_t operand(size_t input, DType type) {
    for (size_t i = 0; i < operands.size(); ++i)
      if (operands[i].input == input) return i;
    operands.push_back({input, static_cast<int64_t>(element_size(type))});
    return operands.size() - 1;
  }
};

// Whether input i broadcasts to `dims` without enlarging them.
bool fits(const PrepareContext& ctx, size_t i, const Dims& dims) {
  const Dims& own = ctx.dims(i);
  if (own.size() > dims.size()) return false;
  const size_t offset = dims.size() - own.size();
  for (size_t d = 0; d < own.size(); ++d)
    if (own[d] != 1 && own[d] != dims[offset + d]) return false;
  return true;
}

// The node and as many of its followers as there are loops for, up to the last that closes.
std::optional<Chain> make_chain(const PrepareContext& ctx, const Dims& dims) {
  using Follower = PrepareContext::Follower;
  Chain chain;
  std::vector<DType> made;  // what each step makes
  const auto step_of = [&](const Node& node, auto&& source) -> std::optional<Step> {
    Step step;
    if ((step.bytes = byte_scale(ctx.graph(), node))) {
      step.quantizes = node.op == "QuantizeLinear";
      const auto x = source(0, step.quantizes ? DType::Float32 : step.bytes->dtype);
      if (!x) return std::nullopt;
      step.x = *x;
      made.push_back(step.quantizes ? step.bytes->dtype : DType::Float32);
      return step;
    }
    const auto op = row_op(ctx.graph(), node);
    if (!op) return std::nullopt;
    const auto x = source(0, DType::Float32);
    if (!x) return std::nullopt;
    step.x = *x;
    if (op->unary) {
      step.unary = simd::row(*op->unary);
      step.a = op->a, step.b = op->b;
      made.push_back(DType::Float32);
      return step;
    }
    const auto y = source(1, DType::Float32);
    if (!y) return std::nullopt;
    step.y = *y;
    step.binary = simd::row(*op->binary);
    made.push_back(DType::Float32);
    return step;
  };
  const auto operand = [&](size_t input, DType dtype) -> std::optional<Source> {
    if (!ctx.is_tensor(input) || ctx.dtype(input) != dtype || !fits(ctx, input, dims)) return std::nullopt;
    return Source{false, chain.operand(input, dtype)};
  };
  const auto first = step_of(ctx.node(), operand);
  if (!first) return std::nullopt;
  chain.steps.push_back(*first);
  size_t operands = chain.operands.size();
  for (const Follower& follower : ctx.followers()) {
    const auto step = step_of(*follower.node, [&](size_t i, DType dtype) -> std::optional<Source> {
      const auto& source = follower.inputs[i];
      if (source.made < 0) return operand(source.input, dtype);
      const size_t index = static_cast<size_t>(source.made);
      return made[index] == dtype ? std::optional(Source{true, index}) : std::nullopt;
    });
    if (!step) break;
    chain.steps.push_back(*step);
    if (!follower.closes) continue;
    chain.count = chain.steps.size() - 1;
    operands = chain.operands.size();
  }
  chain.steps.resize(chain.count + 1);
  chain.operands.resize(operands);
  chain.dtype = made[chain.count];
  if (chain.operands.size() > kMaxOperands) return std::nullopt;

  // Registers, each free again after the last step that reads it. A loop may write over what it reads, unless
  // it widens bytes.
  std::vector<size_t> last(chain.steps.size(), 0);
  for (size_t s = 0; s < chain.steps.size(); ++s)
    for (const Source* source : {&chain.steps[s].x, &chain.steps[s].y})
      if (source->made) {
        const Step& step = chain.steps[s];
        last[source->index] = s + (step.bytes && !step.quantizes);
      }
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

// Where operand k of the broadcast is read for the elements at hand, and its step in elements.
struct Place {
  const char* data;
  int64_t step;
};

void convert(const Step& step, const Place& x, char* to, int64_t count) {
  const ByteScale& q = *step.bytes;
  const auto run = [&]<typename T>() {
    if (step.quantizes)
      simd::quantize(reinterpret_cast<const float*>(x.data), reinterpret_cast<T*>(to), count, q.scale,
                     q.zero);
    else
      simd::dequantize(reinterpret_cast<const T*>(x.data), reinterpret_cast<float*>(to), count, q.scale,
                       q.zero);
  };
  q.dtype == DType::Int8 ? run.template operator()<int8_t>() : run.template operator()<uint8_t>();
}

// Runs the steps on `count` elements, at most kBlock; operand k is at places[k].
void evaluate(const Chain& chain, const Place* places, int64_t count, char* out) {
  alignas(64) float blocks[kMaxRegisters][kBlock];
  const auto read = [&](const Source& source) {
    return source.made ? Place{reinterpret_cast<const char*>(blocks[source.index]), 1} : places[source.index];
  };
  for (size_t s = 0; s < chain.steps.size(); ++s) {
    const Step& step = chain.steps[s];
    char* to = s + 1 == chain.steps.size() ? out : reinterpret_cast<char*>(blocks[step.to]);
    const Place x = read(step.x);
    const float* floats = reinterpret_cast<const float*>(x.data);
    float* results = reinterpret_cast<float*>(to);
    if (step.binary) {
      const Place y = read(step.y);
      step.binary(floats, x.step, reinterpret_cast<const float*>(y.data), y.step, results, count);
      continue;
    }
    const int64_t own = x.step ? count : 1;
    if (step.unary)
      step.unary(floats, results, own, step.a, step.b);
    else
      convert(step, x, to, own);
    if (own == count) continue;
    if (step.quantizes)
      std::fill(to + 1, to + count, to[0]);
    else
      std::fill(results + 1, results + count, results[0]);
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

void run_short_rows(const Chain& chain, const Broadcast& plan, double ns, const char* const* data,
                    char* out) {
  const int64_t row = plan.row(), around = plan.rows_around(), together = kBlock / row;
  const int64_t out_bytes = static_cast<int64_t>(element_size(chain.dtype));
  const size_t operands = chain.operands.size();
  parallel_for(plan.size() / row, grain_for(ns * static_cast<double>(row)), [&](int64_t begin, int64_t end) {
    alignas(64) char copies[kMaxRepeated][kBlock * 4];
    std::array<Place, kMaxOperands> places;
    while (begin < end) {
      const int64_t rows = std::min(around - begin % around, end - begin);
      const std::vector<int64_t> from = plan.places(begin * row);
      size_t repeated = 0;
      for (size_t k = 0; k < operands; ++k) {
        const int64_t bytes = chain.operands[k].bytes;
        places[k] = {data[k] + from[k + 1] * bytes, plan.step(k + 1)};
        if (plan.step(k + 1) == 0 || plan.row_step(k + 1) != 0) continue;
        char* copy = copies[repeated++];
        for (int64_t r = 0; r < std::min(together, rows); ++r)
          std::memcpy(copy + r * row * bytes, places[k].data, static_cast<size_t>(row * bytes));
        places[k].data = copy;
      }
      for (int64_t done = 0; done < rows; done += together) {
        evaluate(chain, places.data(), std::min(together, rows - done) * row,
                 out + (begin + done) * row * out_bytes);
        for (size_t k = 0; k < operands; ++k)
          places[k].data += plan.row_step(k + 1) * together * chain.operands[k].bytes;
      }
      begin += rows;
    }
  });
}

// The 256 results of a chain whose only operand that is no number is of 8 bits, as is the result; nothing for
// any other.
std::optional<std::array<uint8_t, 256>> table_of(const PrepareContext& ctx, const Chain& chain,
                                                 const Dims& dims, size_t* input) {
  if (element_size(chain.dtype) != 1) return std::nullopt;
  std::array<uint8_t, 256> all, results;
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint8_t>(i);
  std::array<Place, kMaxOperands> places;
  bool found = false;
  for (size_t k = 0; k < chain.operands.size(); ++k) {
    const Operand& operand = chain.operands[k];
    const Tensor* constant = ctx.constant(operand.input);
    if (constant && constant->size() == 1) {
      places[k] = {static_cast<const char*>(constant->data()), 0};
    } else {
      if (found || operand.bytes != 1 || ctx.dims(operand.input) != dims) return std::nullopt;
      found = true;
      *input = operand.input;
      places[k] = {reinterpret_cast<const char*>(all.data()), 1};
    }
  }
  if (!found) return std::nullopt;
  evaluate(chain, places.data(), static_cast<int64_t>(all.size()), reinterpret_cast<char*>(results.data()));
  return results;
}

Prepared prepare_chain(PrepareContext& ctx) {
  std::vector<Dims> own;
  const bool bytes = ctx.node().op == "QuantizeLinear" || ctx.node().op == "DequantizeLinear";
  if (bytes && !byte_scale(ctx.graph(), ctx.node())) return decline("not of 8 bits with one constant scale");
  for (size_t i = 0; i < (bytes ? 1 : ctx.input_count()); ++i)
    if (ctx.is_tensor(i)) own.push_back(ctx.dims(i));
  if (own.empty()) return decline("no tensor");
  const Dims dims = Broadcast(own).dims();
  const auto chain = make_chain(ctx, dims);
  if (!chain) return decline("no loops for the node and what follows");
  std::vector<Dims> operands = {dims};
  for (const Operand& operand : chain->operands) operands.push_back(ctx.dims(operand.input));
  Broadcast plan(operands);
  const bool short_rows = has_short_rows(plan, chain->operands.size());
  if (chain->count == 0 && !short_rows) return decline("nothing follows that could be computed with it");
  ctx.output(0, chain->dtype, dims);
  for (const Operand& operand : chain->operands)
    if (!ctx.constant(operand.input) && ctx.dims(operand.input) == dims &&
        element_size(ctx.dtype(operand.input)) == element_size(chain->dtype)) {
      ctx.may_share(0, operand.input);
      break;
    }
  ctx.absorb(chain->count);
  size_t input = 0;
  if (const auto table = table_of(ctx, *chain, dims, &input))
    return [table = *table, input, n = plan.size()](RunContext& run) {
      const uint8_t* x = run.in<uint8_t>(input);
      uint8_t* y = run.out<uint8_t>(0);
      parallel_for(n, grain_for(0.1), [&](int64_t begin, int64_t end) {
        simd::look_up(table.data(), x + begin, y + begin, end - begin);
      });
    };
  const double ns = 0.5 * static_cast<double>(chain->steps.size());
  return [chain = *chain, plan = std::move(plan), short_rows, ns](RunContext& run) {
    char* out = static_cast<char*>(run.output(0).mutable_data());
    std::array<const char*, kMaxOperands> data;
    const size_t operands = chain.operands.size();
    for (size_t k = 0; k < operands; ++k)
      data[k] = static_cast<const char*>(run.input(chain.operands[k].input).data());
    if (short_rows) return run_short_rows(chain, plan, ns, data.data(), out);
    const int64_t out_bytes = static_cast<int64_t>(element_size(chain.dtype));
    plan.rows(grain_for(ns), [&](int64_t at, const int64_t* from, int64_t n) {
      std::array<Place, kMaxOperands> places;
      for (int64_t done = 0; done < n; done += kBlock) {
        for (size_t k = 0; k < operands; ++k)
          places[k] = {data[k] + (from[k + 1] + done * plan.step(k + 1)) * chain.operands[k].bytes,
                       plan.step(k + 1)};
        evaluate(chain, places.data(), std::min(kBlock, n - done), out + (at + done) * out_bytes);
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
  for (const char* name : {"QuantizeLinear", "DequantizeLinear"})
    r.add_aware(name, "chain", kFirst - 1, prepare_chain);
}

}  // namespace sardonyx::cpu
