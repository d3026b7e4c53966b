#include "onnx_import/upgrade/rules.h"

namespace sardonyx::upgrade {

namespace {

// C is broadcast whether or not the node says so.
void gemm_7(Rewrite& r) { r.node.attributes.erase("broadcast"); }

}  // namespace

std::vector<Step> matmul_steps() { return {{"Gemm", 7, gemm_7, ""}}; }

}  // namespace sardonyx::upgrade
