#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_quantization(CaseTable& t) {
  t.add("QuantizeLinear", {f32({3, 8}), constant<float>({0.05f}, {}), constant<uint8_t>({128}, {})})
      .only_f32();
  t.add("QuantizeLinear", {f32({3, 8}), constant<float>({0.05f, 0.1f, 0.02f}), constant<int8_t>({0, 3, -5})})
      .integer("axis", 0)
      .only_f32();
  t.add("DequantizeLinear",
        {typed(DType::UInt8, {3, 8}), constant<float>({0.05f}, {}), constant<uint8_t>({3}, {})})
      .only_f32();
  t.add("DequantizeLinear", {typed(DType::Int8, {3, 8}), constant<float>({0.05f, 0.1f, 0.02f})})
      .integer("axis", 0)
      .only_f32();
  t.add("DynamicQuantizeLinear", {f32({4, 9})}).gives(3).only_f32();
  t.add("MatMulInteger", {typed(DType::UInt8, {4, 8}), typed(DType::Int8, {8, 5}), constant<uint8_t>({3}, {}),
                          constant<int8_t>({1}, {})})
      .only_f32();
  t.add("MatMulInteger", {typed(DType::Int8, {2, 4, 8}), typed(DType::Int8, {8, 5})}).only_f32();
  t.add("ConvInteger",
        {typed(DType::UInt8, {1, 3, 6, 6}), typed(DType::Int8, {4, 3, 3, 3}), constant<uint8_t>({2}, {})})
      .only_f32();
  t.add("QLinearMatMul",
        {typed(DType::UInt8, {4, 8}), constant<float>({0.02f}, {}), constant<uint8_t>({3}, {}),
         typed(DType::Int8, {8, 5}), constant<float>({0.1f}, {}), constant<int8_t>({0}, {}),
         constant<float>({0.05f}, {}), constant<uint8_t>({100}, {})})
      .only_f32();
  t.add("QLinearConv",
        {typed(DType::UInt8, {1, 3, 6, 6}), constant<float>({0.02f}, {}), constant<uint8_t>({3}, {}),
         typed(DType::Int8, {4, 3, 3, 3}), constant<float>({0.1f}, {}), constant<int8_t>({0}, {}),
         constant<float>({0.05f}, {}), constant<uint8_t>({100}, {})})
      .only_f32();
}

}  // namespace sardonyx::test
