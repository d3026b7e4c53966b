#include "ops/elementwise.h"

#include "ops/registry/operator.h"

namespace sardonyx {

namespace {

std::vector<ValueId> cast_like(Compose& c) {
  const auto a = c.attributes<CastLikeAttributes>();
  return {c.op("Cast", {c.in(0)},
               attributes({{"to", static_cast<int64_t>(c.dtype(1))},
                           {"saturate", a.saturate},
                           {"round_mode", a.round_mode}}))};
}

}  // namespace

void register_elementwise(OperatorRegistry& r) {
  r.op("Mod").attributes<ModAttributes>();
  r.op("BitShift").attributes<BitShiftAttributes>();
  r.op("IsInf").attributes<IsInfAttributes>();
  r.op("Cast").attributes<CastAttributes>();
  r.op("CastLike").attributes<CastLikeAttributes>().decomposes(cast_like);
  r.op("BitCast").attributes<BitCastAttributes>();
  r.op("CumSum").attributes<CumulativeAttributes>();
  r.op("CumProd").attributes<CumulativeAttributes>();
  for (const char* name : {"Abs",        "Acos",
                           "Acosh",      "Add",
                           "And",        "Asin",
                           "Asinh",      "Atan",
                           "Atanh",      "BitShift",
                           "BitwiseAnd", "BitwiseNot",
                           "BitwiseOr",  "BitwiseXor",
                           "Cast",       "Ceil",
                           "Clip",       "Cos",
                           "Cosh",       "Div",
                           "Equal",      "Erf",
                           "Exp",        "Floor",
                           "Greater",    "GreaterOrEqual",
                           "IsInf",      "IsNaN",
                           "Less",       "LessOrEqual",
                           "Log",        "Max",
                           "Mean",       "Min",
                           "Mod",        "Mul",
                           "Neg",        "Not",
                           "Or",         "Pow",
                           "Reciprocal", "Round",
                           "Sign",       "Sin",
                           "Sinh",       "Sqrt",
                           "Sub",        "Sum",
                           "Tan",        "Tanh",
                           "Where",      "Xor"})
    r.op(name).elementwise();
  for (const char* name : {"Add", "Sub", "Mul", "Div"}) r.op(name).narrows(Narrow::Between).constants_stay();
  for (const char* name : {"Abs", "Clip", "Max", "Min", "Neg", "Sum", "Tanh", "Where"})
    r.op(name).narrows(Narrow::Between);
}

}  // namespace sardonyx
