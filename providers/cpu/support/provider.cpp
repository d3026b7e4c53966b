#include <omp.h>

#include "providers/cpu/quantization.h"
#include "providers/cpu/support/onednn.h"
#include "providers/runtime/host_provider.h"
#include "providers/runtime/registry.h"

extern "C" void sardonyx_forget_wait_policy();

namespace sardonyx::cpu {

void register_all_kernels(KernelRegistry& registry);

namespace {

class CpuProvider final : public HostMemoryProvider {
 public:
  using HostMemoryProvider::HostMemoryProvider;
  // OpenMP keeps the count for each calling thread, so every run sets it.
  void enter(int threads) override {
    if (omp_get_max_threads() != threads) omp_set_num_threads(threads);
  }
  bool multiplies_bfloat16() const override { return onednn_multiplies_bfloat16(); }
  // Without its instructions for them, integers are multiplied by plain loops.
  bool prefers(const Node& node) const override {
    const bool integers = node.is("QLinearConv") || node.is("QLinearMatMul") || node.is("ConvInteger") ||
                          node.is("MatMulInteger");
    return supports(node) && (!integers || onednn_int8_is_exact());
  }
};

const bool registered = [] {
  sardonyx_forget_wait_policy();
  register_provider("cpu", [] {
    static const auto provider = [] {
      KernelRegistry kernels;
      register_all_kernels(kernels);
      return std::make_shared<CpuProvider>("cpu", std::move(kernels));
    }();
    return provider;
  });
  return true;
}();
}  // namespace

}  // namespace sardonyx::cpu
