// An execution provider: a device, its memory, its queue, and kernels for it. All work is asynchronous
// by interface: it is put on a queue, and the host waits only where it must read.
#pragma once

#include <memory>
#include <string>

#include "providers/kernel.h"

namespace sardonyx {

// A point in a queue that another queue, or the host, can wait for.
class Event {
 public:
  virtual ~Event() = default;
  virtual void wait() = 0;  // blocks the calling host thread; rethrows what failed on the queue before it
};

// Runs what is put on it in order. Buffers of an operation stay alive until it has run.
class Queue {
 public:
  virtual ~Queue() = default;
  // Runs the kernel on this queue. The caller keeps `kernel` and `run` alive, and does not touch `run`,
  // until the queue has passed this point; outputs the kernel allocates itself are read after that.
  virtual void launch(const Prepared& kernel, RunContext& run) = 0;
  // Copies keep the buffers of both tensors alive until they have happened.
  virtual void copy_from_host(Tensor& device, const Tensor& host) = 0;
  virtual void copy_to_host(Tensor& host, const Tensor& device) = 0;
  virtual std::shared_ptr<Event> record() = 0;
  virtual void wait(const std::shared_ptr<Event>& event) = 0;
  // Blocks until everything put on the queue has run; rethrows the first failure.
  virtual void synchronize() = 0;
};

class Provider {
 public:
  virtual ~Provider() = default;
  virtual const std::string& name() const = 0;  // "cpu", "cuda", ...
  // The number that its buffers carry; 0 is the host.
  virtual int device() const = 0;
  virtual std::shared_ptr<Buffer> allocate(size_t bytes) = 0;
  // True when launch and the copies have finished when they return.
  virtual bool synchronous() const = 0;
  // Called on the thread that is about to run kernels: how many threads they may use.
  virtual void enter(int threads) { (void)threads; }
  // Gives unused memory back to the system.
  virtual void trim() {}
  virtual std::unique_ptr<Queue> make_queue() = 0;
  virtual const KernelRegistry& kernels() const = 0;
  // Whether the device has instructions for products of bf16: without them precision "medium" is "highest".
  virtual bool multiplies_bfloat16() const { return false; }
  // Whether the provider has a kernel for the operator at all; the kernel may still decline shapes.
  virtual bool supports(const Node& node) const { return !kernels().find(node.domain, node.op).empty(); }
  // Whether a fusion may bring the operator in: it is not slower here than what it stands for.
  virtual bool prefers(const Node& node) const { return supports(node); }
};

}  // namespace sardonyx
