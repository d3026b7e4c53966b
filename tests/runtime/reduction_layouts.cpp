// Reductions of what a convolution stores channels last.
#include <gtest/gtest.h>

#include <random>

#include "graph/builder.h"
#include "sardonyx/session.h"
#include "tests/support/cases.h"

namespace sardonyx::test {

namespace {

TEST(ReductionLayouts, AgreeWithThePlainLoops) {
  std::mt19937_64 random(3);
  std::normal_distribution<float> normal;
  for (const Dims& image : {Dims{3, 5, 9, 11}, Dims{1, 5, 40, 40}, Dims{2, 5, 1, 1}, Dims{0, 5, 4, 4}})
    for (const char* op : {"ReduceSum", "ReduceMean"})
      for (const std::vector<int64_t>& axes :
           {std::vector<int64_t>{0, 2, 3}, {2, 3}, {-1, -2}, {1}, {0, 3}, {}})
        for (const int64_t keepdims : {0, 1}) {
          if (image[0] == 0 && std::string(op) == "ReduceMean") continue;  // 0 / 0
          GraphBuilder builder("reduce");
          Feeds feeds;
          const auto input = [&](const char* name, const Dims& dims) {
            Tensor tensor(DType::Float32, dims);
            for (int64_t i = 0; i < tensor.size(); ++i) tensor.mutable_data<float>()[i] = normal(random);
            feeds[name] = tensor;
            return builder.input(name, Type::tensor(DType::Float32, shape_of(dims)));
          };
          const ValueId x = builder.op("Conv", {input("x", image), input("w", {600, 5, 1, 1})});
          const ValueId y =
              builder.op(op, {x, builder.constant(Tensor::of(axes))}, attributes({{"keepdims", keepdims}}));
          builder.info(y).name = "y";
          builder.output(y);
          auto model = std::make_shared<Model>();
          model->graph = std::move(builder).build();
          model->ir_version = 10;
          SessionOptions plain;
          plain.prefer_kernel = "ref";
          plain.optimize = "none";
          Session fast{LoadedModel(model)}, ref(LoadedModel(model), plain);
          EXPECT_LE(difference(fast.run(feeds)[0], ref.run(feeds)[0]), 1e-5)
              << op << " of " << to_string(image) << " over " << axes.size() << " axes, keepdims "
              << keepdims;
        }
}

}  // namespace

}  // namespace sardonyx::test
