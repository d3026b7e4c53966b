// Losses of distances and rankings: MarginRankingLoss, HingeEmbeddingLoss, CosineEmbeddingLoss,
// TripletMarginLoss, TripletMarginWithDistanceLoss. Formulas are those of PyTorch's documentation.
#include <cmath>

#include "training/loss.h"

namespace sardonyx {

namespace {

ValueId margin_ranking(LossBuild& b) {
  Compose& c = b.c;
  const ValueId lead = c.mul(c.neg(c.in(2)), c.sub(c.in(0), c.in(1)));
  return b.reduced(c.op("Relu", {c.add(lead, b.scalar(b.arguments.number("margin", 0)))}));
}

ValueId is(LossBuild& b, ValueId target, double sign) { return b.c.op("Equal", {target, b.scalar(sign)}); }

ValueId hinge_embedding(LossBuild& b) {
  Compose& c = b.c;
  const ValueId x = c.in(0), target = c.in(1), zero = b.scalar(0);
  const ValueId hinge = c.op("Relu", {c.sub(b.scalar(b.arguments.number("margin", 1)), x)});
  const ValueId near = c.where(is(b, target, -1), zero, x), far = c.where(is(b, target, 1), zero, hinge);
  return b.reduced(c.add(near, far));
}

ValueId sum_last(LossBuild& b, ValueId x) { return b.c.reduce_sum(x, {-1}, false); }

ValueId cosine(LossBuild& b, ValueId x, ValueId y, double eps) {
  Compose& c = b.c;
  const auto square = [&](ValueId v) { return c.add(sum_last(b, c.mul(v, v)), b.scalar(eps)); };
  return c.div(sum_last(b, c.mul(x, y)), c.op("Sqrt", {c.mul(square(x), square(y))}));
}

ValueId cosine_embedding(LossBuild& b) {
  Compose& c = b.c;
  const ValueId similarity = cosine(b, c.in(0), c.in(1), 1e-12), target = c.in(2), zero = b.scalar(0);
  const ValueId near = c.where(is(b, target, 1), c.sub(b.scalar(1), similarity), zero);
  const ValueId hinge = c.op("Relu", {c.sub(similarity, b.scalar(b.arguments.number("margin", 0)))});
  return b.reduced(c.add(near, c.where(is(b, target, -1), hinge, zero)));
}

// The p-norm of x - y + eps over the last axis.
ValueId pairwise(LossBuild& b, ValueId x, ValueId y, double p, double eps) {
  Compose& c = b.c;
  const ValueId d = c.add(c.sub(x, y), b.scalar(eps));
  const Attributes keep = attributes({{"keepdims", int64_t{0}}});
  if (p == 2) return c.op("ReduceL2", {d, c.ints({-1})}, keep);
  if (p == 1) return c.op("ReduceL1", {d, c.ints({-1})}, keep);
  const ValueId size = c.op("Abs", {d});
  if (std::isinf(p)) return c.op("ReduceMax", {size, c.ints({-1})}, keep);
  return c.op("Pow", {sum_last(b, c.op("Pow", {size, b.scalar(p)})), b.scalar(1 / p)});
}

template <typename Distance>
ValueId triplet(LossBuild& b, Distance distance) {
  Compose& c = b.c;
  const ValueId anchor = c.in(0), positive = c.in(1), negative = c.in(2);
  const double margin = b.arguments.number("margin", 1);
  const ValueId near = distance(anchor, positive);
  ValueId far = distance(anchor, negative);
  if (b.arguments.flag("swap", false)) far = c.op("Min", {far, distance(positive, negative)});
  return b.reduced(c.op("Relu", {c.add(c.sub(near, far), b.scalar(margin))}));
}

ValueId triplet_margin(LossBuild& b) {
  const double p = b.arguments.number("p", 2), eps = b.arguments.number("eps", 1e-6);
  if (!(p > 0)) b.arguments.refuse("p", "a number above 0", std::to_string(p));
  return triplet(b, [&](ValueId x, ValueId y) { return pairwise(b, x, y, p, eps); });
}

// A graph takes the place of a function of two ports of the loss.
void check_distance(LossBuild& b, const Graph& graph) {
  const auto refuse = [&](const std::string& expected, const std::string& got) {
    b.arguments.refuse("distance_function", expected, got);
  };
  if (graph.inputs().size() != 2) refuse("a model with 2 inputs", std::to_string(graph.inputs().size()));
  if (graph.outputs().size() != 1) refuse("a model with 1 output", std::to_string(graph.outputs().size()));
  const auto check = [&](ValueId id, const char* what) -> const Type& {
    const ValueInfo& info = graph.value(id);
    if (!info.type.is_tensor() || info.type.dtype != b.dtype())
      refuse(std::string(what) + " '" + info.name + "' of " + dtype_name(b.dtype()), info.type.to_string());
    return info.type;
  };
  for (const ValueId id : graph.inputs()) {
    const Type& declared = check(id, "an input");
    for (size_t port = 0; port < 3; ++port) {
      const Type& given = b.c.type(port);
      bool fits = !declared.shape || declared.rank() == given.rank();
      for (size_t axis = 0; fits && declared.shape && axis < declared.shape->size(); ++axis) {
        const Dim &d = (*declared.shape)[axis], &g = (*given.shape)[axis];
        fits = !d.known() || !g.known() || d.value == g.value;
      }
      if (!fits)
        refuse("an input '" + graph.value(id).name + "' like " + given.to_string(), declared.to_string());
    }
  }
  check(graph.outputs()[0], "an output");
}

ValueId triplet_margin_with_distance(LossBuild& b) {
  Compose& c = b.c;
  if (const GraphPtr graph = b.arguments.graph("distance_function")) {
    check_distance(b, *graph);
    return triplet(b, [&](ValueId x, ValueId y) {
      return c.builder().inline_body(*graph, {x, y}, {}).at(0);
    });
  }
  const std::string word = b.arguments.word("distance_function", "pairwise", {"pairwise", "l1", "cosine"});
  return triplet(b, [&](ValueId x, ValueId y) {
    if (word == "cosine") return c.sub(b.scalar(1), cosine(b, x, y, 1e-16));
    return pairwise(b, x, y, word == "l1" ? 1 : 2, word == "l1" ? 0 : 1e-6);
  });
}

}  // namespace

void register_embedding(std::vector<Loss>& losses) {
  const std::vector<LossPort> two = {{"input1"}, {"input2"}, {"target", true}};
  const std::vector<LossPort> three = {{"anchor"}, {"positive"}, {"negative"}};
  losses.push_back({"MarginRankingLoss", two, margin_ranking});
  losses.push_back({"HingeEmbeddingLoss", {{"input"}, {"target", true}}, hinge_embedding});
  losses.push_back({"CosineEmbeddingLoss", two, cosine_embedding});
  losses.push_back({"TripletMarginLoss", three, triplet_margin});
  losses.push_back({"TripletMarginWithDistanceLoss", three, triplet_margin_with_distance});
}

}  // namespace sardonyx
