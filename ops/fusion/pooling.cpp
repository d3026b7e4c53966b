// Averages over all of an image.
#include <algorithm>

#include "ops/registry/match.h"

namespace sardonyx {

namespace {

// ReduceMean over every axis behind the channels of images is a pooling, which reads them channels last too.
ValueId global_average(Match& m) {
  const ValueId x = m.root().inputs[0];
  const Type& type = m.type(x);
  const auto axes = m.ints(m.root().input(1));
  if (!type.is_tensor() || !is_float(type.dtype) || type.rank() < 4 || !axes ||
      m.root().attributes.get<int64_t>("keepdims", 1) == 0)
    return kNone;
  const int64_t rank = type.rank();
  std::vector<int64_t> reduced = *axes;
  for (int64_t& axis : reduced) axis += axis < 0 ? rank : 0;
  std::sort(reduced.begin(), reduced.end());
  if (static_cast<int64_t>(reduced.size()) != rank - 2) return kNone;
  for (int64_t i = 2; i < rank; ++i) {
    const Dim& dim = (*type.shape)[static_cast<size_t>(i)];
    if (reduced[static_cast<size_t>(i - 2)] != i || !dim.known() || dim.value == 0) return kNone;
  }
  return m.op("GlobalAveragePool", {x});
}

}  // namespace

void register_pooling(FusionRegistry& r) {
  r.add(pattern_fusion("global_average", 60, {"ReduceMean"}, global_average));
}

}  // namespace sardonyx
