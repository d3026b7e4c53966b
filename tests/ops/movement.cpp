#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_movement(CaseTable& t) {
  t.add("Reshape", {f32({2, 3, 4}), constant<int64_t>({0, -1})});
  t.add("Reshape", {typed(DType::String, {2, 3}), constant<int64_t>({3, 2})});
  t.add("Flatten", {f32({2, 3, 4})}).integer("axis", 2);
  t.add("Squeeze", {f32({1, 3, 1}), constant<int64_t>({0})});
  t.add("Unsqueeze", {f32({3}), constant<int64_t>({0, 2})});
  for (const std::vector<int64_t>& perm : {std::vector<int64_t>{0, 2, 1}, {2, 1, 0}, {1, 0, 2}, {2, 0, 1}}) {
    t.add("Transpose", {f32({17, 33, 65})}).ints("perm", perm);
    t.add("Transpose", {typed(DType::UInt8, {5, 6, 7})}).ints("perm", perm);
    t.add("Transpose", {typed(DType::String, {2, 3, 4})}).ints("perm", perm);
  }
  t.add("Transpose", {f32({2, 3, 4, 5})});
  for (const int64_t axis : {0, 1, -1})
    t.add("Concat", {f32({2, 3, 4}), f32({2, 3, 4}), f32({2, 3, 4})}).integer("axis", axis);
  t.add("Split", {f32({2, 7, 3}), constant<int64_t>({2, 5})}).integer("axis", 1).gives(2);
  t.add("Split", {f32({2, 7, 3})}).integer("axis", 1).integer("num_outputs", 3).gives(3);
  t.add("Slice", {f32({5, 6, 7}), constant<int64_t>({1, -4}), constant<int64_t>({100, -1}),
                  constant<int64_t>({0, 2}), constant<int64_t>({2, 1})});
  t.add("Slice", {f32({5, 6}), constant<int64_t>({4}), constant<int64_t>({-100}), constant<int64_t>({0}),
                  constant<int64_t>({-2})});
  t.add("Slice", {f32({4, 5, 6}), constant<int64_t>({-1, 2}), constant<int64_t>({-100, 0}),
                  constant<int64_t>({-2, -1}), constant<int64_t>({-3, -1})});
  t.add("Slice", {f32({4, 5}), constant<int32_t>({1}), constant<int32_t>({-1})});
  t.add("Slice", {f32({4, 5}), constant<int64_t>({3}), constant<int64_t>({1}), constant<int64_t>({1})});
  t.add("Slice", {f32({4, 5}), index({2}, 2), constant<int64_t>({4, 5}), none(), constant<int64_t>({1, 2})});
  t.add("Expand", {f32({3, 1}), constant<int64_t>({2, 1, 4})});
  t.add("Tile", {f32({2, 3}), constant<int64_t>({2, 3})});
  t.add("Tile", {f32({2, 1, 3}), constant<int64_t>({1, 0, 2})});
  t.add("Tile", {f32({2, 3}), index({2}, 3)});
  t.add("Concat", {f32({2, 3}), f32({2, 1}), f32({2, 0})}).integer("axis", -1);
  t.add("Concat", {f32({2, 3})}).integer("axis", 0);
  t.add("Concat", {f32({2, 3, 2}), f32({2, 2, 2})}).integer("axis", -2);
  for (const char* mode : {"DCR", "CRD"})
    t.add("DepthToSpace", {f32({1, 8, 3, 4})}).integer("blocksize", 2).text("mode", mode);
  t.add("SpaceToDepth", {f32({1, 2, 4, 6})}).integer("blocksize", 2);
  t.add("SpaceToDepth", {f32({2, 3, 4, 6})}).integer("blocksize", 2).text("mode", "CRD");
  t.add("Shape", {f32({2, 3, 4})}).integer("start", 1);
  t.add("Size", {f32({2, 3, 4})});
  t.add("Range", {constant<int64_t>({1}, {}), constant<int64_t>({10}, {}), constant<int64_t>({3}, {})});
  t.add("ConstantOfShape", {constant<int64_t>({2, 3})});
  t.add("EyeLike", {f32({3, 4})}).integer("k", 1);
  t.add("Range", {f32({}, Fill::Unit), constant<float>({10.25f}, {}), f32({}, Fill::Positive)}).only_f32();
  t.add("Trilu", {f32({2, 4, 5})}).integer("upper", 0);
  t.add("Trilu", {f32({2, 4, 5}), constant<int64_t>({-1}, {})});
  t.add("ReverseSequence", {f32({4, 3}), constant<int64_t>({1, 2, 4})});
  t.add("ReverseSequence", {f32({3, 4, 2}), constant<int64_t>({1, 2, 4})})
      .integer("time_axis", 1)
      .integer("batch_axis", 0);
  t.add("CenterCropPad", {f32({5, 6}), constant<int64_t>({3, 8})});
  t.add("CenterCropPad", {f32({5, 4, 6}), constant<int64_t>({2, 9})}).ints("axes", {-3, 2});
  t.add("Identity", {f32({2, 3})});
}

}  // namespace sardonyx::test
