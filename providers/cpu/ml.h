// What the kernels of domain ai.onnx.ml share: number inputs, labels, and the transforms of scores.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "providers/kernel.h"

namespace sardonyx::cpu {

inline constexpr const char* kMlDomain = "ai.onnx.ml";

// The numbers of a float, double, int64 or int32 tensor as doubles.
std::vector<double> numbers(const Tensor& tensor);

// An input of rank 1 or 2 as rows of features.
struct Rows {
  int64_t count = 0, features = 0;
};
Rows prepare_rows(PrepareContext& ctx);

enum class PostTransform { None, Softmax, Logistic, SoftmaxZero, Probit };
PostTransform post_transform(PrepareContext& ctx, const std::string& name);
// Transforms one row of scores in place.
void apply_post_transform(PostTransform transform, double* scores, int64_t n);

double logistic(double x);

// Class labels: integers or strings.
struct Labels {
  std::vector<int64_t> ints;
  std::vector<std::string> strings;
  bool are_strings() const { return !strings.empty(); }
  int64_t size() const { return static_cast<int64_t>(are_strings() ? strings.size() : ints.size()); }
  DType dtype() const { return are_strings() ? DType::String : DType::Int64; }
  // Writes label `index` to element i of an output.
  void write(Tensor& out, int64_t i, int64_t index) const;
};
Labels prepare_labels(PrepareContext& ctx, const std::optional<std::vector<int64_t>>& ints,
                      const std::optional<std::vector<std::string>>& strings);

}  // namespace sardonyx::cpu
