#include "tests/support/cases.h"

#include <cmath>
#include <limits>
#include <random>

#include "api/pipeline.h"
#include "graph/print.h"
#include "ops/registry/decompose.h"
#include "ops/registry/operator.h"
#include "ops/registry/schema.h"

namespace sardonyx::test {

void fill_cases(CaseTable& table);

const CaseTable& case_table() {
  static const CaseTable table = [] {
    CaseTable t;
    fill_cases(t);
    return t;
  }();
  return table;
}

std::string Case::name() const {
  std::string text = op;
  for (const auto& input : inputs)
    text += " " + (input.omitted              ? std::string("_")
                   : input.constant.defined() ? "c" + to_string(input.constant.tensor().dims())
                                              : std::string(dtype_name(input.dtype)) + to_string(input.dims));
  for (const auto& [key, value] : attributes) text += " " + key + "=" + print_attribute(value);
  return text;
}

namespace {

Tensor draw(const Input& input, DType dtype, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  const auto one = [&]() -> double {
    const bool whole = !is_float(dtype);
    switch (input.fill) {
      case Fill::Normal: {
        const double v = normal(random);
        return whole ? (is_signed_integer(dtype) ? std::round(3 * v) : std::abs(std::round(3 * v))) : v;
      }
      case Fill::Positive:
        return whole ? static_cast<double>(1 + random() % 9) : 0.1 + 2 * uniform(random);
      case Fill::Unit:
        return 1.8 * uniform(random) - 0.9;
      case Fill::Index:
        return static_cast<double>(random() % static_cast<uint64_t>(std::max<int64_t>(input.bound, 1)));
      case Fill::Ones:
        return 1;
    }
    return 0;
  };
  Tensor tensor(dtype, input.dims);
  for (int64_t i = 0; i < tensor.size(); ++i) {
    // The same numbers whatever the float type: what f32 holds.
    const double v = static_cast<float>(one());
    switch (dtype) {
      case DType::Float32:
        tensor.mutable_data<float>()[i] = static_cast<float>(v);
        break;
      case DType::Float64:
        tensor.mutable_data<double>()[i] = v;
        break;
      case DType::Float16:
        tensor.mutable_data<Half>()[i] = Half(v);
        break;
      case DType::BFloat16:
        tensor.mutable_data<BFloat16>()[i] = BFloat16(v);
        break;
      case DType::Int64:
        tensor.mutable_data<int64_t>()[i] = static_cast<int64_t>(v);
        break;
      case DType::Int32:
        tensor.mutable_data<int32_t>()[i] = static_cast<int32_t>(v);
        break;
      case DType::Int8:
        tensor.mutable_data<int8_t>()[i] = static_cast<int8_t>(v);
        break;
      case DType::UInt8:
        tensor.mutable_data<uint8_t>()[i] = static_cast<uint8_t>(v);
        break;
      case DType::Bool:
        tensor.mutable_data<bool>()[i] = std::fmod(std::abs(std::round(v)), 2) == 1;
        break;
      case DType::String:
        tensor.mutable_data<std::string>()[i] = "s" + std::to_string(static_cast<int>(v));
        break;
      default:
        throw InputError("case", "a dtype that the table can draw", dtype_name(dtype));
    }
  }
  return tensor;
}

Value as_type(const Value& value, DType as) {
  if (as == DType::Undefined || as == DType::Float32) return value;
  if (!value.is_tensor() || value.tensor().dtype() != DType::Float32) return value;
  const std::vector<double> numbers = value.tensor().to_doubles();
  Tensor tensor(as, value.tensor().dims());
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (as == DType::Float64)
      tensor.mutable_data<double>()[i] = numbers[i];
    else if (as == DType::Float16)
      tensor.mutable_data<Half>()[i] = Half(numbers[i]);
    else
      tensor.mutable_data<BFloat16>()[i] = BFloat16(numbers[i]);
  }
  return tensor;
}

}  // namespace

Prepared make_model(const Case& c, uint64_t seed, DType as) {
  std::mt19937_64 random(seed);
  GraphBuilder builder("case");
  Feeds feeds;
  Node node;
  node.op = c.op;
  node.domain = c.domain;
  node.name = "node";
  node.attributes = c.attributes;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    const Input& input = c.inputs[i];
    const std::string name = "x" + std::to_string(i);
    if (input.omitted) {
      node.inputs.push_back(kNone);
    } else if (input.constant.defined()) {
      node.inputs.push_back(
          builder.constant(input.fixed ? input.constant : as_type(input.constant, as), name));
    } else {
      const DType dtype = as != DType::Undefined && input.dtype == DType::Float32 ? as : input.dtype;
      feeds[name] = draw(input, dtype, random);
      node.inputs.push_back(builder.input(name, Type::tensor(dtype, shape_of(input.dims))));
    }
  }
  for (size_t i = 0; i < c.outputs; ++i) {
    node.outputs.push_back(builder.value("y" + std::to_string(i)));
    builder.output(node.outputs.back());
  }
  builder.add(std::move(node));
  auto model = std::make_shared<Model>();
  model->graph = std::move(builder).build();
  model->ir_version = 10;
  return {LoadedModel(model), std::move(feeds)};
}

LoadedModel in_standard_operators(const LoadedModel& model) {
  const Pipeline pipeline({"cpu"});
  const GraphPtr typed = infer_types(model.get()->graph, pipeline.evaluator.get());
  auto changed = std::make_shared<Model>(*model.get());
  changed->graph = decompose_unsupported(
      typed, [](const Node& node) { return node.domain != kOwnDomain; }, pipeline.evaluator.get());
  return LoadedModel(changed);
}

double difference(const Value& got, const Value& expected) {
  constexpr double kDifferent = std::numeric_limits<double>::infinity();
  if (!got.is_tensor() || !expected.is_tensor()) return kDifferent;
  const Tensor& a = got.tensor();
  const Tensor& b = expected.tensor();
  if (a.dims() != b.dims() || is_float(a.dtype()) != is_float(b.dtype())) return kDifferent;
  if (a.dtype() == DType::String) {
    for (int64_t i = 0; i < a.size(); ++i)
      if (b.dtype() != DType::String || a.data<std::string>()[i] != b.data<std::string>()[i])
        return kDifferent;
    return 0;
  }
  const auto x = a.to_doubles(), y = b.to_doubles();
  double scale = 1e-3, largest = 0;
  for (const double v : y)
    if (std::isfinite(v)) scale = std::max(scale, std::abs(v));
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i] || (std::isnan(x[i]) && std::isnan(y[i]))) continue;
    if (!is_float(a.dtype()) || !std::isfinite(x[i]) || !std::isfinite(y[i])) return kDifferent;
    largest = std::max(largest, std::abs(x[i] - y[i]));
  }
  return largest / scale;
}

}  // namespace sardonyx::test
