// Gradients of the operators that address elements by index.
#include "ops/indexing.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

const Attributes& keep_zeros() {
  static const Attributes attributes = sardonyx::attributes({{"allowzero", int64_t{1}}});
  return attributes;
}

ValueId product(Compose& c, ValueId sizes) {
  return c.op("ReduceProd", {sizes}, attributes({{"keepdims", int64_t{1}}}));
}

// GatherBackward(dY, indices, shape): zeros of `shape`, to which every slice of dY is added where Gather took
// it. Whatever the rank, these are [before, size of the axis, after].
std::vector<ValueId> gather_backward(Compose& c) {
  const int64_t axis = c.attributes<GatherAttributes>().axis;
  const ValueId dy = c.in(0), shape = c.in(2), at = c.ints({axis}), one = c.ints({1});
  const ValueId before = product(c, c.op("Slice", {shape, c.ints({0}), at}));
  const ValueId after =
      axis == -1 ? one : product(c, c.op("Slice", {shape, c.ints({axis + 1}), c.ints({INT64_MAX})}));
  const ValueId count = c.op("Reshape", {c.op("Size", {c.in(1)}), one});
  const Attributes along = attributes({{"axis", int64_t{0}}});
  const ValueId data_dims = c.op("Concat", {before, c.op("Gather", {shape, at}), after}, along);
  const ValueId dy_dims = c.op("Concat", {before, count, after}, along);
  const ValueId column = c.op("Reshape", {c.in(1), c.op("Concat", {one, count, one}, along)}, keep_zeros());
  const ValueId sum = c.op("ScatterElements",
                           {c.op("Expand", {c.scalar(c.dtype(0), 0), data_dims}),
                            c.op("Expand", {column, dy_dims}), c.op("Reshape", {dy, dy_dims}, keep_zeros())},
                           attributes({{"axis", int64_t{1}}, {"reduction", std::string("add")}}));
  return {c.op("Reshape", {sum, shape}, keep_zeros())};
}

ValueId wide(Differentiate& d, size_t input) {
  return d.dtype(input) == DType::Int64 ? d.in(input) : d.cast(d.in(input), DType::Int64);
}

void gather(Differentiate& d) {
  d.give(0, d.own("GatherBackward", {d.cotangent(), wide(d, 1), d.shape_of(d.in(0))}, d.node().attributes));
}

void gather_elements(Differentiate& d) {
  const int64_t axis = d.attributes<GatherAttributes>().axis;
  d.give(0, d.op("ScatterElements", {d.zeros_like(d.in(0), d.dtype(0)), d.in(1), d.cotangent()},
                 attributes({{"axis", axis}, {"reduction", std::string("add")}})));
}

// The indices of GatherND with the coordinates of the batch in front.
ValueId with_batch(Differentiate& d, int64_t batch_dims) {
  if (batch_dims == 0) return d.in(1);
  const ValueId indices = wide(d, 1);
  const size_t rank = static_cast<size_t>(d.need_rank(1));
  const Attributes last = attributes({{"axis", int64_t{-1}}});
  const ValueId dims =
      d.op("Concat", {d.op("Shape", {indices}, attributes({{"end", int64_t{-1}}})), d.ints({1})},
           attributes({{"axis", int64_t{0}}}));
  std::vector<ValueId> coordinates;
  for (int64_t b = 0; b < batch_dims; ++b) {
    const ValueId size = d.op("Squeeze", {d.op("Gather", {dims, d.ints({b})})});
    const ValueId places = d.op("Range", {d.scalar(DType::Int64, 0), size, d.scalar(DType::Int64, 1)});
    std::vector<int64_t> to(rank - static_cast<size_t>(b), 1);
    to[0] = -1;
    // Reshape cannot say -1 for no elements; then neither is there anything to write.
    coordinates.push_back(d.op("Expand", {d.op("Reshape", {places, d.ints(std::move(to))}), dims}));
  }
  coordinates.push_back(indices);
  return d.op("Concat", coordinates, last);
}

void gather_nd(Differentiate& d) {
  const ValueId indices = with_batch(d, d.attributes<GatherNdAttributes>().batch_dims);
  d.give(0, d.op("ScatterND", {d.zeros_like(d.in(0), d.dtype(0)), indices, d.cotangent()},
                 attributes({{"reduction", std::string("add")}})));
}

// What ScatterElements and ScatterND share: reading and writing at the node's indices.
class Scatter {
 public:
  explicit Scatter(Differentiate& d) : d_(d), elements_(d.node().op != "ScatterND") {
    reduction_ = d.node().attributes.get<std::string>("reduction", "none");
    axis_ = d.node().attributes.get<int64_t>("axis", 0);
  }

  void differentiate() {
    const ValueId dy = d_.cotangent();
    if (reduction_ == "add") {
      d_.give(0, dy);
      if (d_.needs(2)) d_.give(2, read(dy));
    } else if (reduction_ == "mul") {
      product(dy);
    } else if (reduction_ == "max" || reduction_ == "min") {
      extreme(dy);
    } else {
      if (d_.needs(0)) d_.give(0, write(dy, d_.zeros_like(d_.in(2), d_.dtype(2)), "none"));
      if (d_.needs(2)) d_.give(2, read(dy));
    }
  }

 private:
  ValueId read(ValueId x) {
    return elements_ ? d_.op("GatherElements", {x, d_.in(1)}, attributes({{"axis", axis_}}))
                     : d_.op("GatherND", {x, d_.in(1)});
  }
  ValueId write(ValueId onto, ValueId updates, const std::string& how) {
    Attributes attributes = sardonyx::attributes({{"reduction", how}});
    if (elements_) attributes.set("axis", axis_);
    return d_.op(elements_ ? "ScatterElements" : "ScatterND", {onto, d_.in(1), updates}, attributes);
  }
  ValueId number(double v) { return d_.scalar(d_.dtype(0), v); }

  // dY times the product of the other factors: the element of X, and the updates at its place. Of an update
  // that is zero, these are what is not zero, if it is the only one; such a zero beside other updates is
  // taken for a constant by the gradient of this.
  void product(ValueId dy) {
    const ValueId x = d_.in(0), u = d_.in(2), zero = number(0), one = number(1);
    if (d_.needs(0)) d_.give(0, write(dy, u, "mul"));
    if (!d_.needs(2)) return;
    const ValueId u_zero = d_.op("Equal", {u, zero}), zeros_here = d_.number(u_zero, d_.dtype(0));
    const ValueId safe = d_.where(u_zero, one, u), dims = d_.shape_of(x);
    const ValueId rest = read(write(d_.op("Expand", {one, dims}), safe, "mul"));
    const ValueId zeros = read(write(d_.op("Expand", {zero, dims}), zeros_here, "add"));
    const ValueId only = d_.op("Equal", {zeros, zeros_here});
    d_.give(2, d_.mul(read(d_.mul(dy, x)), d_.where(only, d_.div(rest, safe), zero)));
  }

  // All that are equal to the extreme get an equal share.
  void extreme(ValueId dy) {
    const ValueId y = d_.out(), x = d_.in(0), u = d_.in(2);
    const ValueId x_hit = d_.number(d_.op("Equal", {x, y}), d_.dtype(0));
    const ValueId u_hit = d_.number(d_.op("Equal", {u, read(y)}), d_.dtype(0));
    // At least one: where NaN stands nothing is equal.
    const ValueId share = d_.div(dy, d_.op("Max", {write(x_hit, u_hit, "add"), number(1)}));
    if (d_.needs(0)) d_.give(0, d_.mul(share, x_hit));
    if (d_.needs(2)) d_.give(2, d_.mul(read(share), u_hit));
  }

  Differentiate& d_;
  bool elements_;
  std::string reduction_;
  int64_t axis_;
};

void tensor_scatter(Differentiate& d) {
  const auto a = d.attributes<TensorScatterAttributes>();
  const ValueId dy = d.cotangent(), update = d.in(1);
  if (d.needs(0)) {
    std::vector<ValueId> operands = {dy, d.zeros_like(update, d.dtype(1))};
    if (d.has(2)) operands.push_back(d.in(2));
    d.give(0, d.op("TensorScatter", operands, d.node().attributes));
  }
  if (!d.needs(1)) return;
  const int64_t rank = d.need_rank(0), axis = a.axis < 0 ? a.axis + rank : a.axis;
  const auto size_of = [&](ValueId x) {
    return d.op("Squeeze", {d.op("Gather", {d.shape_of(x), d.ints({axis})})});
  };
  std::vector<int64_t> along(static_cast<size_t>(rank), 1), batch = along;
  along[static_cast<size_t>(axis)] = -1, batch[0] = -1;
  ValueId places =
      d.op("Reshape", {d.op("Range", {d.scalar(DType::Int64, 0), size_of(update), d.scalar(DType::Int64, 1)}),
                       d.ints(along)});
  if (d.has(2)) places = d.add(places, d.op("Reshape", {d.in(2), d.ints(batch)}));
  if (a.mode == "circular") places = d.op("Mod", {places, size_of(d.in(0))});
  d.give(1, d.op("GatherElements", {dy, d.op("Expand", {places, d.shape_of(update)})},
                 attributes({{"axis", axis}})));
}

void top_k(Differentiate& d) {
  if (d.cotangent() == kNone) return;
  d.give(0, d.op("ScatterElements", {d.zeros_like(d.in(0), d.dtype(0)), d.out(1), d.cotangent()},
                 attributes({{"axis", d.attributes<TopKAttributes>().axis}})));
}

// Every value that occurs more than once is taken from where it stands first.
void unique(Differentiate& d) {
  if (d.cotangent() == kNone) return;
  const auto axis = d.attributes<UniqueAttributes>().axis;
  const ValueId shape = d.shape_of(d.in(0));
  const ValueId sizes = axis ? shape : d.op("Reshape", {d.op("Size", {d.in(0)}), d.ints({1})});
  const ValueId dx =
      d.own("GatherBackward", {d.cotangent(), d.out(1), sizes}, attributes({{"axis", axis.value_or(0)}}));
  d.give(0, axis ? dx : d.op("Reshape", {dx, shape}, keep_zeros()));
}

// The sums of dY where the second value stands, and elsewhere.
void one_hot(Differentiate& d) {
  const DType type = d.dtype(2);
  const ValueId dy = d.cotangent(), zero = d.scalar(type, 0);
  Tensor pair = Tensor::of<bool>({false, true});
  const ValueId hot =
      d.op("OneHot", {d.in(0), d.in(1), d.builder().constant(std::move(pair))}, d.node().attributes);
  const auto sum = [&](ValueId x) {
    return d.op("Reshape", {d.op("ReduceSum", {x}, attributes({{"keepdims", int64_t{0}}})), d.ints({1})});
  };
  d.give(2, d.op("Concat", {sum(d.where(hot, zero, dy)), sum(d.where(hot, dy, zero))},
                 attributes({{"axis", int64_t{0}}})));
}

// Gather along the last axis, whose output has at least two axes.
void array_feature_extractor(Differentiate& d) {
  d.give(0, d.own("GatherBackward", {d.cotangent(), wide(d, 1), d.shape_of(d.in(0))},
                  attributes({{"axis", int64_t{-1}}})));
}

}  // namespace

void register_indexing_gradient(OperatorRegistry& r) {
  r.op("Gather").differentiates(gather);
  r.op("GatherBackward", kOwnDomain)
      .attributes<GatherAttributes>()
      .ports({{"dY"}, {"indices", "tensor(int64)"}, {"shape", "tensor(int64)"}}, {{"dX", 0, -1, 2}})
      .shape_operands({2})
      .decomposes(gather_backward)
      .differentiates([](Differentiate& d) {
        const ValueId dy = d.op("Gather", {d.cotangent(), d.in(1)}, d.node().attributes);
        // Its dims may be written in another way, such as without an axis of size 1.
        d.give(0, d.op("Reshape", {dy, d.shape_of(d.in(0))}, keep_zeros()));
      });
  r.op("GatherElements").differentiates(gather_elements);
  r.op("GatherND").differentiates(gather_nd);
  for (const char* name : {"ScatterElements", "ScatterND", "Scatter"})
    r.op(name).differentiates([](Differentiate& d) { Scatter(d).differentiate(); });
  r.op("TensorScatter").differentiates(tensor_scatter);
  r.op("TopK").differentiates(top_k);
  r.op("Unique").differentiates(unique);
  r.op("OneHot").differentiates(one_hot);
  r.op("ArrayFeatureExtractor", "ai.onnx.ml").differentiates(array_feature_extractor);
  r.op("Hardmax").gradient_is_zero();
  for (const char* name : {"ArgMax", "ArgMin", "NonZero", "NonMaxSuppression"})
    r.op(name).non_differentiable("its outputs are indices");
}

}  // namespace sardonyx
