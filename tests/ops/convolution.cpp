#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_convolution(CaseTable& t) {
  t.add("Conv", {f32({1, 3, 8, 8}), f32({4, 3, 3, 3})});
  t.add("Conv", {f32({2, 3, 9, 7}), f32({4, 3, 3, 3}), f32({4})})
      .ints("pads", {1, 0, 1, 2})
      .ints("strides", {2, 1});
  t.add("Conv", {f32({1, 4, 8, 8}), f32({4, 1, 3, 3}), f32({4})})
      .integer("group", 4)
      .ints("pads", {1, 1, 1, 1});
  t.add("Conv", {f32({1, 6, 8, 8}), f32({4, 3, 3, 3})}).integer("group", 2).ints("dilations", {2, 1});
  t.add("Conv", {f32({1, 32, 14, 14}), f32({64, 32, 1, 1}), f32({64})});
  t.add("Conv", {f32({1, 3, 8}), f32({4, 3, 3})}).text("auto_pad", "SAME_UPPER");
  t.add("Conv", {f32({1, 2, 5, 6, 7}), f32({3, 2, 2, 3, 3})}).ints("pads", {1, 1, 1, 0, 0, 0});
  t.add("Conv", {f32({0, 3, 8, 8}), f32({4, 3, 3, 3})});
  t.add("Conv",
        {f32({1, 3, 12, 12}), constant<float>(std::vector<float>(8 * 3 * 25, 0.1f), {8, 3, 5, 5}), f32({8})})
      .ints("pads", {2, 2, 2, 2});
  // Padding of SAME with strides, windows that leave the last elements unread, and dilation with groups.
  for (const char* pad : {"SAME_UPPER", "SAME_LOWER", "VALID"})
    t.add("Conv", {f32({2, 4, 8, 7}), f32({6, 2, 3, 4}), f32({6})})
        .text("auto_pad", pad)
        .integer("group", 2)
        .ints("strides", {2, 3});
  t.add("Conv", {f32({2, 3, 11}), f32({2, 3, 3})})
      .ints("strides", {4})
      .ints("dilations", {2})
      .ints("pads", {1, 0});
  t.add("Conv", {f32({2, 4, 9, 9}), f32({8, 1, 3, 3})})
      .integer("group", 4)
      .ints("dilations", {2, 1})
      .ints("strides", {2, 2})
      .ints("pads", {2, 1, 1, 1});
  t.add("Conv", {f32({1, 2, 5, 6, 5}), f32({4, 1, 2, 3, 3}), f32({4})})
      .integer("group", 2)
      .ints("strides", {1, 2, 2})
      .ints("dilations", {2, 1, 1})
      .ints("pads", {1, 1, 0, 0, 2, 1});
  t.add("ConvTranspose", {f32({1, 3, 5, 5}), f32({3, 4, 3, 3})});
  // More output_padding than a stride, an output_shape smaller and larger than what the windows span.
  t.add("ConvTranspose", {f32({1, 3, 4}), f32({3, 2, 3}), f32({2})})
      .ints("strides", {2})
      .ints("dilations", {4})
      .ints("output_padding", {3})
      .ints("pads", {1, 2});
  for (const int64_t size : {7, 12})
    for (const char* pad : {"NOTSET", "SAME_UPPER"})
      t.add("ConvTranspose", {f32({1, 2, 4, 4}), f32({2, 3, 3, 3}), f32({3})})
          .ints("strides", {2, 2})
          .text("auto_pad", pad)
          .ints("output_shape", {size, 8});
  for (const char* pad : {"SAME_UPPER", "SAME_LOWER", "VALID"})
    t.add("ConvTranspose", {f32({1, 4, 4, 3}), f32({4, 1, 3, 4})})
        .integer("group", 2)
        .ints("strides", {2, 1})
        .text("auto_pad", pad);
  t.add("ConvTranspose", {f32({1, 2, 2, 3, 3}), f32({2, 2, 2, 3, 2})})
      .ints("strides", {2, 1, 2})
      .ints("pads", {0, 1, 0, 1, 0, 1});
  t.add("ConvTranspose", {f32({2, 4, 5, 6}), f32({4, 2, 3, 3}), f32({4})})
      .integer("group", 2)
      .ints("strides", {2, 2})
      .ints("pads", {1, 1, 1, 1})
      .ints("output_padding", {1, 0});
  t.add("ConvTranspose", {f32({1, 3, 7}), f32({3, 2, 3})}).ints("strides", {2}).ints("dilations", {2});
  t.add("Col2Im", {f32({1, 5, 5}), constant<int64_t>({5, 5}), constant<int64_t>({1, 5})});
  t.add("Col2Im", {f32({2, 24, 12}), constant<int64_t>({6, 7}), constant<int64_t>({2, 3})})
      .ints("strides", {2, 1})
      .ints("pads", {0, 1, 1, 0})
      .ints("dilations", {1, 2});
  t.add("DeformConv", {f32({1, 1, 3, 3}), f32({1, 1, 2, 2}), f32({1, 8, 2, 2}, Fill::Unit)}).within(1e-3);
  t.add("DeformConv",
        {f32({2, 4, 6, 7}), f32({6, 2, 3, 2}), f32({2, 24, 3, 6}), f32({6}), f32({2, 12, 3, 6})})
      .integer("group", 2)
      .integer("offset_group", 2)
      .ints("strides", {2, 1})
      .ints("pads", {1, 0, 1, 1})
      .ints("dilations", {1, 2})
      .within(1e-3);
  t.add("DeformConv", {f32({1, 2, 8}), f32({3, 2, 3}), f32({1, 3, 6})}).within(1e-3);
  // The two operators of which the gradients are made: dY, W and the dims of X, or X, dY and the dims of W.
  struct Backward {
    Dims x, w, dy;
    std::vector<int64_t> strides, dilations, pads;
    int64_t group;
  };
  const Backward backward[] = {
      {{2, 16, 9, 8}, {32, 16, 3, 3}, {2, 32, 9, 8}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 1},
      {{2, 5, 11, 9}, {6, 5, 3, 2}, {2, 6, 5, 3}, {2, 3}, {2, 1}, {1, 0, 1, 1}, 1},
      {{1, 32, 6, 6}, {16, 32, 1, 1}, {1, 16, 3, 3}, {2, 2}, {1, 1}, {0, 0, 0, 0}, 1},
      {{3, 20, 7, 5}, {24, 20, 1, 1}, {3, 24, 7, 5}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 1},
      {{2, 20, 8, 7}, {9, 20, 1, 1}, {2, 9, 4, 3}, {2, 3}, {1, 1}, {0, 0, 0, 0}, 1},
      {{2, 12, 7, 8}, {8, 6, 3, 3}, {2, 8, 5, 6}, {1, 1}, {1, 1}, {0, 0, 0, 0}, 2},
      {{2, 37, 9, 10}, {37, 1, 5, 5}, {2, 37, 9, 10}, {1, 1}, {1, 1}, {2, 2, 2, 2}, 37},
      {{1, 40, 12, 11}, {40, 1, 3, 6}, {1, 40, 6, 5}, {2, 2}, {1, 2}, {1, 4, 1, 4}, 40},
      {{1, 20, 3, 2}, {20, 1, 5, 5}, {1, 20, 3, 2}, {1, 1}, {1, 1}, {2, 2, 2, 2}, 20},
      {{2, 48, 19}, {48, 1, 4}, {2, 48, 10}, {2}, {1}, {2, 1}, 48},
      {{1, 8, 4, 5, 6}, {8, 8, 2, 3, 3}, {1, 8, 3, 5, 6}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1, 0, 1, 1}, 1}};
  for (const Backward& b : backward)
    for (const bool data : {true, false}) {
      Case& c = data ? t.add("ConvBackwardData", {f32(b.dy), f32(b.w), constant<int64_t>(b.x)})
                     : t.add("ConvBackwardWeights", {f32(b.x), f32(b.dy), constant<int64_t>(b.w)});
      c.ints("strides", b.strides)
          .ints("dilations", b.dilations)
          .ints("pads", b.pads)
          .integer("group", b.group);
      c.domain = "ai.sardonyx";
    }
  for (const Dims& dims : {Dims{2, 5, 7}, Dims{8, 600, 3, 4}, Dims{4, 24, 40, 50}, Dims{1, 3, 2, 3, 4}})
    t.add("ConvBackwardBias", {f32(dims), constant<int64_t>({dims[1]})}).domain = "ai.sardonyx";
}

}  // namespace sardonyx::test
