#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_resize(CaseTable& t) {
  for (const char* mode : {"nearest", "linear", "cubic"})
    for (const char* transform : {"half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"}) {
      t.add("Resize", {f32({1, 2, 6, 5}), none(), fixed<float>({1, 1, 2, 1.6f})})
          .text("mode", mode)
          .text("coordinate_transformation_mode", transform);
      t.add("Resize", {f32({1, 2, 6, 5}), none(), none(), constant<int64_t>({1, 2, 3, 7})})
          .text("mode", mode)
          .text("coordinate_transformation_mode", transform);
    }
  t.add("Resize", {f32({1, 2, 8, 8}), none(), none(), constant<int64_t>({1, 2, 3, 3})})
      .text("mode", "linear")
      .integer("antialias", 1);
  t.add("Resize", {f32({1, 2, 8, 7}), none(), none(), constant<int64_t>({5, 4})})
      .text("mode", "cubic")
      .integer("antialias", 1)
      .ints("axes", {-1, 2});
  t.add("Resize", {f32({2, 7, 6}), none(), fixed<float>({1.7f, 0.6f})})
      .text("mode", "cubic")
      .integer("exclude_outside", 1)
      .number("cubic_coeff_a", -0.5f)
      .ints("axes", {1, 2});
  for (const char* rounding : {"round_prefer_ceil", "floor", "ceil"})
    t.add("Resize", {f32({1, 5, 6}), none(), fixed<float>({1, 0.5f, 2.5f})}).text("nearest_mode", rounding);
  for (const char* policy : {"not_larger", "not_smaller"})
    for (const char* mode : {"nearest", "linear"})
      t.add("Resize", {f32({1, 2, 6, 5}), none(), none(), constant<int64_t>({9, 4})})
          .text("mode", mode)
          .text("keep_aspect_ratio_policy", policy)
          .ints("axes", {2, 3});
  t.add("Resize", {f32({4, 5}), fixed<float>({0.2f, 0.1f, 1.1f, 0.8f}), none(), constant<int64_t>({6, 7})})
      .text("mode", "linear")
      .text("coordinate_transformation_mode", "tf_crop_and_resize")
      .number("extrapolation_value", 3);
  t.add("Resize", {f32({1, 2, 3, 4, 5}), none(), fixed<float>({1, 1, 2, 0.5f, 1.3f})})
      .text("mode", "linear")
      .text("coordinate_transformation_mode", "half_pixel_symmetric");
  // Positions beyond the borders as well: numbers between -1 and 1 are inside.
  for (const char* mode : {"nearest", "linear", "cubic"})
    for (const char* padding : {"zeros", "border", "reflection"})
      for (const int64_t align : {0, 1})
        t.add("GridSample", {f32({2, 3, 4, 5}),
                             f32({2, 3, 4, 2}, mode == std::string("cubic") ? Fill::Unit : Fill::Normal)})
            .text("mode", mode)
            .text("padding_mode", padding)
            .integer("align_corners", align)
            .within(1e-3);
  for (const char* padding : {"zeros", "reflection"})
    t.add("GridSample", {f32({1, 2, 3, 4, 5}), f32({1, 2, 3, 2, 3})})
        .text("padding_mode", padding)
        .within(1e-3);
  t.add("GridSample", {f32({1, 2, 6}), f32({1, 7, 1})});
  for (const int64_t align : {0, 1}) {
    t.add("AffineGrid", {f32({2, 2, 3}), constant<int64_t>({2, 3, 4, 5})}).integer("align_corners", align);
    t.add("AffineGrid", {f32({1, 3, 4}), constant<int64_t>({1, 3, 2, 3, 4})}).integer("align_corners", align);
  }
  t.add("GridSample", {f32({1, 2, 5, 5}), f32({1, 4, 4, 2}, Fill::Unit)});
  // The operators of which the gradients are made.
  const auto backward = [&](Dims dy, std::vector<int64_t> x, Input roi, Input scales, Input sizes) -> Case& {
    Case& c = t.add("ResizeBackward", {f32(std::move(dy)), constant<int64_t>(std::move(x)), std::move(roi),
                                       std::move(scales), std::move(sizes)});
    c.domain = "ai.sardonyx";
    return c;
  };
  for (const char* mode : {"nearest", "linear", "cubic"}) {
    backward({1, 2, 12, 8}, {1, 2, 6, 5}, none(), fixed<float>({1, 1, 2, 1.6f}), none()).text("mode", mode);
    backward({1, 2, 3, 7}, {1, 2, 6, 5}, none(), none(), constant<int64_t>({1, 2, 3, 7})).text("mode", mode);
    backward({2, 5, 4}, {2, 6, 5}, none(), none(), constant<int64_t>({9, 4}))
        .text("mode", mode)
        .ints("axes", {-2, 2})
        .text("keep_aspect_ratio_policy", "not_larger");
  }
  backward({6, 7}, {4, 5}, constant<double>({0.2, 0.1, 1.1, 0.8}), none(), constant<int64_t>({6, 7}))
      .text("mode", "linear")
      .text("coordinate_transformation_mode", "tf_crop_and_resize");
  backward({2, 3, 4, 3}, {2, 3, 8, 7}, none(), none(), constant<int64_t>({4, 3}))
      .text("mode", "cubic")
      .integer("antialias", 1)
      .ints("axes", {2, 3});
  for (const char* mode : {"nearest", "linear", "cubic"})
    for (const char* padding : {"zeros", "border", "reflection"})
      for (const int64_t align : {0, 1}) {
        Case& c = t.add("GridSampleBackward", {f32({2, 20, 3, 4}), f32({2, 20, 4, 5}), f32({2, 3, 4, 2})});
        c.text("mode", mode).text("padding_mode", padding).integer("align_corners", align).gives(2);
        c.domain = "ai.sardonyx";
      }
  Case& volume = t.add("GridSampleBackward", {f32({1, 2, 7}), f32({1, 2, 3, 4, 5}), f32({1, 7, 1, 1, 3})});
  volume.inputs[0].dims = {1, 2, 7, 1, 1};
  volume.integer("absolute", 1).gives(2).domain = "ai.sardonyx";
  t.add("Sample", {f32({2, 3, 4, 5}), f32({2, 3, 2, 2}, Fill::Positive)}).domain = "ai.sardonyx";
}

}  // namespace sardonyx::test
