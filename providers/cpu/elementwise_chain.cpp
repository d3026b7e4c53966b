// Elementwise nodes computed together: each of them over a block of f32 that stays in the first cache, one
// after the other. bf16 is rounded once, at the end; 8-bit integers are read through DequantizeLinear and
// written through QuantizeLinear.
#include <array>
#include <cstring>

#include "ops/elementwise.h"
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
  size_t input;      // of the kernel
  size_t width = 0;  // bytes of an element: 4 is f32, 2 is bf16, 1 an integer
};

struct Chain {
  std::vector<Step> steps;
  std::vector<Operand> operands;  // of the broadcast
  size_t count = 0;               // the followers taken
  DType result = DType::Float32;
  simd::NarrowBinaryRow single = nullptr;  // all of it, where it is one step from bf16 to bf16

  size_t operand(size_t input, DType dtype) {
    for (size_t i = 0; i < operands.size(); ++i)
      if (operands[i].input == input) return i;
    operands.push_back({input, element_size(dtype)});
    return operands.size() - 1;
  }
  bool all_bf16() const {
    return std::all_of(operands.begin(), operands.end(), [](const Operand& o) { return o.width == 2; });
  }
};

bool is_byte(DType dtype) { return dtype == DType::Int8 || dtype == DType::UInt8; }

// Whether input i is of a type that a chain reads, and broadcasts to `dims` without enlarging them.
bool fits(const PrepareContext& ctx, size_t i, const Dims& dims) {
  const TensorDesc& desc = ctx.input(i);
  if (!is_f32_or_bf16(desc.dtype) && !is_byte(desc.dtype)) return false;
  if (desc.dims.size() > dims.size()) return false;
  const size_t offset = dims.size() - desc.dims.size();
  for (size_t d = 0; d < desc.dims.size(); ++d)
    if (desc.dims[d] != 1 && desc.dims[d] != dims[offset + d]) return false;
  return true;
}

// Gives every step its register, free again after the last step that reads it: a loop may write over what it
// reads, unless it widens bytes. False when there are too few.
bool place_registers(std::vector<Step>& steps) {
  std::vector<size_t> last(steps.size(), 0), place(steps.size());
  for (size_t s = 0; s < steps.size(); ++s)
    for (const Source* source : {&steps[s].x, &steps[s].y})
      if (source->made) last[source->index] = s + (steps[s].bytes && !steps[s].quantizes);
  std::array<size_t, kMaxRegisters> busy_until = {};
  for (size_t s = 0; s < steps.size(); ++s) {
    Step& step = steps[s];
    for (Source* source : {&step.x, &step.y})
      if (source->made) source->index = place[source->index];
    size_t r = 0;
    while (r < kMaxRegisters && busy_until[r] > s) ++r;
    if (r == kMaxRegisters) return false;
    step.to = place[s] = r;
    busy_until[r] = last[s];
  }
  return true;
}

// What the nodes of a chain make: where it is, and its type in the graph. Blocks hold f32 or bytes.
struct Made {
  Source source;
  DType dtype = DType::Float32;
};

class ChainBuilder {
 public:
  ChainBuilder(const PrepareContext& ctx, const Dims& dims) : ctx_(ctx), dims_(dims) {}

  // The node and as many of its followers as there are loops for, up to the last that closes.
  std::optional<Chain> make(bool with_followers) {
    if (!add(ctx_.node(), [&](size_t i) { return operand(i); })) return std::nullopt;
    size_t steps = 0, operands = 0;
    const auto close = [&](size_t count) {
      const Made& made = made_.back();
      if (!made.source.made || made.source.index + 1 != chain_.steps.size()) return;
      steps = chain_.steps.size(), operands = chain_.operands.size();
      chain_.count = count, chain_.result = made.dtype;
    };
    close(0);
    for (const auto& follower : ctx_.followers()) {
      const auto input = [&](size_t i) -> std::optional<Made> {
        const auto& source = follower.inputs[i];
        if (source.made >= 0) return made_[static_cast<size_t>(source.made)];
        return operand(source.input);
      };
      if (!with_followers || !add(*follower.node, input)) break;
      if (follower.closes) close(made_.size() - 1);
    }
    if (steps == 0) return std::nullopt;
    chain_.steps.resize(steps);
    chain_.operands.resize(operands);
    if (operands > kMaxOperands || !place_registers(chain_.steps)) return std::nullopt;
    if (steps == 1 && chain_.result == DType::BFloat16 && binary_ && chain_.all_bf16())
      chain_.single = simd::narrow_row(*binary_);
    return chain_;
  }

 private:
  std::optional<Made> operand(size_t input) {
    if (!ctx_.is_tensor(input) || !fits(ctx_, input, dims_)) return std::nullopt;
    const DType dtype = ctx_.dtype(input);
    return Made{{false, chain_.operand(input, dtype)}, dtype};
  }

  // A conversion is no step of its own: blocks are f32 anyway. What the graph rounds on purpose before it
  // goes on as f32 is left alone.
  template <typename Input>
  bool add_cast(const Node& node, Input&& input) {
    const auto to = static_cast<DType>(parse_attributes<CastAttributes>(node.attributes).to.value_or(0));
    const auto x = is_f32_or_bf16(to) ? input(0) : std::nullopt;
    if (!x || !is_f32_or_bf16(x->dtype) || (to == DType::Float32 && rounded_)) return false;
    rounded_ = rounded_ || (to == DType::BFloat16 && x->dtype == DType::Float32);
    made_.push_back({x->source, to});
    return true;
  }

  template <typename Input>
  bool add_conversion(const Node& node, ByteScale scale, Input&& input) {
    Step step;
    step.quantizes = node.op == "QuantizeLinear";
    const DType from = step.quantizes ? DType::Float32 : scale.dtype;
    const auto x = input(0);
    if (!x || x->dtype != from) return false;
    step.x = x->source;
    made_.push_back({{true, chain_.steps.size()}, step.quantizes ? scale.dtype : DType::Float32});
    step.bytes = std::move(scale);
    chain_.steps.push_back(step);
    return true;
  }

  template <typename Input>
  bool add(const Node& node, Input&& input) {
    if (node.is("Cast")) return add_cast(node, input);
    if (auto scale = byte_scale(ctx_.graph(), node)) return add_conversion(node, std::move(*scale), input);
    const auto op = row_op(ctx_.graph(), node);
    if (!op) return false;
    Step step;
    const auto x = input(0);
    if (!x || !is_f32_or_bf16(x->dtype)) return false;
    step.x = x->source;
    DType dtype = x->dtype;
    if (op->unary) {
      step.unary = simd::row(*op->unary);
      step.a = op->a, step.b = op->b;
    } else {
      const auto y = input(1);
      if (!y || !is_f32_or_bf16(y->dtype)) return false;
      step.y = y->source;
      step.binary = simd::row(*op->binary);
      if (chain_.steps.empty()) binary_ = *op->binary;
      if (y->dtype == DType::BFloat16) dtype = DType::BFloat16;
    }
    chain_.steps.push_back(step);
    made_.push_back({{true, chain_.steps.size() - 1}, dtype});
    return true;
  }

  const PrepareContext& ctx_;
  const Dims& dims_;
  Chain chain_;
  std::vector<Made> made_;
  std::optional<simd::Binary> binary_;  // of the first step
  bool rounded_ = false;
};

// Where operand k of the broadcast is read for the elements at hand, and its step in elements.
struct Place {
  const std::byte* data;
  int64_t step;
  size_t width;

  Place at(int64_t element) const { return {data + element * static_cast<int64_t>(width), step, width}; }
  const float* floats() const { return reinterpret_cast<const float*>(data); }
  const uint16_t* bits() const { return reinterpret_cast<const uint16_t*>(data); }
};

template <typename T>
void convert(const Step& step, const void* x, void* to, int64_t count) {
  if (step.quantizes)
    simd::quantize(static_cast<const float*>(x), static_cast<T*>(to), count, step.bytes->scale,
                   step.bytes->zero);
  else
    simd::dequantize(static_cast<const T*>(x), static_cast<float*>(to), count, step.bytes->scale,
                     step.bytes->zero);
}

// Runs the steps on `count` elements, at most kBlock; operand k is at places[k]. Writes elements from `at`
// on.
void evaluate(const Chain& chain, const Place* places, int64_t count, void* out, int64_t at) {
  if (chain.single) {
    const Place &x = places[chain.steps[0].x.index], &y = places[chain.steps[0].y.index];
    return chain.single(x.bits(), x.step, y.bits(), y.step, static_cast<uint16_t*>(out) + at, count);
  }
  alignas(64) float blocks[kMaxRegisters][kBlock];
  alignas(64) float widened[2][kBlock];
  // f32, or bytes for a step that widens them.
  const auto read = [&](const Source& source, float* buffer) {
    if (source.made) return std::pair<const float*, int64_t>(blocks[source.index], 1);
    const Place& place = places[source.index];
    if (place.width != sizeof(uint16_t)) return std::pair(place.floats(), place.step);
    simd::bfloat16_to_float(place.bits(), buffer, place.step ? count : 1);
    return std::pair<const float*, int64_t>(buffer, place.step);
  };
  const bool narrow = chain.result == DType::BFloat16;
  for (size_t s = 0; s < chain.steps.size(); ++s) {
    const Step& step = chain.steps[s];
    const bool last = s + 1 == chain.steps.size();
    float* to = blocks[step.to];
    if (last && !narrow)
      to = reinterpret_cast<float*>(static_cast<std::byte*>(out) +
                                    at * static_cast<int64_t>(element_size(chain.result)));
    const auto [x, x_step] = read(step.x, widened[0]);
    const int64_t own = x_step ? count : 1;
    if (step.binary) {
      const auto [y, y_step] = read(step.y, widened[1]);
      step.binary(x, x_step, y, y_step, to, count);
    } else if (step.unary) {
      step.unary(x, to, own, step.a, step.b);
    } else {
      step.bytes->dtype == DType::Int8 ? convert<int8_t>(step, x, to, own)
                                       : convert<uint8_t>(step, x, to, own);
    }
    if (!step.binary && own != count) {
      if (step.quantizes)
        std::memset(to, *reinterpret_cast<const uint8_t*>(to), static_cast<size_t>(count));
      else
        std::fill(to + 1, to + count, to[0]);
    }
    if (last && narrow) simd::float_to_bfloat16(to, static_cast<uint16_t*>(out) + at, count);
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

void run_short_rows(const Chain& chain, const Broadcast& plan, double ns, const Place* data, void* out) {
  const int64_t row = plan.row(), around = plan.rows_around(), together = kBlock / row;
  const size_t operands = chain.operands.size();
  parallel_for(plan.size() / row, grain_for(ns * static_cast<double>(row)), [&](int64_t begin, int64_t end) {
    alignas(64) float copies[kMaxRepeated][kBlock];
    std::array<Place, kMaxOperands> places;
    while (begin < end) {
      const int64_t rows = std::min(around - begin % around, end - begin);
      const std::vector<int64_t> from = plan.places(begin * row);
      size_t repeated = 0;
      for (size_t k = 0; k < operands; ++k) {
        places[k] = data[k].at(from[k + 1]);
        if (plan.step(k + 1) == 0 || plan.row_step(k + 1) != 0) continue;
        float* copy = copies[repeated++];
        auto* bytes = reinterpret_cast<std::byte*>(copy);
        const bool widen = places[k].width == sizeof(uint16_t) && !chain.single;
        const size_t width = widen ? sizeof(float) : places[k].width, size = static_cast<size_t>(row) * width;
        if (widen)
          simd::bfloat16_to_float(places[k].bits(), copy, row);
        else
          std::memcpy(bytes, places[k].data, size);
        for (int64_t r = 1; r < std::min(together, rows); ++r)
          std::memcpy(bytes + static_cast<size_t>(r) * size, bytes, size);
        places[k] = {bytes, 1, width};
      }
      for (int64_t done = 0; done < rows; done += together) {
        evaluate(chain, places.data(), std::min(together, rows - done) * row, out, (begin + done) * row);
        for (size_t k = 0; k < operands; ++k) places[k] = places[k].at(plan.row_step(k + 1) * together);
      }
      begin += rows;
    }
  });
}

// The 256 results of a chain whose only operand that is no number is of 8 bits, as is the result; nothing for
// any other.
std::optional<std::array<uint8_t, 256>> table_of(const PrepareContext& ctx, const Chain& chain,
                                                 const Dims& dims, size_t* input) {
  if (!is_byte(chain.result)) return std::nullopt;
  std::array<uint8_t, 256> all, results;
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint8_t>(i);
  std::array<Place, kMaxOperands> places;
  bool found = false;
  for (size_t k = 0; k < chain.operands.size(); ++k) {
    const Operand& operand = chain.operands[k];
    const Tensor* constant = ctx.constant(operand.input);
    if (constant && constant->size() == 1) {
      places[k] = {static_cast<const std::byte*>(constant->data()), 0, operand.width};
    } else {
      if (found || operand.width != 1 || ctx.dims(operand.input) != dims) return std::nullopt;
      found = true;
      *input = operand.input;
      places[k] = {reinterpret_cast<const std::byte*>(all.data()), 1, 1};
    }
  }
  if (!found) return std::nullopt;
  evaluate(chain, places.data(), static_cast<int64_t>(all.size()), results.data(), 0);
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
  auto chain = ChainBuilder(ctx, dims).make(true);
  if (!chain) chain = ChainBuilder(ctx, dims).make(false);
  if (!chain) return decline("no loops for the node and what follows");
  std::vector<Dims> operands = {dims};
  for (const Operand& operand : chain->operands) operands.push_back(ctx.dims(operand.input));
  Broadcast plan(operands);
  const bool short_rows = has_short_rows(plan, chain->operands.size());
  const bool mixed = std::any_of(chain->operands.begin(), chain->operands.end(),
                                 [](const Operand& o) { return o.width == 2; }) &&
                     !chain->all_bf16();
  if (chain->count == 0 && !short_rows && !mixed)
    return decline("nothing follows that could be computed with it");
  ctx.output(0, chain->result, dims);
  for (const Operand& operand : chain->operands)
    if (!ctx.constant(operand.input) && ctx.dims(operand.input) == dims &&
        operand.width == element_size(chain->result)) {
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
    void* out = run.output(0).mutable_data();
    std::array<Place, kMaxOperands> data;
    const size_t operands = chain.operands.size();
    for (size_t k = 0; k < operands; ++k)
      data[k] = {static_cast<const std::byte*>(run.input(chain.operands[k].input).data()), plan.step(k + 1),
                 chain.operands[k].width};
    if (short_rows) return run_short_rows(chain, plan, ns, data.data(), out);
    plan.rows(grain_for(ns), [&](int64_t at, const int64_t* from, int64_t n) {
      std::array<Place, kMaxOperands> places;
      for (int64_t done = 0; done < n; done += kBlock) {
        for (size_t k = 0; k < operands; ++k) places[k] = data[k].at(from[k + 1] + done * plan.step(k + 1));
        evaluate(chain, places.data(), std::min(kBlock, n - done), out, at + done);
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
  for (const auto& [domain, name] : row_op_names()) {
    r.add(name, "chain", kFirst - 1, prepare_chain, domain, LayoutRule::Aware);
    if (domain.empty()) r.add(name, "simd", kSecond, prepare_row);  // own operators have kernels of their own
  }
  for (const char* name : {"Cast", "QuantizeLinear", "DequantizeLinear"})
    r.add_aware(name, "chain", kFirst - 1, prepare_chain);
}

}  // namespace sardonyx::cpu
