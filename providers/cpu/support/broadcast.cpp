#include "providers/cpu/support/broadcast.h"

#include <algorithm>

#include "graph/shape.h"

namespace sardonyx::cpu {

Broadcast::Broadcast(const std::vector<Dims>& operands) {
  for (size_t k = 0; k < operands.size(); ++k) dims_ = k == 0 ? operands[0] : broadcast(dims_, operands[k]);
  size_ = element_count(dims_);
  for (const Dims& operand : operands) whole_.push_back(operand == dims_);

  const size_t count = operands.size(), rank = dims_.size();
  // Merged dimensions and strides from the innermost outwards.
  std::vector<int64_t> sizes, strides;
  std::vector<int64_t> dense(count, 1);  // elements of operand k inside the dimension at hand
  for (size_t d = rank; d-- > 0;) {
    std::vector<int64_t> stride(count);
    for (size_t k = 0; k < count; ++k) {
      const size_t missing = rank - operands[k].size();
      const int64_t own = d < missing ? 1 : operands[k][d - missing];
      stride[k] = own == 1 ? 0 : dense[k];
      dense[k] *= own;
    }
    if (dims_[d] == 1) continue;
    bool merge = !sizes.empty();
    for (size_t k = 0; k < count && merge; ++k)
      merge = stride[k] == strides[strides.size() - count + k] * sizes.back();
    if (merge) {
      sizes.back() *= dims_[d];
    } else {
      sizes.push_back(dims_[d]);
      strides.insert(strides.end(), stride.begin(), stride.end());
    }
  }
  if (sizes.empty()) {
    steps_.assign(count, 0);
    return;
  }
  row_ = sizes[0];
  steps_.assign(strides.begin(), strides.begin() + static_cast<std::ptrdiff_t>(count));
  for (size_t d = sizes.size(); d-- > 1;) {
    outer_.push_back(sizes[d]);
    strides_.insert(strides_.end(), strides.begin() + static_cast<std::ptrdiff_t>(d * count),
                    strides.begin() + static_cast<std::ptrdiff_t>((d + 1) * count));
  }
}

Broadcast::Cursor::Cursor(const Broadcast& plan, int64_t at) : plan_(plan) {
  const size_t rank = plan.outer_.size(), count = plan.steps_.size();
  index_ = near_.data();
  if (rank + count > near_.size()) {
    far_.resize(rank + count);
    index_ = far_.data();
  }
  from_ = index_ + rank;
  const int64_t inside = at % plan.row_;
  int64_t row = at / plan.row_;
  left_ = plan.row_ - inside;
  for (size_t k = 0; k < count; ++k) from_[k] = inside * plan.steps_[k];
  for (size_t d = rank; d-- > 0;) {
    index_[d] = row % plan.outer_[d];
    row /= plan.outer_[d];
    for (size_t k = 0; k < count; ++k) from_[k] += index_[d] * plan.strides_[d * count + k];
  }
}

std::vector<int64_t> Broadcast::places(int64_t at) const {
  const Cursor cursor(*this, at);
  return {cursor.from(), cursor.from() + steps_.size()};
}

void Broadcast::Cursor::next_row() {
  const size_t count = plan_.steps_.size();
  if (left_ != plan_.row_) {
    for (size_t k = 0; k < count; ++k) from_[k] -= (plan_.row_ - left_) * plan_.steps_[k];
    left_ = plan_.row_;
  }
  for (size_t d = plan_.outer_.size(); d-- > 0;) {
    const int64_t* stride = &plan_.strides_[d * count];
    if (++index_[d] < plan_.outer_[d]) {
      for (size_t k = 0; k < count; ++k) from_[k] += stride[k];
      return;
    }
    index_[d] = 0;
    for (size_t k = 0; k < count; ++k) from_[k] -= stride[k] * (plan_.outer_[d] - 1);
  }
}

}  // namespace sardonyx::cpu
