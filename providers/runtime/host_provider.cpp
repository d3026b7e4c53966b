#include "providers/runtime/host_provider.h"

#include <algorithm>
#include <cstring>

#include "providers/runtime/executor.h"

namespace sardonyx {

namespace host {
void register_all_kernels(KernelRegistry& registry);
}

namespace {
struct PastEvent final : Event {
  void wait() override {}
};

void copy(Tensor& to, const Tensor& from) {
  if (from.dtype() == DType::String)
    std::copy_n(from.data<std::string>(), from.size(), to.mutable_data<std::string>());
  else
    std::memcpy(to.mutable_data(), from.data(), from.bytes());
}
}  // namespace

void HostQueue::copy_from_host(Tensor& device, const Tensor& host) { copy(device, host); }
void HostQueue::copy_to_host(Tensor& host, const Tensor& device) { copy(host, device); }
std::shared_ptr<Event> HostQueue::record() { return std::make_shared<PastEvent>(); }

std::shared_ptr<Provider> make_host_provider() {
  static const auto provider = [] {
    KernelRegistry kernels;
    host::register_all_kernels(kernels);
    return std::make_shared<HostMemoryProvider>("host", std::move(kernels));
  }();
  return provider;
}

}  // namespace sardonyx
