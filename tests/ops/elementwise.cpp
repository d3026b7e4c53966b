#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_elementwise(CaseTable& t) {
  const std::vector<std::pair<Dims, Dims>> shapes = {{{2, 3, 4}, {2, 3, 4}},
                                                     {{2, 3, 4}, {4}},
                                                     {{2, 3, 4}, {3, 1}},
                                                     {{3, 1}, {1, 4}},
                                                     {{5}, {}},
                                                     {{}, {}},
                                                     {{0, 3}, {3}},
                                                     {{64, 257}, {64, 257}},
                                                     {{4, 1, 33}, {2, 1}}};
  for (const char* op : {"Add", "Sub", "Mul", "Max", "Min"})
    for (const auto& [a, b] : shapes) t.add(op, {f32(a), f32(b)});
  for (const auto& [a, b] : shapes) t.add("Div", {f32(a), f32(b, Fill::Positive)});
  t.add("Pow", {f32({3, 5}, Fill::Positive), f32({5})});
  t.add("Mod", {f32({4, 4}), f32({4}, Fill::Positive)}).integer("fmod", 1).only_f32();
  t.add("Mod", {typed(DType::Int64, {4, 4}), typed(DType::Int64, {4}, Fill::Positive)});
  for (const char* op : {"Add", "Sub", "Mul"})
    for (const DType dtype : {DType::Int32, DType::Int64, DType::Int8, DType::UInt8})
      t.add(op, {typed(dtype, {3, 4}), typed(dtype, {4})});
  t.add("Div", {typed(DType::Int32, {3, 4}), typed(DType::Int32, {4}, Fill::Positive)});
  for (const char* op : {"Neg", "Abs", "Sign", "Ceil", "Floor", "Round", "Exp", "Sin", "Cos", "Tanh", "Erf",
                         "Sinh", "Cosh", "Atan", "Asinh", "Tan", "Reciprocal"})
    for (const Dims& dims : {Dims{}, Dims{7}, Dims{3, 5, 11}, Dims{0, 2}, Dims{70, 333}})
      t.add(op, {f32(dims, std::string(op) == "Tan"          ? Fill::Unit
                           : std::string(op) == "Reciprocal" ? Fill::Positive
                                                             : Fill::Normal)});
  for (const char* op : {"Sqrt", "Log"}) t.add(op, {f32({5, 77}, Fill::Positive)});
  for (const char* op : {"Acos", "Asin", "Atanh"}) t.add(op, {f32({5, 7}, Fill::Unit)});
  t.add("Acosh", {constant<float>({1, 1.5f, 4, 100})});
  for (const char* op : {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"}) {
    t.add(op, {typed(DType::Int32, {3, 4}), typed(DType::Int32, {4})});
    t.add(op, {f32({3, 4}), f32({3, 1})});
  }
  for (const char* op : {"And", "Or", "Xor"})
    t.add(op, {typed(DType::Bool, {3, 4}), typed(DType::Bool, {4})});
  t.add("Not", {typed(DType::Bool, {9})});
  t.add("Where", {typed(DType::Bool, {3, 1}), f32({3, 4}), f32({4})});
  t.add("Where", {typed(DType::Bool, {3, 4}), typed(DType::Int64, {3, 4}), typed(DType::Int64, {})});
  t.add("Clip", {f32({5, 6}), constant<float>({-0.5f}, {}), constant<float>({0.5f}, {})});
  t.add("Clip", {f32({5, 6}), none(), constant<float>({0.5f}, {})});
  t.add("Sum", {f32({3, 4}), f32({4}), f32({3, 1})});
  t.add("Mean", {f32({3, 4}), f32({4}), f32({3, 1})});
  t.add("Max", {f32({3, 4}), f32({4}), f32({3, 1})});
  t.add("CumSum", {f32({3, 4, 5}), constant<int64_t>({1}, {})});
  t.add("CumSum", {f32({3, 4, 5}), constant<int64_t>({-1}, {})})
      .integer("exclusive", 1)
      .integer("reverse", 1);
  for (const DType to : {DType::Int64, DType::Int32, DType::Float64, DType::UInt8, DType::Bool})
    t.add("Cast", {f32({4, 5}, Fill::Positive)}).integer("to", static_cast<int64_t>(to)).only_f32();
  t.add("BitShift", {typed(DType::UInt8, {4}, Fill::Positive), typed(DType::UInt8, {4}, Fill::Ones)})
      .text("direction", "LEFT");
  for (const char* op : {"BitwiseAnd", "BitwiseOr", "BitwiseXor"})
    t.add(op, {typed(DType::Int32, {3, 4}), typed(DType::Int32, {4})});
  t.add("Det", {f32({2, 4, 4})}).within(1e-3);
  t.add("Det", {f32({3, 1, 1})});
  t.add("Det", {f32({5, 5})}).within(1e-3);
  for (const int64_t exclusive : {0, 1})
    for (const int64_t reverse : {0, 1})
      t.add("CumProd", {f32({3, 6, 2}), constant<int64_t>({exclusive ? 1 : -2}, {})})
          .integer("exclusive", exclusive)
          .integer("reverse", reverse);
  // Lines with no zero, one, several.
  for (const int64_t exclusive : {0, 1})
    for (const int64_t reverse : {0, 1})
      t.add("CumProd",
            {{DType::Float32, {5, 8}, Fill::Index, 4, {}, false, false}, constant<int32_t>({1}, {})})
          .integer("exclusive", exclusive)
          .integer("reverse", reverse);
  for (const int64_t axis : {0, 1, -1})
    for (const int64_t reverse : {0, 1})
      t.add("LinearScan", {f32({3, 4, 5}), f32({3, 4, 5}), constant<int64_t>({axis}, {})})
          .of("ai.sardonyx")
          .integer("reverse", reverse);
  t.add("LinearScan", {f32({70}), f32({70}), constant<int64_t>({0}, {})}).of("ai.sardonyx");
}

}  // namespace sardonyx::test
