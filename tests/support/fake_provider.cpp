#include "tests/support/fake_provider.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "providers/runtime/registry.h"

namespace sardonyx::test {

namespace {

constexpr int kDevice = 77;

// Device addresses and the memory behind them.
class FakeMemory {
 public:
  std::shared_ptr<Buffer> allocate(size_t bytes) {
    const size_t pages = (bytes / 4096 + 1) * 4096;
    void* address = mmap(nullptr, pages, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED) throw LimitError("fake device", std::to_string(bytes) + " bytes", "none");
    auto real = Buffer::host(bytes);
    {
      std::lock_guard lock(mutex_);
      behind_[address] = real;
    }
    return std::make_shared<Buffer>(
        address, bytes,
        [this, pages](void* p) {
          {
            std::lock_guard lock(mutex_);
            behind_.erase(p);
          }
          munmap(p, pages);
        },
        kDevice);
  }
  // The tensor as the device itself sees it.
  Tensor inside(const Tensor& tensor) {
    if (tensor.device() != kDevice) return tensor;
    std::lock_guard lock(mutex_);
    return Tensor(tensor.dtype(), tensor.dims(), behind_.at(tensor.buffer()->data()), tensor.offset());
  }

 private:
  std::mutex mutex_;
  std::map<void*, std::shared_ptr<Buffer>> behind_;
};

// Never destroyed: buffers may outlive every static object.
FakeMemory& memory() {
  static auto* instance = new FakeMemory;
  return *instance;
}

struct FakeEvent final : Event {
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::exception_ptr failure;
  void wait() override {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return done; });
    if (failure) std::rethrow_exception(failure);
  }
};

class FakeQueue final : public Queue {
 public:
  FakeQueue() : worker_([this] { work(); }) {}
  ~FakeQueue() override {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    worker_.join();
  }

  void launch(const Prepared& kernel, RunContext& run) override {
    put([&kernel, &run] {
      RunContext inside = run;
      for (Value& value : inside.inputs_)
        if (value.is_tensor()) value = memory().inside(value.tensor());
      for (Value& value : inside.outputs_)
        if (value.is_tensor()) value = memory().inside(value.tensor());
      kernel.run(inside);
      for (size_t i = 0; i < run.outputs_.size(); ++i) {
        if (run.outputs_[i].is_tensor() || !inside.outputs_[i].defined()) continue;
        if (!inside.outputs_[i].is_tensor() || inside.outputs_[i].tensor().dtype() == DType::String) {
          run.outputs_[i] = inside.outputs_[i];
          continue;
        }
        // An output that the kernel made itself: its home is this device.
        const Tensor& from = inside.outputs_[i].tensor();
        Tensor to(from.dtype(), from.dims(), memory().allocate(from.bytes()));
        Tensor target = memory().inside(to);
        std::memcpy(target.mutable_data(), from.data(), from.bytes());
        run.outputs_[i] = to;
      }
    });
  }
  void copy_from_host(Tensor& device, const Tensor& host) override {
    put([device, host] {
      Tensor target = memory().inside(device);
      std::memcpy(target.mutable_data(), host.data(), host.bytes());
    });
  }
  void copy_to_host(Tensor& host, const Tensor& device) override {
    put([host, device]() mutable {
      std::memcpy(host.mutable_data(), memory().inside(device).data(), host.bytes());
    });
  }
  std::shared_ptr<Event> record() override {
    auto event = std::make_shared<FakeEvent>();
    put(
        [this, event] {
          std::lock_guard lock(event->mutex);
          event->done = true;
          event->failure = failure_;
          event->changed.notify_all();
        },
        true);
    return event;
  }
  void wait(const std::shared_ptr<Event>& event) override {
    put([event] { event->wait(); });
  }
  void synchronize() override { record()->wait(); }

 private:
  void put(std::function<void()> operation, bool always = false) {
    {
      std::lock_guard lock(mutex_);
      operations_.push_back({std::move(operation), always});
    }
    changed_.notify_all();
  }
  void work() {
    for (;;) {
      std::pair<std::function<void()>, bool> next;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stop_ || !operations_.empty(); });
        if (operations_.empty()) return;
        next = std::move(operations_.front());
        operations_.pop_front();
      }
      // Late enough that a host which does not wait reads too early.
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      if (failure_ && !next.second) continue;
      try {
        next.first();
      } catch (...) {
        failure_ = std::current_exception();
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<std::function<void()>, bool>> operations_;
  std::exception_ptr failure_;
  bool stop_ = false;
  std::thread worker_;
};

class FakeProvider final : public Provider {
 public:
  const std::string& name() const override { return name_; }
  int device() const override { return kDevice; }
  std::shared_ptr<Buffer> allocate(size_t bytes) override { return memory().allocate(bytes); }
  bool synchronous() const override { return false; }
  std::unique_ptr<Queue> make_queue() override { return std::make_unique<FakeQueue>(); }
  const KernelRegistry& kernels() const override { return find_provider("cpu")->kernels(); }

 private:
  std::string name_ = "fake";
};

}  // namespace

void register_fake_provider() {
  register_provider("fake", [] {
    static const auto provider = std::make_shared<FakeProvider>();
    return provider;
  });
}

}  // namespace sardonyx::test
