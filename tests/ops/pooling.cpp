#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_pooling(CaseTable& t) {
  for (const char* op : {"MaxPool", "AveragePool"}) {
    t.add(op, {f32({1, 3, 8, 8})}).ints("kernel_shape", {2, 2}).ints("strides", {2, 2});
    t.add(op, {f32({2, 3, 9, 7})})
        .ints("kernel_shape", {3, 3})
        .ints("strides", {2, 2})
        .ints("pads", {1, 1, 1, 1});
    t.add(op, {f32({1, 3, 9, 9})})
        .ints("kernel_shape", {3, 3})
        .ints("strides", {2, 2})
        .integer("ceil_mode", 1);
    t.add(op, {f32({1, 3, 9})}).ints("kernel_shape", {3}).ints("dilations", {2});
    t.add(op, {f32({1, 2, 5, 6, 7})}).ints("kernel_shape", {2, 2, 3});
    t.add(op, {f32({1, 3, 8, 8})}).ints("kernel_shape", {3, 3}).text("auto_pad", "SAME_LOWER");
  }
  t.add("MaxPool", {f32({1, 3, 8, 8})}).ints("kernel_shape", {2, 2}).ints("strides", {2, 2}).gives(2);
  t.add("AveragePool", {f32({1, 3, 8, 8})})
      .ints("kernel_shape", {3, 3})
      .ints("pads", {1, 1, 1, 1})
      .integer("count_include_pad", 1);
  for (const char* op : {"MaxPool", "AveragePool"})
    for (const char* pad : {"SAME_UPPER", "SAME_LOWER", "VALID"})
      t.add(op, {f32({2, 2, 8, 7})})
          .ints("kernel_shape", {3, 2})
          .ints("strides", {3, 2})
          .text("auto_pad", pad);
  // What the mean counts: padding or not, windows that reach beyond the padding, dilation.
  for (const int64_t include : {0, 1})
    for (const int64_t ceil : {0, 1})
      for (const int64_t dilation : {1, 2})
        t.add("AveragePool", {f32({2, 2, 10, 9})})
            .ints("kernel_shape", {3, 2})
            .ints("strides", {3, 2})
            .ints("pads", {1, 0, 2, 1})
            .ints("dilations", {dilation, 1})
            .integer("ceil_mode", ceil)
            .integer("count_include_pad", include);
  t.add("AveragePool", {f32({1, 2, 7})})
      .ints("kernel_shape", {4})
      .ints("strides", {2})
      .text("auto_pad", "SAME_UPPER")
      .integer("count_include_pad", 1);
  t.add("MaxPool", {f32({2, 2, 10, 9})})
      .ints("kernel_shape", {3, 2})
      .ints("strides", {3, 2})
      .ints("pads", {1, 0, 2, 1})
      .ints("dilations", {2, 1})
      .integer("ceil_mode", 1);
  t.add("MaxPool", {f32({1, 3, 8, 8})}).ints("kernel_shape", {2, 3}).integer("storage_order", 1).gives(2);
  t.add("MaxUnpool", {f32({1, 2, 2, 2}), constant<int64_t>({0, 3, 8, 15, 16, 19, 24, 31}, {1, 2, 2, 2})})
      .ints("kernel_shape", {2, 2})
      .ints("strides", {2, 2});
  t.add("MaxUnpool", {f32({1, 2, 2, 2}), constant<int64_t>({0, 3, 8, 15, 16, 19, 24, 31}, {1, 2, 2, 2}),
                      constant<int64_t>({1, 2, 5, 6})})
      .ints("kernel_shape", {2, 2})
      .ints("strides", {2, 2});
  for (const int64_t p : {1, 2, 3}) {
    t.add("GlobalLpPool", {f32({2, 3, 4, 5})}).integer("p", p);
    t.add("LpPool", {f32({2, 3, 8, 7})})
        .ints("kernel_shape", {3, 2})
        .ints("strides", {2, 1})
        .ints("pads", {1, 0, 1, 1})
        .ints("dilations", {1, 2})
        .integer("ceil_mode", 1)
        .integer("p", p);
  }
  t.add("LpPool", {f32({1, 3, 8, 8})}).ints("kernel_shape", {2, 2}).integer("p", 2);
  // Regions in the image, partly and wholly outside, small and turned around; nothing flows to them.
  const std::vector<float> regions = {0.6f, 0.9f, 5.2f, 4.8f, -3,   -2.5f, 3.3f, 9.7f, 20, 20,
                                      22,   23,   2.1f, 2.2f, 2.3f, 2.25f, 4,    4,    3,  1};
  for (const char* mode : {"avg", "max"})
    for (const char* transform : {"half_pixel", "output_half_pixel"})
      for (const int64_t ratio : {0, 2})
        t.add("RoiAlign",
              {f32({2, 3, 6, 7}), constant<float>(regions, {5, 4}), constant<int64_t>({1, 0, 1, 0, 0})})
            .text("mode", mode)
            .text("coordinate_transformation_mode", transform)
            .integer("sampling_ratio", ratio)
            .integer("output_height", 2)
            .integer("output_width", 3)
            .number("spatial_scale", 0.9f);
  t.add("MaxRoiPool",
        {f32({2, 3, 6, 7}), constant<float>({1, 0, 0, 8, 10, 0, 4, 2, 12, 10, 0, 6, 8, 6, 8}, {3, 5})})
      .ints("pooled_shape", {2, 3})
      .number("spatial_scale", 0.5f);
  for (const char* op : {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"})
    t.add(op, {f32({2, 3, 7, 5})});
  // The operators of which the gradients are made, with channels for whole vectors and for parts of one.
  for (const int64_t channels : {3, 37, 70}) {
    t.add("GlobalAveragePoolBackward", {f32({2, channels, 1, 1}), constant<int64_t>({2, channels, 7, 5})})
        .domain = "ai.sardonyx";
    for (const int64_t pad : {0, 1}) {
      const int64_t height = 4 + pad, width = 6 + pad;
      Case& maximum =
          t.add("MaxPoolBackward", {f32({2, channels, height, width}), f32({2, channels, 9, 14})});
      maximum.ints("kernel_shape", {3, 4}).ints("strides", {2, 2}).ints("pads", {pad, pad, pad, pad});
      maximum.domain = "ai.sardonyx";
      Case& mean = t.add("AveragePoolBackward",
                         {f32({2, channels, height, width}), constant<int64_t>({2, channels, 9, 14})});
      mean.ints("kernel_shape", {3, 4}).ints("strides", {2, 2}).ints("pads", {pad, pad, pad, pad});
      mean.domain = "ai.sardonyx";
    }
    Case& line = t.add("MaxPoolBackward", {f32({1, channels, 5}), f32({1, channels, 11})});
    line.ints("kernel_shape", {3}).ints("strides", {2}).ints("dilations", {2}).ints("pads", {1, 1});
    line.domain = "ai.sardonyx";
  }
  for (const char* mode : {"avg", "max"})
    for (const int64_t ratio : {0, 3}) {
      std::vector<Input> inputs = {f32({5, 35, 2, 3}), constant<float>(regions, {5, 4}),
                                   constant<int64_t>({1, 0, 1, 0, 0}), constant<int64_t>({2, 35, 6, 7})};
      const bool maximum = std::string(mode) == "max";
      if (maximum) inputs.push_back(f32({2, 35, 6, 7}));
      Case& c = t.add("RoiAlignBackward", std::move(inputs));
      c.text("mode", mode)
          .integer("sampling_ratio", ratio)
          .integer("output_height", 2)
          .integer("output_width", 3);
      c.domain = "ai.sardonyx";
    }
}

}  // namespace sardonyx::test
