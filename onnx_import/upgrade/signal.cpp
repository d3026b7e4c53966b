#include "onnx_import/upgrade/rules.h"

namespace sardonyx::upgrade {

namespace {

void dft_20(Rewrite& r) { r.set_input(2, r.constant(Tensor::scalar<int64_t>(r.take<int64_t>("axis", 1)))); }

}  // namespace

std::vector<Step> signal_steps() { return {{"DFT", 20, dft_20, ""}}; }

}  // namespace sardonyx::upgrade
