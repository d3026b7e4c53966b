// Gradients of the Fourier transforms. Each is linear, and its transpose a transform of the other direction.
#include "ops/registry/gradient.h"
#include "ops/signal.h"

namespace sardonyx {

namespace {

ValueId joined(Compose& c, std::vector<ValueId> parts) {
  return c.op("Concat", std::move(parts), attributes({{"axis", int64_t{0}}}));
}

// g cut off or with zeros behind it in each axis, in the shape of x; also takes the real parts for a real x.
ValueId fitted(Differentiate& d, ValueId g, ValueId x, int rank) {
  const ValueId zeros = d.ints(std::vector<int64_t>(static_cast<size_t>(rank), 0));
  return d.op("Pad", {g, joined(d, {zeros, d.sub(d.shape_of(x), d.shape_of(g))})});
}

void dft(Differentiate& d) {
  const auto a = d.attributes<DftAttributes>();
  const int rank = d.need_rank(0);
  const ValueId dy = d.cotangent(), x = d.in(0);
  const ValueId axis = d.has(2) ? d.in(2) : d.scalar(DType::Int64, -2);
  const bool to_real = a.inverse != 0 && a.onesided != 0;
  // The length of the transform: a scalar.
  ValueId n = d.has(1) ? d.op("Reshape", {d.in(1), d.ints({})}) : kNone;
  if (n == kNone) n = d.op("Gather", {d.shape_of(to_real ? dy : x), d.op("Reshape", {axis, d.ints({})})});
  const ValueId count = d.cast(n, d.dtype(0));
  if (to_real) {
    // Every bin but the first and the one in the middle stands for two.
    const Tensor* known = d.has(2) ? d.constant(2) : nullptr;
    if (d.has(2) && !known) throw ModelError("input 'axis'", "a constant");
    const int at = normalize_axis(known ? static_cast<int64_t>(known->to_doubles().at(0)) : -2, rank);
    const ValueId g = d.op("DFT", {dy, n, axis}, attributes({{"onesided", int64_t{1}}}));
    const ValueId zero = d.scalar(DType::Int64, 0), one = d.scalar(DType::Int64, 1),
                  two = d.scalar(DType::Int64, 2);
    const ValueId bin = d.op("Range", {zero, d.add(d.div(n, two), one), one});
    const ValueId single = d.op("Or", {d.op("Equal", {bin, zero}), d.op("Equal", {d.mul(bin, two), n})});
    const ValueId weight = d.div(d.where(single, d.scalar(d.dtype(0), 1), d.scalar(d.dtype(0), 2)), count);
    std::vector<int64_t> dims(static_cast<size_t>(rank - at), 1);
    dims[0] = -1;
    d.give(0, fitted(d, d.mul(g, d.op("Reshape", {weight, d.ints(std::move(dims))})), x, rank));
    return;
  }
  // A one-sided dY is as long as the transform with zeros behind it.
  const ValueId g = d.op("DFT", {dy, n, axis}, attributes({{"inverse", int64_t{a.inverse == 0}}}));
  d.give(0, fitted(d, a.inverse != 0 ? d.div(g, count) : d.mul(g, count), x, rank));
}

// Frames of the signal, times the window, as lines of a DFT.
std::vector<ValueId> stft(Compose& c) {
  const bool onesided = c.attributes<StftAttributes>().onesided != 0;
  const ValueId signal = c.in(0), scalar = c.ints({});
  const ValueId length = c.op("Shape", {signal}, attributes({{"start", int64_t{1}}, {"end", int64_t{2}}}));
  const ValueId size = c.has(3)   ? c.cast(c.op("Reshape", {c.in(3), c.ints({1})}), DType::Int64)
                       : c.has(2) ? c.shape_of(c.in(2))
                                  : length;
  const ValueId step = c.cast(c.op("Reshape", {c.in(1), scalar}), DType::Int64);
  const ValueId zero = c.scalar(DType::Int64, 0), one = c.scalar(DType::Int64, 1);
  const auto count = [&](ValueId n) { return c.op("Range", {zero, c.op("Reshape", {n, scalar}), one}); };
  const ValueId frames = c.add(c.div(c.sub(length, size), step), one);
  const ValueId starts = c.op("Unsqueeze", {c.mul(count(frames), step), c.ints({1})});
  const ValueId places = c.add(starts, count(size));
  ValueId lines = c.op("Gather", {signal, places}, attributes({{"axis", int64_t{1}}}));
  if (c.has(2)) lines = c.mul(lines, c.op("Unsqueeze", {c.in(2), c.ints({1})}));
  const Type& type = c.type(0);
  const bool real = type.shape && type.shape->size() == 3 && (*type.shape)[2].value == 1;
  const ValueId axis = c.scalar(DType::Int64, 2);
  if (onesided && real) return {c.op("DFT", {lines, kNone, axis}, attributes({{"onesided", int64_t{1}}}))};
  const ValueId whole = c.op("DFT", {lines, kNone, axis});
  if (!onesided) return {whole};
  const ValueId bins = c.add(c.div(size, c.ints({2})), c.ints({1}));
  return {c.op("Slice", {whole, c.ints({0}), bins, c.ints({2})})};
}

}  // namespace

void register_signal_gradient(OperatorRegistry& r) {
  r.op("DFT").differentiates(dft);
  r.op("STFT").decomposes(stft);
  // Corners of the triangles are whole bins.
  for (const char* name : {"MelWeightMatrix", "BlackmanWindow", "HammingWindow", "HannWindow"})
    r.op(name).gradient_is_zero();
}

}  // namespace sardonyx
