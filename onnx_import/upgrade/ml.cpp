#include <numeric>

#include "onnx_import/upgrade/rules.h"

namespace sardonyx::upgrade {

namespace {

// One list stood for both directions: a label and its place.
void label_encoder_2(Rewrite& r) {
  auto labels = r.take<std::vector<std::string>>("classes_strings", {});
  const DType dtype = r.dtype(r.in(0));
  const bool from_strings = dtype == DType::String;
  if (!from_strings && dtype != DType::Int64)
    throw UnsupportedError("input 0", "a tensor of strings or int64", r.type(r.in(0)).to_string());
  std::vector<int64_t> places(labels.size());
  std::iota(places.begin(), places.end(), int64_t{0});
  Attributes& written = r.node.attributes;
  written.set(from_strings ? "keys_strings" : "values_strings", std::move(labels));
  written.set(from_strings ? "values_int64s" : "keys_int64s", std::move(places));
}

}  // namespace

std::vector<Step> ml_steps() { return {{"LabelEncoder", 2, label_encoder_2, "ai.onnx.ml"}}; }

}  // namespace sardonyx::upgrade
