// What the patterns of quantized models share.
#pragma once

#include <optional>
#include <vector>

#include "ops/registry/match.h"

namespace sardonyx {

// The constants of a QuantizeLinear or DequantizeLinear between f32 and integers, without blocks.
struct Quantization {
  ValueId x = kNone;  // what the node reads
  DType dtype = DType::Undefined;
  std::vector<float> scale;  // finite and positive; one, or one for each index of `axis`
  std::vector<int32_t> zero;
  int64_t axis = 0;

  bool single() const { return scale.size() == 1; }
  bool same(const Quantization& other) const {
    return single() && other.single() && dtype == other.dtype && scale == other.scale && zero == other.zero;
  }
  double low() const { return dtype == DType::Int8 ? -128 : 0; }
  double high() const { return dtype == DType::Int8 ? 127 : 255; }
  // Of a single scale and zero point, as constants without dimensions.
  ValueId scale_constant(Match& m) const { return m.constant(Tensor::scalar(scale[0])); }
  ValueId zero_constant(Match& m) const {
    return m.constant(dtype == DType::Int8 ? Tensor::scalar(static_cast<int8_t>(zero[0]))
                                           : Tensor::scalar(static_cast<uint8_t>(zero[0])));
  }
};

// Of a node of 8-bit integers, or of `dtype` (Int32) for biases; nothing for any other.
std::optional<Quantization> quantization(Match& m, const Node& node, DType dtype = DType::Undefined);
// Of the DequantizeLinear that makes a value. It does not belong to the match: it may have other readers.
std::optional<Quantization> dequantized(Match& m, ValueId id, DType dtype = DType::Undefined);

}  // namespace sardonyx
