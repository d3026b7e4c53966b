// A provider whose memory is the host's and whose queue runs at once.
#pragma once

#include <string>

#include "providers/provider.h"

namespace sardonyx {

class HostQueue final : public Queue {
 public:
  void launch(const Prepared& kernel, RunContext& run) override { kernel.run(run); }
  void copy_from_host(Tensor& device, const Tensor& host) override;
  void copy_to_host(Tensor& host, const Tensor& device) override;
  std::shared_ptr<Event> record() override;
  void wait(const std::shared_ptr<Event>& event) override { event->wait(); }
  void synchronize() override {}
};

class HostMemoryProvider : public Provider {
 public:
  HostMemoryProvider(std::string name, KernelRegistry kernels)
      : name_(std::move(name)), kernels_(std::move(kernels)) {}
  const std::string& name() const override { return name_; }
  int device() const override { return 0; }
  std::shared_ptr<Buffer> allocate(size_t bytes) override { return Buffer::host(bytes); }
  bool synchronous() const override { return true; }
  std::unique_ptr<Queue> make_queue() override { return std::make_unique<HostQueue>(); }
  const KernelRegistry& kernels() const override { return kernels_; }

 private:
  std::string name_;
  KernelRegistry kernels_;
};

}  // namespace sardonyx
