#include <algorithm>

#include "graph/allocation.h"
#include "graph/shape.h"
#include "providers/runtime/plan.h"

namespace sardonyx {

// The largest first, each at the lowest place that is free for as long as it lives.
size_t place_storages(std::vector<PlanStorage>& storages) {
  constexpr size_t kAlign = 64;
  std::vector<PlanStorage*> order;
  for (PlanStorage& s : storages)
    if (s.kind == PlanStorage::Kind::Arena) order.push_back(&s);
  std::stable_sort(order.begin(), order.end(),
                   [](const PlanStorage* a, const PlanStorage* b) { return a->bytes > b->bytes; });
  size_t total = 0;
  std::vector<PlanStorage*> placed;  // by offset
  for (PlanStorage* s : order) {
    // A vector may be read past the end.
    const auto end_of = [](const PlanStorage* p) {
      return static_cast<size_t>(
          checked_add(static_cast<int64_t>(p->offset),
                      static_cast<int64_t>((p->bytes + 2 * kAlign - 1) / kAlign * kAlign), "arena"));
    };
    s->offset = 0;
    for (const PlanStorage* other : placed) {
      const bool apart = other->last < s->first || s->last < other->first;
      if (apart && !kExactAllocations) continue;
      if (end_of(s) <= other->offset) break;
      s->offset = std::max(s->offset, end_of(other));
    }
    total = std::max(total, end_of(s));
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), s,
                         [](const PlanStorage* a, const PlanStorage* b) { return a->offset < b->offset; }),
        s);
  }
  return total;
}

}  // namespace sardonyx
