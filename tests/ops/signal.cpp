#include "tests/support/cases.h"

namespace sardonyx::test {

void cases_signal(CaseTable& t) {
  t.add("DFT", {f32({1, 10, 1}), none(), constant<int64_t>({1}, {})}).within(1e-3);
  t.add("DFT", {f32({2, 16, 2}), none(), constant<int64_t>({1}, {})}).integer("inverse", 1).within(1e-3);
  t.add("DFT", {f32({1, 7, 1}), none(), constant<int64_t>({1}, {})}).integer("onesided", 1).within(1e-3);
  for (const char* op : {"HannWindow", "HammingWindow", "BlackmanWindow"})
    t.add(op, {constant<int64_t>({10}, {})});
}

}  // namespace sardonyx::test
