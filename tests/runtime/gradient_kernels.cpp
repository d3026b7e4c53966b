// The kernels of gradients in f32, f16 and bf16, against the same gradient in f64, whose rules are checked
// against central differences.
#include <gtest/gtest.h>

#include "tests/support/cases.h"
#include "tests/support/gradient.h"

namespace sardonyx::test {

namespace {

Tensor converted(const Tensor& x, DType to) {
  Tensor tensor(to, x.dims());
  const std::vector<double> numbers = x.to_doubles();
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (to == DType::Float64) tensor.mutable_data<double>()[i] = numbers[i];
    if (to == DType::Float32) tensor.mutable_data<float>()[i] = static_cast<float>(numbers[i]);
    if (to == DType::Float16) tensor.mutable_data<Half>()[i] = Half(numbers[i]);
    if (to == DType::BFloat16) tensor.mutable_data<BFloat16>()[i] = BFloat16(numbers[i]);
  }
  return tensor;
}

// The gradients by all float inputs, for cotangents that every dtype holds.
std::vector<Value> gradients(const Case& c, DType dtype, int threads) {
  const Prepared reference = make_model(c, 1, DType::BFloat16),
                 prepared = make_model(c, 1, dtype == DType::Float32 ? DType::Undefined : dtype);
  std::vector<std::string> wrt;
  Feeds feeds;
  for (const auto& [name, value] : prepared.feeds) {
    const bool is_number = value.tensor().dtype() == dtype;
    feeds[name] = is_number ? Value(converted(reference.feeds.at(name).tensor(), dtype)) : value;
    if (is_number) wrt.push_back(name);
  }
  SessionOptions options;
  options.threads = threads;
  Session forward(prepared.model, options), backward(gradient_of(prepared.model, wrt), options);
  const std::vector<Value> outputs = forward.run(feeds);
  std::mt19937_64 random(3);
  Feeds all;
  for (size_t i = 0; i < outputs.size(); ++i)
    feeds["d_" + forward.outputs()[i].name] =
        converted(converted(random_like(outputs[i].tensor(), random), DType::BFloat16), dtype);
  for (const auto& input : backward.inputs()) all[input.name] = feeds.at(input.name);
  return backward.run(all);
}

void expect_kernels(const Case& c) {
  SCOPED_TRACE(c.name());
  const std::vector<Value> expected = gradients(c, DType::Float64, 2);
  for (const auto& [dtype, tolerance] : std::vector<std::pair<DType, double>>{
           {DType::Float32, 1e-5}, {DType::Float16, 2e-2}, {DType::BFloat16, 1e-1}}) {
    const std::vector<Value> two = gradients(c, dtype, 2), one = gradients(c, dtype, 1);
    ASSERT_EQ(two.size(), expected.size());
    for (size_t i = 0; i < two.size(); ++i) {
      EXPECT_EQ(two[i].tensor().dtype(), dtype);
      EXPECT_LE(difference(two[i], expected[i]), tolerance) << dtype_name(dtype) << ", gradient " << i;
      EXPECT_LE(difference(one[i], expected[i]), tolerance) << "one thread, gradient " << i;
    }
  }
}

}  // namespace

TEST(GradientKernels, Gather) {
  CaseTable t;
  t.add("Gather", {f32({50, 64}), index({7, 90}, 50)});
  t.add("Gather", {f32({9, 300}), index({400}, 9)});
  t.add("Gather", {f32({500, 3}), index({4000}, 400)});
  t.add("Gather", {f32({3, 40, 70}), index({200}, 40)}).integer("axis", 1);
  t.add("Gather", {f32({30, 40}), index({2, 50}, 40)}).integer("axis", -1);
  for (const Case& c : t.all()) expect_kernels(c);
}

TEST(GradientKernels, Slice) {
  CaseTable t;
  t.add("Slice", {f32({40, 50, 6}), constant<int64_t>({35, -40}), constant<int64_t>({-100, 48}),
                  constant<int64_t>({0, 1}), constant<int64_t>({-3, 2})});
  t.add("Slice", {f32({4, 5, 60}), constant<int64_t>({-1}), constant<int64_t>({-100}), constant<int64_t>({2}),
                  constant<int64_t>({-1})});
  for (const Case& c : t.all()) expect_kernels(c);
}

// More hidden units than a panel has, and a number of sequences and units that no vector divides.
TEST(GradientKernels, Recurrent) {
  CaseTable t;
  for (const auto& [op, gates] :
       std::vector<std::pair<std::string, int64_t>>{{"RNN", 1}, {"GRU", 3}, {"LSTM", 4}})
    for (const char* direction : {"forward", "bidirectional"}) {
      const int64_t d = std::string(direction) == "bidirectional" ? 2 : 1, h = 70;
      // Small weights, so that 16 bits hold the sums of many steps.
      std::vector<Input> inputs = {f32({6, 5, 20}),
                                   f32({d, gates * h, 20}, Fill::Unit),
                                   f32({d, gates * h, h}),
                                   f32({d, 2 * gates * h}, Fill::Unit),
                                   none(),
                                   f32({d, 5, h}, Fill::Unit)};
      std::vector<float> weights(static_cast<size_t>(d * gates * h * h));
      for (size_t i = 0; i < weights.size(); ++i)
        weights[i] = static_cast<float>(static_cast<int>(i * 2654435761u >> 7 & 63) - 32) / 512;
      inputs[2] = constant<float>(weights, {d, gates * h, h});
      if (op == "LSTM") inputs.push_back(f32({d, 5, h}, Fill::Unit));
      Case& c = t.add(op, inputs)
                    .integer("hidden_size", h)
                    .text("direction", direction)
                    .gives(op == "LSTM" ? 3 : 2);
      if (op == "GRU") c.integer("linear_before_reset", 1);
    }
  for (const Case& c : t.all()) expect_kernels(c);
}

// A sequence without steps: its last state is its first.
TEST(GradientRules, EmptySequence) {
  Case c;
  c.op = "LSTM";
  c.inputs = {f32({4, 2, 3}), f32({2, 20, 3}, Fill::Unit), f32({2, 20, 5}, Fill::Unit),
              none(),         constant<int32_t>({0, 3}),   f32({2, 2, 5}),
              f32({2, 2, 5})};
  c.integer("hidden_size", 5).text("direction", "bidirectional").gives(3);
  const Prepared prepared = make_model(c, 1, DType::Float64);
  EXPECT_LE(gradient_error(prepared.model, prepared.feeds, {.wrt = {"x0", "x1", "x2", "x5", "x6"}}), 1e-6);
}

// Operators whose output is f32 whatever their input is: differences of a step that f32 shows.
TEST(GradientRules, MachineLearning) {
  const auto check = [](const char* op, Attributes attributes, Dims dims) {
    SCOPED_TRACE(op);
    GraphBuilder b("ml");
    // Far from one another, and from zero.
    const Tensor x =
        Tensor::of<double>({1.5, -0.4, 0.8, 0.3, -2, 1.1, 0.7, 0.25, -1.3, -0.6, 0.9, 1.9}, dims);
    const ValueId in = b.input("x", Type::tensor(DType::Float64, shape_of(dims)));
    const ValueId y = b.ops(op, {in}, 1, std::move(attributes), "ai.onnx.ml")[0];
    // ONNX's inference does not say.
    b.info(y).type = Type::tensor(std::string(op) == "Imputer" ? DType::Float64 : DType::Float32);
    b.output(b.op("Cast", {y}, sardonyx::attributes({{"to", int64_t{11}}})));
    auto model = std::make_shared<Model>();
    model->graph = std::move(b).build();
    model->ir_version = 10;
    EXPECT_LE(gradient_error(LoadedModel(model), {{"x", x}}, {.wrt = {"x"}, .step = 1e-2}), 2e-3);
  };
  const auto floats = [](std::vector<float> v) { return v; };
  check("Scaler", attributes({{"scale", floats({2, -1, 0.5f})}, {"offset", floats({1, 2, 3})}}), {4, 3});
  check("Scaler", attributes({{"scale", floats({3})}, {"offset", floats({1})}}), {4, 3});
  check("Imputer", attributes({{"imputed_value_floats", floats({3})}, {"replaced_value_float", 0.5f}}),
        {4, 3});
  for (const char* norm : {"MAX", "L1", "L2"})
    check("Normalizer", attributes({{"norm", std::string(norm)}}), {4, 3});
  check("LinearRegressor",
        attributes({{"coefficients", floats({1, 2, 3, -4, 5, 6})}, {"targets", int64_t{2}}}), {4, 3});
}

}  // namespace sardonyx::test
