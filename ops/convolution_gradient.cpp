// Gradients of the convolutions, and the two operators that they are made of: ConvBackwardData(dY, W, shape
// of X) and ConvBackwardWeights(X, dY, shape of W). Each is linear in both of its tensors, so that the
// derivatives of one are a convolution and the other. ConvBackwardBias(dY, shape of B) sums over all but the
// channels.
#include "ops/convolution_gradient.h"

#include "ops/registry/flops.h"
#include "ops/registry/gradient.h"

namespace sardonyx {

namespace {

using Ints = std::vector<int64_t>;

Ints or_default(const std::optional<Ints>& list, size_t size, int64_t fallback) {
  return list && !list->empty() ? *list : Ints(size, fallback);
}

Attributes grid_attributes(const GridSpec& grid, int64_t group) {
  return attributes(
      {{"strides", grid.strides}, {"dilations", grid.dilations}, {"pads", grid.pads}, {"group", group}});
}

}  // namespace

GridSpec::GridSpec(size_t rank, std::string auto_pad_, const std::optional<Ints>& strides_,
                   const std::optional<Ints>& dilations_, const std::optional<Ints>& pads_)
    : auto_pad(std::move(auto_pad_)),
      strides(or_default(strides_, rank, 1)),
      dilations(or_default(dilations_, rank, 1)),
      pads(or_default(pads_, 2 * rank, 0)) {
  if (strides.size() != rank || dilations.size() != rank || pads.size() != 2 * rank)
    throw ModelError("attributes 'strides', 'dilations' and 'pads'",
                     "as many values as spatial dimensions (" + std::to_string(rank) + "), twice for pads");
  for (size_t i = 0; i < rank; ++i)
    if (strides[i] < 1 || dilations[i] < 1)
      throw ModelError("attributes 'strides' and 'dilations'", "values of at least 1",
                       std::to_string(strides[i]) + " and " + std::to_string(dilations[i]));
  if (auto_pad == "VALID") pads.assign(2 * rank, 0);
  if (!same()) auto_pad = "NOTSET";
}

bool GridSpec::resolve(const Shape* x, const Ints& kernel) {
  if (!same()) return true;
  if (kernel.size() != rank()) return false;
  Ints resolved(2 * rank());
  for (size_t i = 0; i < rank(); ++i) {
    const int64_t extent = (kernel[i] - 1) * dilations[i] + 1;
    int64_t total = extent - 1;
    if (strides[i] != 1) {
      if (!x || x->size() != rank() + 2 || !(*x)[i + 2].known()) return false;
      const int64_t in = (*x)[i + 2].value, out = (in + strides[i] - 1) / strides[i];
      total = std::max<int64_t>(std::max<int64_t>(out - 1, 0) * strides[i] + extent - in, 0);
    }
    resolved[i] = auto_pad == "SAME_UPPER" ? total / 2 : total - total / 2;
    resolved[i + rank()] = total - resolved[i];
  }
  pads = std::move(resolved);
  auto_pad = "NOTSET";
  return true;
}

Ints known_kernel(const std::optional<Ints>& attribute, const Type& weights) {
  if (attribute && !attribute->empty()) return *attribute;
  Ints kernel;
  if (weights.shape)
    for (size_t i = 2; i < weights.shape->size(); ++i) {
      if (!(*weights.shape)[i].known()) return {};
      kernel.push_back((*weights.shape)[i].value);
    }
  return kernel;
}

ValueId dims_from(Compose& c, ValueId x, int64_t first) {
  return c.op("Shape", {x}, attributes({{"start", first}}));
}

ValueId dim_of(Compose& c, ValueId x, int64_t axis) {
  return c.op("Shape", {x}, attributes({{"start", axis}, {"end", axis + 1}}));
}

ValueId spanned(Compose& c, const GridSpec& grid, ValueId out, ValueId kernel) {
  const ValueId one = c.ints({1});
  return c.add(
      c.add(c.mul(c.sub(out, one), c.ints(grid.strides)), c.mul(c.sub(kernel, one), c.ints(grid.dilations))),
      one);
}

ValueId pads_begin(Compose& c, const GridSpec& grid, ValueId in, ValueId out, ValueId kernel) {
  if (!grid.same())
    return c.ints(Ints(grid.pads.begin(), grid.pads.begin() + static_cast<ptrdiff_t>(grid.rank())));
  const ValueId total = c.op("Max", {c.sub(spanned(c, grid, out, kernel), in), c.ints({0})});
  const ValueId half = c.div(total, c.ints({2}));
  return grid.auto_pad == "SAME_UPPER" ? half : c.sub(total, half);
}

ValueId pad_spatial(Compose& c, ValueId x, ValueId begin, ValueId end) {
  const ValueId zeros = c.ints({0, 0});
  return c.op("Pad", {x, c.op("Concat", {zeros, begin, zeros, end}, attributes({{"axis", int64_t{0}}}))});
}

ValueId fold_windows(Compose& c, ValueId dy, ValueId w, ValueId in, ValueId begin, const GridSpec& grid,
                     int64_t group) {
  Ints last = grid.strides;  // with them the image ends no earlier than any that has as many windows
  for (int64_t& v : last) --v;
  const ValueId whole = c.op("ConvTranspose", {dy, w},
                             attributes({{"strides", grid.strides},
                                         {"dilations", grid.dilations},
                                         {"group", group},
                                         {"output_padding", last}}));
  return pad_spatial(c, whole, c.op("Neg", {begin}), c.sub(c.add(in, begin), dims_from(c, whole, 2)));
}

namespace {

// Of X, which W shares.
int known_rank(const Compose& c) { return c.rank(0) >= 0 ? c.rank(0) : c.need_rank(1); }

// The rank is that of either tensor, or of the attributes: dY often has an unknown one.
GridSpec grid_of(const Compose& c, const ConvBackwardAttributes& a) {
  size_t rank = a.strides ? a.strides->size() : 0;
  for (size_t i = 0; i < 2 && rank == 0; ++i)
    if (c.rank(i) > 2) rank = static_cast<size_t>(c.rank(i) - 2);
  if (rank == 0) throw ModelError("inputs 0 and 1", "a known rank", "unknown ones");
  return GridSpec(rank, "NOTSET", a.strides, a.dilations, a.pads);
}

std::vector<ValueId> conv_backward_data(Compose& c) {
  const auto a = c.attributes<ConvBackwardAttributes>();
  const GridSpec grid = grid_of(c, a);
  const int64_t rank = static_cast<int64_t>(grid.rank());
  const ValueId in = c.op("Slice", {c.in(2), c.ints({2}), c.ints({rank + 2})});
  return {fold_windows(c, c.in(0), c.in(1), in, pads_begin(c, grid, in, kNone, kNone), grid, a.group)};
}

// The channels of X become the images of a convolution whose kernel is dY and whose positions are the taps;
// strides and dilations change places.
std::vector<ValueId> conv_backward_weights(Compose& c) {
  const auto a = c.attributes<ConvBackwardAttributes>();
  const GridSpec grid = grid_of(c, a);
  const int64_t rank = static_cast<int64_t>(grid.rank());
  const ValueId shape = c.in(2);
  const auto with_spatial = [rank](Ints perm) {
    const int64_t lead = static_cast<int64_t>(perm.size());
    for (int64_t i = 0; i < rank; ++i) perm.push_back(lead + i);
    return perm;
  };
  ValueId x = c.in(0);
  if (a.group == 1) {
    x = c.transpose(x, with_spatial({1, 0}));
  } else {
    const ValueId group = c.ints({a.group}), batch = dim_of(c, x, 0), spatial = dims_from(c, x, 2),
                  channels = c.op("Slice", {shape, c.ints({1}), c.ints({2})});
    const auto reshaped = [&](ValueId value, std::vector<ValueId> dims) {
      return c.op("Reshape", {value, c.op("Concat", std::move(dims), attributes({{"axis", int64_t{0}}}))},
                  attributes({{"allowzero", int64_t{1}}}));
    };
    x = c.transpose(reshaped(x, {batch, group, channels, spatial}), with_spatial({2, 1, 0}));
    x = reshaped(x, {channels, c.mul(group, batch), spatial});
  }
  const ValueId taps = c.op("Conv", {x, c.transpose(c.in(1), with_spatial({1, 0}))},
                            attributes({{"strides", grid.dilations},
                                        {"dilations", grid.strides},
                                        {"pads", grid.pads},
                                        {"group", a.group}}));
  Ints axes;
  for (int64_t i = 0; i < rank; ++i) axes.push_back(i + 2);
  const ValueId kernel = c.op("Slice", {shape, c.ints({2}), c.ints({rank + 2})});
  const ValueId kept =
      c.op("Slice", {taps, c.ints(Ints(static_cast<size_t>(rank), 0)), kernel, c.ints(std::move(axes))});
  return {c.transpose(kept, with_spatial({1, 0}))};
}

void bias(Differentiate& d, size_t input) {
  if (d.needs(input)) d.give(input, d.own("ConvBackwardBias", {d.cotangent(), d.shape_of(d.in(input))}));
}

// dY as [batch, channels, positions].
ValueId planes_shape(Compose& c, ValueId dy) {
  return c.op("Concat",
              {c.op("Shape", {dy}, attributes({{"end", int64_t{2}}})),
               c.op("ReduceProd", {dims_from(c, dy, 2)}, attributes({{"keepdims", int64_t{1}}}))},
              attributes({{"axis", int64_t{0}}}));
}

std::vector<ValueId> conv_backward_bias(Compose& c) {
  const ValueId planes =
      c.op("Reshape", {c.in(0), planes_shape(c, c.in(0))}, attributes({{"allowzero", int64_t{1}}}));
  return {c.reduce_sum(planes, {0, 2}, false)};
}

void conv_backward_bias_gradient(Differentiate& d) {
  const ValueId column = d.op("Unsqueeze", {d.cotangent(), d.ints({1})});
  const ValueId planes = d.op("Expand", {column, planes_shape(d, d.in(0))});
  d.give(0, d.op("Reshape", {planes, d.shape_of(d.in(0))}, attributes({{"allowzero", int64_t{1}}})));
}

void conv(Differentiate& d) {
  const auto a = d.attributes<ConvAttributes>();
  GridSpec grid(static_cast<size_t>(known_rank(d) - 2), a.auto_pad, a.strides, a.dilations, a.pads);
  const ValueId dy = d.cotangent(), x = d.in(0), w = d.in(1);
  bias(d, 2);
  const auto data = [&](ValueId shape) {
    return d.own("ConvBackwardData", {dy, w, shape}, grid_attributes(grid, a.group));
  };
  const auto weights = [&](ValueId of) {
    return d.own("ConvBackwardWeights", {of, dy, d.shape_of(w)}, grid_attributes(grid, a.group));
  };
  const Shape* shape = d.type(0).shape ? &*d.type(0).shape : nullptr;
  if (grid.resolve(shape, known_kernel(a.kernel_shape, d.type(1)))) {
    if (d.needs(0)) d.give(0, data(d.shape_of(x)));
    if (d.needs(1)) d.give(1, weights(x));
    return;
  }
  // The pads of SAME are known in the run: the image is padded to what the windows span.
  const ValueId in = dims_from(d, x, 2), out = dims_from(d, dy, 2), kernel = dims_from(d, w, 2);
  const ValueId begin = pads_begin(d, grid, in, out, kernel);
  const ValueId end = d.sub(d.sub(spanned(d, grid, out, kernel), in), begin);
  grid.auto_pad = "NOTSET", grid.pads.assign(grid.pads.size(), 0);
  const ValueId padded = pad_spatial(d, x, begin, end);
  if (d.needs(0)) d.give(0, pad_spatial(d, data(d.shape_of(padded)), d.neg(begin), d.neg(end)));
  if (d.needs(1)) d.give(1, weights(padded));
}

void conv_transpose(Differentiate& d) {
  const auto a = d.attributes<ConvTransposeAttributes>();
  GridSpec grid(static_cast<size_t>(known_rank(d) - 2), a.auto_pad, a.strides, a.dilations, a.pads);
  const size_t rank = grid.rank();
  const Ints extra = or_default(a.output_padding, rank, 0), kernel = known_kernel(a.kernel_shape, d.type(1));
  const bool shaped = a.output_shape && !a.output_shape->empty();
  const ValueId x = d.in(0), w = d.in(1);
  ValueId dy = d.cotangent();
  bias(d, 2);
  // With pads of known numbers, and no more than a stride of elements behind the last window, dY is read as
  // it is.
  bool fixed = !shaped && (!grid.same() || kernel.size() == rank);
  for (size_t i = 0; i < rank; ++i) fixed = fixed && extra[i] < grid.strides[i];
  if (fixed && grid.same()) {
    for (size_t i = 0; i < rank; ++i) {
      const int64_t extent = (kernel[i] - 1) * grid.dilations[i] + 1,
                    total = std::max<int64_t>(extent - grid.strides[i], 0);
      grid.pads[i] = grid.auto_pad == "SAME_UPPER" ? total / 2 : total - total / 2;
      grid.pads[i + rank] = total - grid.pads[i];
    }
  } else if (!fixed) {
    const ValueId taps = dims_from(d, w, 2), span = spanned(d, grid, dims_from(d, x, 2), taps);
    ValueId begin = d.ints(Ints(grid.pads.begin(), grid.pads.begin() + static_cast<ptrdiff_t>(rank)));
    if (shaped || grid.same()) {
      const ValueId one = d.ints({1}), zero = d.ints({0});
      const ValueId total =
          shaped ? d.sub(d.add(span, d.ints(extra)), d.ints(*a.output_shape))
                 : d.sub(d.add(d.mul(d.sub(taps, one), d.ints(grid.dilations)), one), d.ints(grid.strides));
      const ValueId most = d.op("Max", {total, zero}), half = d.div(most, d.ints({2}));
      begin = grid.auto_pad == "SAME_UPPER" ? half : d.sub(most, half);
    }
    dy = pad_spatial(d, dy, begin, d.sub(d.sub(span, begin), dims_from(d, dy, 2)));
    grid.pads.assign(2 * rank, 0);
  }
  grid.auto_pad = "NOTSET";
  if (d.needs(0)) d.give(0, d.op("Conv", {dy, w}, grid_attributes(grid, a.group)));
  if (d.needs(1))
    d.give(1, d.own("ConvBackwardWeights", {dy, x, d.shape_of(w)}, grid_attributes(grid, a.group)));
}

// Patches of the image: a convolution with one tap of ones in each of its channels.
void col2im(Differentiate& d) {
  const auto a = d.attributes<Col2ImAttributes>();
  const int rank = d.out_type().rank() > 2 ? d.out_type().rank() - 2
                   : d.constant(1)         ? static_cast<int>(d.constant(1)->size())
                   : d.type(1).shape && d.type(1).shape->size() == 1 && (*d.type(1).shape)[0].known()
                       ? static_cast<int>((*d.type(1).shape)[0].value)
                       : -1;
  if (rank < 1) throw ModelError("input 'image_shape'", "a known length");
  const GridSpec grid(static_cast<size_t>(rank), "NOTSET", a.strides, a.dilations, a.pads);
  const ValueId block = d.in(2);
  const Attributes along_first = attributes({{"axis", int64_t{0}}});
  const ValueId taps = d.op("ReduceProd", {block}, attributes({{"keepdims", int64_t{1}}}));
  const ValueId square = d.op("ConstantOfShape", {d.op("Concat", {taps, taps}, along_first)});
  const ValueId eye = d.op("EyeLike", {square}, attributes({{"dtype", static_cast<int64_t>(d.dtype(0))}}));
  const ValueId kernel = d.op("Reshape", {eye, d.op("Concat", {taps, d.ints({1}), block}, along_first)});
  const ValueId dy = d.cotangent();
  const ValueId planes = d.op("Reshape", {dy, d.op("Concat", {d.ints({-1, 1}), d.in(1)}, along_first)});
  d.give(0, d.op("Reshape", {d.op("Conv", {planes, kernel}, grid_attributes(grid, 1)), d.shape_of(d.in(0))},
                 attributes({{"allowzero", int64_t{1}}})));
}

// The past and the input, one after the other, convolved channel by channel.
std::vector<ValueId> causal_conv(Compose& c) {
  const std::string activation = c.attributes<CausalConvWithStateAttributes>().activation;
  const ValueId x = c.in(0), w = c.in(1);
  const Type& weights = c.type(1);
  if (!weights.shape || weights.shape->size() != 3 || !(*weights.shape)[0].known())
    throw ModelError("input 'weight'", "a known number of channels", weights.to_string());
  const int64_t channels = (*weights.shape)[0].value;
  const Attributes along_first = attributes({{"axis", int64_t{0}}});
  const ValueId one = c.ints({1}), states = c.sub(dim_of(c, w, 2), one);
  ValueId past = c.has(3) ? c.in(3) : kNone;
  if (past == kNone) {
    const ValueId dims =
        c.op("Concat", {c.op("Shape", {x}, attributes({{"end", int64_t{2}}})), states}, along_first);
    past = c.op("Expand", {c.scalar(c.dtype(0), 0), dims});
  }
  const ValueId whole = c.op("Concat", {past, x}, attributes({{"axis", int64_t{2}}}));
  std::vector<ValueId> operands = {whole, w};
  if (c.has(2)) operands.push_back(c.in(2));
  ValueId y = c.op("Conv", operands, attributes({{"group", channels}}));
  if (activation != "none") y = c.mul(y, c.op("Sigmoid", {y}));
  const ValueId end = dim_of(c, whole, 2);
  return {y, c.op("Slice", {whole, c.sub(end, states), end, c.ints({2})})};
}

std::optional<double> backward_data_flops(const FlopPorts& ports) {
  const Dims *dy = ports.in(0), *w = ports.in(1);
  if (!dy || !w) return std::nullopt;
  return 2 * elements_from(*dy) * elements_from(*w, 1);
}

std::optional<double> backward_weights_flops(const FlopPorts& ports) {
  const Dims *dy = ports.in(1), *w = ports.out(0);
  if (!dy || !w) return std::nullopt;
  return 2 * elements_from(*dy) * elements_from(*w, 1);
}

}  // namespace

void register_convolution_gradient(OperatorRegistry& r) {
  r.op("ConvBackwardData", kOwnDomain)
      .ports({{"dY"}, {"W"}, {"shape", "tensor(int64)"}}, {{"dX", 0, -1, 2}})
      .attributes<ConvBackwardAttributes>()
      .shape_operands({2})
      .decomposes(conv_backward_data)
      .narrows(Narrow::Always, {0, 1})
      .flops(backward_data_flops)
      .differentiates([](Differentiate& d) {
        const ValueId g = d.cotangent(), dy = d.in(0), w = d.in(1);
        if (d.needs(0)) d.give(0, d.op("Conv", {g, w}, d.node().attributes));
        if (d.needs(1)) d.give(1, d.own("ConvBackwardWeights", {g, dy, d.shape_of(w)}, d.node().attributes));
      });
  r.op("ConvBackwardWeights", kOwnDomain)
      .ports({{"X"}, {"dY"}, {"shape", "tensor(int64)"}}, {{"dW", 0, -1, 2}})
      .attributes<ConvBackwardAttributes>()
      .shape_operands({2})
      .decomposes(conv_backward_weights)
      .narrows(Narrow::Always, {0, 1})
      .outputs_stay()
      .flops(backward_weights_flops)
      .differentiates([](Differentiate& d) {
        const ValueId g = d.cotangent(), x = d.in(0), dy = d.in(1);
        if (d.needs(0)) d.give(0, d.own("ConvBackwardData", {dy, g, d.shape_of(x)}, d.node().attributes));
        if (d.needs(1)) d.give(1, d.op("Conv", {x, g}, d.node().attributes));
      });
  r.op("ConvBackwardBias", kOwnDomain)
      .ports({{"dY"}, {"shape", "tensor(int64)"}}, {{"dB", 0, -1, 1}})
      .shape_operands({1})
      .decomposes(conv_backward_bias)
      .narrows(Narrow::Always, {0})
      .outputs_stay()
      .differentiates(conv_backward_bias_gradient);
  r.op("Conv").differentiates(conv);
  r.op("ConvTranspose").differentiates(conv_transpose);
  r.op("Col2Im").differentiates(col2im);
  r.op("CausalConvWithState").decomposes(causal_conv);
}

}  // namespace sardonyx
