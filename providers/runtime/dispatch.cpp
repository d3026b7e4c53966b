#include "providers/runtime/dispatch.h"

#include <algorithm>

#include "providers/runtime/log.h"

namespace sardonyx {

std::vector<const KernelEntry*> in_order(const std::vector<KernelEntry>& kernels, const std::string& prefer) {
  std::vector<const KernelEntry*> order;
  for (const auto& kernel : kernels) order.push_back(&kernel);
  if (!prefer.empty())
    std::stable_sort(order.begin(), order.end(), [&](const KernelEntry* a, const KernelEntry* b) {
      return (a->name == prefer) > (b->name == prefer);
    });
  return order;
}

Prepared prepare_kernel(const KernelEntry& kernel, PrepareContext& ctx) {
  Prepared prepared = kernel.prepare(ctx);
  if (!prepared.declined.empty()) return prepared;
  const auto& made = ctx.node().outputs;
  for (size_t i = 0; i < made.size(); ++i) {
    const auto& output = ctx.outputs_[i];
    if (made[i] == kNone) continue;
    if (output.kind != PrepareContext::OutputKind::Static || output.desc.size() != 0) return prepared;
  }
  return [](RunContext&) {};
}

Prepared prepare_first(const std::vector<KernelEntry>& kernels, const std::string& prefer,
                       PrepareContext& ctx, const std::string& description, std::string& chosen) {
  std::string reasons;
  const auto pristine = ctx.outputs_;
  const bool log = log_enabled("dispatch");
  for (const KernelEntry* kernel : in_order(kernels, prefer)) {
    Prepared prepared = prepare_kernel(*kernel, ctx);
    if (prepared.declined.empty()) {
      if (log)
        log_line("dispatch: " + description + ": " + kernel->name + (reasons.empty() ? "" : "; " + reasons));
      chosen = kernel->name;
      return prepared;
    }
    reasons += (reasons.empty() ? "" : "; ") + kernel->name + " declined: " + prepared.declined;
    ctx.outputs_ = pristine;
    ctx.scratch_ = 0;
  }
  throw UnsupportedError("no kernel takes this node (" + reasons + ")");
}

}  // namespace sardonyx
