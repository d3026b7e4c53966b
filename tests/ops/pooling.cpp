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
  t.add("LpPool", {f32({1, 3, 8, 8})}).ints("kernel_shape", {2, 2}).integer("p", 2);
  for (const char* op : {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"})
    t.add(op, {f32({2, 3, 7, 5})});
}

}  // namespace sardonyx::test
