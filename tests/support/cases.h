// The case table: one line for each way of using an operator. The harness runs every case on every
// provider, kernel and stage; the same table is exported for other engines.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "graph/builder.h"
#include "sardonyx/session.h"

namespace sardonyx::test {

// How the numbers of an input are drawn.
enum class Fill {
  Normal,    // normal(0, 1); small integers of either sign for signed integer types
  Positive,  // in [0.1, 2.1); 1..9 for integers
  Unit,      // in (-0.9, 0.9)
  Index,     // integers in [0, bound)
  Ones,      // all 1
};

struct Input {
  DType dtype = DType::Float32;
  Dims dims;
  Fill fill = Fill::Normal;
  int64_t bound = 0;     // of Index
  Value constant;        // defined: this value, as an initializer
  bool omitted = false;  // an optional input left out
  bool fixed = false;    // a constant that is f32 whatever the case's float type is
};

inline Input f32(Dims dims, Fill fill = Fill::Normal) {
  return {DType::Float32, std::move(dims), fill, 0, {}, false, false};
}
inline Input typed(DType dtype, Dims dims, Fill fill = Fill::Normal) {
  return {dtype, std::move(dims), fill, 0, {}, false, false};
}
inline Input index(Dims dims, int64_t bound) {
  return {DType::Int64, std::move(dims), Fill::Index, bound, {}, false, false};
}
template <typename T>
Input constant(std::vector<T> values) {
  Input input;
  input.constant = Tensor::of(values);
  return input;
}
template <typename T>
Input constant(std::vector<T> values, Dims dims) {
  Input input;
  input.constant = Tensor::of(values, std::move(dims));
  return input;
}
template <typename T>
Input fixed(std::vector<T> values) {
  Input input = constant(std::move(values));
  input.fixed = true;
  return input;
}
inline Input none() {
  Input input;
  input.omitted = true;
  return input;
}

struct Case {
  std::string op;
  std::vector<Input> inputs;
  Attributes attributes;
  size_t outputs = 1;
  std::string domain;
  double tolerance = 1e-4;  // of the largest value, for f32; integers and strings are exact
  bool f64 = true;          // also compared with the same case in f64, where its gradient is checked
  bool has_gradient = true;
  std::string name() const;

  Case& with(std::string attribute, Attribute value) {
    attributes.set(std::move(attribute), std::move(value));
    return *this;
  }
  Case& of(std::string from) {
    domain = std::move(from);
    return *this;
  }
  Case& ints(std::string attribute, std::vector<int64_t> values) {
    return with(std::move(attribute), std::move(values));
  }
  Case& integer(std::string attribute, int64_t value) { return with(std::move(attribute), value); }
  Case& number(std::string attribute, float value) { return with(std::move(attribute), value); }
  Case& text(std::string attribute, std::string value) {
    return with(std::move(attribute), std::move(value));
  }
  Case& gives(size_t n) {
    outputs = n;
    return *this;
  }
  Case& within(double t) {
    tolerance = t;
    return *this;
  }
  // The operator has no f64 form, or its result depends on rounding.
  Case& only_f32() {
    f64 = false;
    return *this;
  }
  // Its output jumps or has a kink where its inputs are: central differences say nothing there.
  Case& no_gradient_check() {
    has_gradient = false;
    return *this;
  }
};

class CaseTable {
 public:
  // The reference stays valid until the next call.
  Case& add(std::string op, std::vector<Input> inputs) {
    Case c;
    c.op = std::move(op);
    c.inputs = std::move(inputs);
    cases_.push_back(std::move(c));
    return cases_.back();
  }
  const std::vector<Case>& all() const { return cases_; }

 private:
  std::vector<Case> cases_;
};

// Every case of tests/ops/*.cpp.
const CaseTable& case_table();

// A case as a model of one node, and its feeds.
struct Prepared {
  LoadedModel model;
  Feeds feeds;
};
// `as`: Undefined keeps the dtypes; another float dtype replaces f32.
Prepared make_model(const Case& c, uint64_t seed, DType as = DType::Undefined);
// The same with the operators of this project's own written out.
LoadedModel in_standard_operators(const LoadedModel& model);

// Largest difference as a share of the largest expected value (at least 1e-3); infinity when dtype, dims or
// a value that is not a float differ, or NaN and infinities stand elsewhere.
double difference(const Value& got, const Value& expected);

}  // namespace sardonyx::test
