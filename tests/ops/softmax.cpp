#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_softmax(CaseTable& t) {
  for (const char* op : {"Softmax", "LogSoftmax"}) {
    for (const int64_t axis : {0, 1, 2, -1}) t.add(op, {f32({5, 17, 19})}).integer("axis", axis);
    t.add(op, {f32({0, 4})});
    t.add(op, {f32({300, 128})});
    t.add(op, {f32({7})}).integer("axis", 0);
    t.add(op, {f32({3, 4, 5, 6})}).integer("axis", -2);
    t.add(op, {f32({2, 1})});
  }
  t.add("Hardmax", {f32({4, 6})}).integer("axis", 1);
}

}  // namespace sardonyx::test
