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
  t.add("GridSample", {f32({1, 2, 5, 5}), f32({1, 4, 4, 2}, Fill::Unit)});
}

}  // namespace sardonyx::test
