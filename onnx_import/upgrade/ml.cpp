#include <unordered_map>

#include "onnx_import/upgrade/rules.h"

namespace sardonyx::upgrade {

namespace {

// One list stood for both directions: a label and its place, of equal labels the last.
void label_encoder_2(Rewrite& r) {
  const auto classes = r.take<std::vector<std::string>>("classes_strings", {});
  const DType dtype = r.dtype(r.in(0));
  const bool from_strings = dtype == DType::String;
  if (!from_strings && dtype != DType::Int64)
    throw UnsupportedError("input 0", "a tensor of strings or int64", r.type(r.in(0)).to_string());
  std::unordered_map<std::string, size_t> last;
  for (size_t i = 0; i < classes.size(); ++i) last[classes[i]] = i;
  std::vector<std::string> labels;
  std::vector<int64_t> places;
  for (size_t i = 0; i < classes.size(); ++i) {
    if (from_strings && last[classes[i]] != i) continue;
    labels.push_back(classes[i]);
    places.push_back(static_cast<int64_t>(i));
  }
  Attributes& written = r.node.attributes;
  written.set(from_strings ? "keys_strings" : "values_strings", std::move(labels));
  written.set(from_strings ? "values_int64s" : "keys_int64s", std::move(places));
}

}  // namespace

std::vector<Step> ml_steps() { return {{"LabelEncoder", 2, label_encoder_2, "ai.onnx.ml"}}; }

}  // namespace sardonyx::upgrade
