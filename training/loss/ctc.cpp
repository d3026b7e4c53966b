// CTCLoss, by the definition of PyTorch's documentation.
#include "training/loss.h"

namespace sardonyx {

namespace {

// int64, whichever integers were given.
ValueId integers(LossBuild& b, size_t port, const std::string& name, const std::vector<int>& ranks) {
  Compose& c = b.c;
  const DType dtype = c.dtype(port);
  if (dtype != DType::Int64 && dtype != DType::Int32)
    throw InputError(name, "int64 or int32", dtype_name(dtype));
  bool fits = false;
  std::string allowed;
  for (const int rank : ranks) {
    fits = fits || c.rank(port) == rank;
    allowed += (allowed.empty() ? "" : " or ") + std::to_string(rank);
  }
  if (!fits) throw InputError(name, "rank " + allowed, "rank " + std::to_string(c.rank(port)));
  return dtype == DType::Int64 ? c.in(port) : c.cast(c.in(port), DType::Int64);
}

ValueId ctc(LossBuild& b) {
  Compose& c = b.c;
  const int rank = c.rank(0);
  if (rank != 2 && rank != 3) throw InputError("log_probs", "rank 2 or 3", "rank " + std::to_string(rank));
  const bool batched = rank == 3;
  // What has no batch gets one of one sequence.
  const auto lead = [&](ValueId x, bool has_batch, int64_t axis = 0) {
    return has_batch ? x : c.op("Unsqueeze", {x, c.ints({axis})});
  };
  const auto lengths = [&](size_t port, const std::string& name) {
    return lead(integers(b, port, name, batched ? std::vector<int>{1} : std::vector<int>{0, 1}),
                c.rank(port) == 1);
  };
  const ValueId scores = lead(c.in(0), batched, 1);
  const ValueId targets =
      lead(integers(b, 1, "targets", batched ? std::vector<int>{1, 2} : std::vector<int>{1}), batched);
  const ValueId steps = lengths(2, "input_lengths"), counts = lengths(3, "target_lengths");
  const int64_t blank = b.arguments.integer("blank", 0);
  if (blank < 0) b.arguments.refuse("blank", "a class", std::to_string(blank));
  const int64_t zero_infinity = b.arguments.flag("zero_infinity", false);
  ValueId loss = c.own("CTCLoss", {scores, targets, steps, counts},
                       attributes({{"blank", blank}, {"zero_infinity", zero_infinity}}));
  // The mean is that of the losses for each label.
  if (b.reduction == "mean") {
    const ValueId labels = c.op("Max", {counts, c.scalar(DType::Int64, 1)});
    loss = c.div(loss, c.cast(labels, b.dtype()));
  }
  if (b.reduction == "none" && !batched) return c.op("Squeeze", {loss, c.ints({0})});
  return b.reduced(loss);
}

}  // namespace

void register_ctc(std::vector<Loss>& losses) {
  using Usual = LossPort::Usual;
  losses.push_back({"CTCLoss",
                    {{"log_probs"},
                     {"targets", true, Usual::Sequences},
                     {"input_lengths", true, Usual::Lengths},
                     {"target_lengths", true, Usual::Lengths}},
                    ctc});
}

}  // namespace sardonyx
