#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_optimizer(CaseTable& t) {
  const auto training = [&](const char* op, std::vector<Input> inputs) -> Case& {
    return t.add(op, std::move(inputs)).of("ai.onnx.preview.training");
  };
  const auto own = [&](const char* op, std::vector<Input> inputs) -> Case& {
    return t.add(op, std::move(inputs)).of("ai.sardonyx");
  };
  const Input rate = f32({}, Fill::Positive), x = f32({3, 4}), y = f32({5}),
              square = f32({3, 4}, Fill::Positive), square_of_y = f32({5}, Fill::Positive);
  for (const int64_t step : {0, 3}) {
    const Input at = constant<int64_t>({step}, {});
    training("Adagrad", {rate, at, x, y, x, y, square, square_of_y})
        .gives(4)
        .number("norm_coefficient", 0.1f)
        .number("decay_factor", 0.2f);
    training("Adam", {rate, at, x, y, x, y, x, y, square, square_of_y})
        .gives(6)
        .number("norm_coefficient", 0.1f)
        .number("norm_coefficient_post", 0.2f)
        .number("alpha", 0.8f)
        .number("beta", 0.9f);
    for (const char* mode : {"standard", "nesterov"})
      training("Momentum", {rate, at, x, y, x, y, x, y})
          .gives(4)
          .number("norm_coefficient", 0.1f)
          .number("alpha", 0.8f)
          .number("beta", 0.9f)
          .text("mode", mode);
  }
  const Input scale = typed(DType::Float64, {}, Fill::Positive);
  for (const int64_t maximize : {0, 1}) {
    own("SGDStep", {x, x, constant<double>({0.1, 0.9, 0.2, 0.3, 2}), scale}).integer("maximize", maximize);
    for (const int64_t option : {0, 1}) {
      for (const double step : {1, 2})
        own("SGDStep", {x, x, constant<double>({0.1, 0.9, 0.2, 0.3, step}), scale, x})
            .gives(2)
            .integer("maximize", maximize)
            .integer("nesterov", option);
      std::vector<Input> inputs = {x, x, constant<double>({0.1, 0.9, 0.95, 1e-8, 0.3, 2}), scale, x, square};
      if (option) inputs.push_back(square);
      own("AdamWStep", std::move(inputs))
          .gives(option ? 4 : 3)
          .integer("maximize", maximize)
          .integer("amsgrad", option);
    }
  }
}

}  // namespace sardonyx::test
