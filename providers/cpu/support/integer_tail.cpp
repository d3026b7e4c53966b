#include "providers/cpu/support/integer_tail.h"

#include <algorithm>
#include <cmath>

#include "ops/elementwise.h"
#include "ops/quantization.h"
#include "providers/cpu/support/packed.h"

namespace sardonyx::cpu {

// Values are rounded before an odd zero point is added: afterwards halves would go the other way.
void IntegerTail::append_quantization(float scale, int zero) {
  if (zero % 2 != 0) {
    if (scale != 1) epilogue.ops.append_eltwise(dnnl::algorithm::eltwise_linear, scale, 0);
    epilogue.ops.append_eltwise(dnnl::algorithm::eltwise_round, 0, 0);
    scale = 1;
  }
  if (scale != 1 || zero != 0)
    epilogue.ops.append_eltwise(dnnl::algorithm::eltwise_linear, scale, static_cast<float>(zero));
}

IntegerTail IntegerTail::quantized(DType dtype, std::vector<float> scale, const std::vector<int32_t>& bias,
                                   int zero) {
  IntegerTail tail;
  tail.dtype = dtype;
  for (size_t i = 0; i < bias.size(); ++i)
    tail.bias.known.push_back(static_cast<float>(bias[i]) * scale[scale.size() == 1 ? 0 : i]);
  tail.bias.one = bias.size() == 1;
  tail.scale.one = scale.size() == 1;
  tail.scale.known = std::move(scale);
  tail.zero_ = zero;
  tail.append_quantization(1, zero);
  return tail;
}

namespace {

// What a post-op works on is `u`; the value it stands for is a * u + b.
struct Line {
  float a = 1, b = 0;
};

// Post-ops that have been decided on.
class PostOps {
 public:
  void eltwise(dnnl::algorithm algorithm, float alpha, float beta) {
    steps_.push_back({algorithm, alpha, beta, std::nullopt});
  }
  void line(const Line& l) {
    if (l.a != 1 || l.b != 0) eltwise(dnnl::algorithm::eltwise_linear, l.a, l.b);
  }
  void binary(dnnl::algorithm algorithm, size_t input, const std::pair<dnnl::memory::desc, Layout>& seen) {
    steps_.push_back({algorithm, 0, 0, Epilogue::Operand{input, 0, seen.first, seen.second}});
    ++operands_;
  }
  // To the integers of `q`, less their zero point.
  void narrow(const ByteScale& q) {
    const float low = q.dtype == DType::Int8 ? -128 : 0, zero = static_cast<float>(q.zero);
    eltwise(dnnl::algorithm::eltwise_round, 0, 0);
    eltwise(dnnl::algorithm::eltwise_clip, low - zero, low + 255 - zero);
  }
  size_t operands() const { return operands_; }
  Epilogue epilogue(size_t count) const {
    Epilogue e;
    e.count = count;
    for (const Step& step : steps_) {
      if (!step.operand) {
        e.ops.append_eltwise(step.algorithm, step.alpha, step.beta);
        continue;
      }
      e.operands.push_back(*step.operand);
      e.operands.back().post_op = e.ops.len();
      e.ops.append_binary(step.algorithm, step.operand->desc);
    }
    return e;
  }

 private:
  struct Step {
    dnnl::algorithm algorithm;
    float alpha, beta;
    std::optional<Epilogue::Operand> operand;
  };
  std::vector<Step> steps_;
  size_t operands_ = 0;
};

bool all_finite(const Tensor& tensor) {
  const float* data = tensor.data<float>();
  return std::all_of(data, data + tensor.size(), [](float v) { return std::isfinite(v); });
}

// A scale that divides and is divided without infinities.
bool is_moderate(float scale) { return scale > 1e-12f && scale < 1e12f; }

// Follows what output 0 becomes from node to node.
class Tracker {
 public:
  Tracker(const PrepareContext& ctx, const Dims& dims, const DescribeOperand& describe,
          const ByteScale& first)
      : ctx_(ctx), dims_(dims), describe_(describe), now_(first) {}

  PostOps ops;

  // Takes follower number k; false when it cannot be.
  bool take(size_t k) {
    const auto& f = ctx_.followers()[k];
    const std::string& op = f.node->op;
    const auto q = byte_scale(ctx_.graph(), *f.node);
    if (q && !is_moderate(q->scale)) return false;
    const bool mine = f.inputs[0].made == current_;
    if (q && op == "DequantizeLinear" && !mine) {
      if (f.inputs[0].made >= 0 || ctx_.dtype(f.inputs[0].input) != q->dtype) return false;
      sides_.push_back({static_cast<int>(k) + 1, f.inputs[0].input, *q});
      return true;
    }
    if (q && op == "DequantizeLinear") {
      if (!bytes_ || q->dtype != now_.dtype) return false;
      if (current_ == 0) ops.narrow(now_);
      line_ = {q->scale, static_cast<float>(now_.zero - q->zero) * q->scale};
      bytes_ = false;
    } else if (bytes_ || (q && !mine)) {
      return false;
    } else if (q) {
      ops.line({line_.a / q->scale, line_.b / q->scale});
      line_ = {};
      now_ = *q;
      bytes_ = true;
    } else if (op == "Relu" && mine) {
      ops.line(line_);
      line_ = {};
      ops.eltwise(dnnl::algorithm::eltwise_relu, 0, 0);
    } else if (op != "Add" && op != "Mul") {
      return false;
    } else if (!take_binary(f, op == "Add")) {
      return false;
    }
    current_ = static_cast<int>(k) + 1;
    return true;
  }
  // The integers that are made now, if they are: `ops` gives them before rounding, less their zero point.
  const ByteScale* bytes() const { return bytes_ ? &now_ : nullptr; }

 private:
  struct Side {  // a DequantizeLinear of another tensor
    int made;
    size_t input;
    ByteScale q;
  };

  bool take_binary(const PrepareContext::Follower& f, bool adds) {
    const size_t own = f.inputs[0].made == current_ ? 0 : 1;
    const auto& other = f.inputs[1 - own];
    if (f.inputs[own].made != current_ || other.made == current_) return false;
    const auto algorithm = adds ? dnnl::algorithm::binary_add : dnnl::algorithm::binary_mul;
    if (other.made >= 0) {
      const auto side =
          std::find_if(sides_.begin(), sides_.end(), [&](const Side& s) { return s.made == other.made; });
      if (side == sides_.end() || (!adds && side->q.zero != 0)) return false;
      const TensorDesc& operand = ctx_.input(side->input);
      const auto seen = operand.dims == dims_ ? describe_(operand, dims_) : std::nullopt;
      if (!seen) return false;
      const float s = side->q.scale;
      ops.line(adds ? Line{line_.a / s, line_.b / s - static_cast<float>(side->q.zero)}
                    : Line{line_.a * s, line_.b * s});
      ops.binary(algorithm, side->input, *seen);
      line_ = {adds ? s : 1, 0};
      return true;
    }
    const Tensor* constant = ctx_.constant(other.input);
    if (!constant || constant->dtype() != DType::Float32 || !all_finite(*constant)) return false;
    const TensorDesc& operand = ctx_.input(other.input);
    Dims full = operand.dims;
    if (full.size() > dims_.size()) return false;
    full.insert(full.begin(), dims_.size() - full.size(), 1);
    for (size_t i = 0; i < full.size(); ++i)
      if (full[i] != 1 && full[i] != dims_[i]) return false;
    if (constant->size() == 1) {
      const float v = *constant->data<float>();
      line_ = adds ? Line{line_.a, line_.b + v} : Line{line_.a * v, line_.b * v};
      return true;
    }
    const auto seen = describe_(operand, full);
    if (!seen) return false;
    ops.line(line_);
    ops.binary(algorithm, other.input, *seen);
    line_ = {};
    return true;
  }

  const PrepareContext& ctx_;
  const Dims& dims_;
  const DescribeOperand& describe_;
  ByteScale now_;
  bool bytes_ = true;
  Line line_;
  int current_ = 0;
  std::vector<Side> sides_;
};

}  // namespace

void IntegerTail::add_arguments(OneDnnArguments& arguments, const RunContext& run,
                                const dnnl::memory::desc& bias_desc,
                                const dnnl::memory::desc& scale_desc) const {
  if (bias.used()) arguments.add(DNNL_ARG_BIAS, bias_desc, bias.data(run));
  if (scale.used()) arguments.add(DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS, scale_desc, scale.data(run));
  epilogue.add_arguments(arguments, run);
}

void IntegerTail::take_followers(const PrepareContext& ctx, const Dims& dims,
                                 const DescribeOperand& describe) {
  Tracker tracker(ctx, dims, describe, {dtype, 1, zero_});
  for (size_t k = 0; k < ctx.followers().size() && tracker.take(k); ++k) {
    const ByteScale* made = tracker.bytes();
    if (!made || ctx.followers()[k].node->op != "QuantizeLinear") continue;
    if (ctx.followers()[k].closes && tracker.ops.operands() > epilogue.operands.size()) {
      epilogue = tracker.ops.epilogue(k + 1);
      dtype = made->dtype;
      append_quantization(1, made->zero);
    }
    tracker.ops.narrow(*made);
  }
}

namespace {

// An f32 operand of one number, or of one for each channel.
std::optional<IntegerTail::Numbers> numbers(const PrepareContext& ctx, size_t input, const Dims& dims,
                                            size_t channel_axis) {
  const TensorDesc& desc = ctx.input(input);
  const size_t rank = desc.dims.size();
  if (desc.dtype != DType::Float32 || rank > dims.size()) return std::nullopt;
  IntegerTail::Numbers found;
  found.one = desc.size() == 1;
  for (size_t i = 0; i < rank; ++i) {
    const size_t axis = dims.size() - rank + i;
    if (desc.dims[i] != 1 && (axis != channel_axis || desc.dims[i] != dims[axis])) return std::nullopt;
  }
  if (const Tensor* constant = ctx.constant(input))
    found.known.assign(constant->data<float>(), constant->data<float>() + constant->size());
  else
    found.input = input;
  return found;
}

}  // namespace

std::optional<IntegerTail> IntegerTail::followers(const PrepareContext& ctx, const Dims& dims,
                                                  size_t channel_axis, const DescribeOperand& describe) {
  const auto& followers = ctx.followers();
  if (followers.empty() || followers[0].node->op != "Cast" || followers[0].inputs[0].made != 0 ||
      parse_attributes<CastAttributes>(followers[0].node->attributes).to !=
          static_cast<int64_t>(DType::Float32))
    return std::nullopt;
  IntegerTail tail;
  size_t taken = 1;
  for (const auto& [op, target] : {std::pair("Mul", &tail.scale), std::pair("Add", &tail.bias)}) {
    if (taken == followers.size() || followers[taken].node->op != op) continue;
    const auto other = other_input(followers[taken], static_cast<int>(taken));
    auto found = other ? numbers(ctx, *other, dims, channel_axis) : std::nullopt;
    if (!found) break;
    *target = std::move(*found);
    ++taken;
  }
  tail.epilogue = onednn_epilogue(ctx, DType::Float32, dims, describe, taken);
  size_t& count = tail.epilogue.count;
  if (count == 0) return std::nullopt;
  // Everything before must be finite: NaN would become any integer.
  const auto finite = [](const Numbers& n) {
    return !n.input && std::all_of(n.known.begin(), n.known.end(), [](float v) { return std::isfinite(v); });
  };
  if (count == followers.size() || !followers[count].closes ||
      followers[count].node->op != "QuantizeLinear" ||
      followers[count].inputs[0].made != static_cast<int>(count) || !tail.epilogue.operands.empty() ||
      !finite(tail.scale) || !finite(tail.bias))
    return tail;
  const auto q = byte_scale(ctx.graph(), *followers[count].node);
  if (!q || !std::isnormal(q->scale)) return tail;
  float rest = 1 / q->scale;
  if (tail.epilogue.ops.len() == 0 && tail.scale.used()) {
    for (Numbers* n : {&tail.scale, &tail.bias})
      for (float& v : n->known) v /= q->scale;
    rest = 1;
  }
  tail.append_quantization(rest, q->zero);
  tail.dtype = q->dtype;
  ++count;
  return tail;
}

bool ZeroPoint::fits(const PrepareContext& ctx, size_t i) {
  return !ctx.has_input(i) || (ctx.input(i).size() == 1 && element_size(ctx.dtype(i)) == 1);
}

ZeroPoint::ZeroPoint(const PrepareContext& ctx, ScratchPlan& scratch, size_t i, int argument, int32_t shift)
    : argument_(argument), known_(shift), shift_(shift) {
  if (!ctx.has_input(i)) return;
  if (const Tensor* constant = ctx.constant(i)) {
    known_ += static_cast<int32_t>(constant->to_int64s().front());
    return;
  }
  input_ = i;
  at_ = scratch.add(sizeof(int32_t));
}

void ZeroPoint::add_argument(OneDnnArguments& arguments, const RunContext& run) const {
  if (!used()) return;
  const void* data = &known_;
  if (input_) {
    const Tensor& value = run.input(*input_);
    int32_t* place = reinterpret_cast<int32_t*>(run.scratch() + at_);
    *place = shift_ + (value.dtype() == DType::Int8 ? *value.data<int8_t>() : *value.data<uint8_t>());
    data = place;
  }
  arguments.add(DNNL_ARG_ATTR_ZERO_POINTS | argument_, onednn_dense(DType::Int32, {1}), data);
}

}  // namespace sardonyx::cpu
