#include "onnx_import/upgrade/rules.h"

namespace sardonyx::upgrade {

namespace {

// There is one scale. Later a scale with a dimension, even a single one, belongs to the elements of an axis.
void one_scale(Rewrite& r) {
  for (size_t i = 1; i < 3; ++i) {
    if (!r.has(i)) continue;
    const Type type = r.type(r.in(i));
    if (type.rank() != 1 || ((*type.shape)[0].known() && (*type.shape)[0].value != 1)) continue;
    r.set_input(i, r.reshape(r.in(i), r.ints({})));
  }
}

}  // namespace

std::vector<Step> quantization_steps() {
  return {{"QuantizeLinear", 13, one_scale, ""}, {"DequantizeLinear", 13, one_scale, ""}};
}

}  // namespace sardonyx::upgrade
