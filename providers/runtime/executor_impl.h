// What the files of the executor share.
#pragma once

#include <chrono>
#include <list>
#include <map>
#include <unordered_map>

#include "providers/runtime/executor.h"

namespace sardonyx {

inline int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Appended to the key of what was prepared for these values.
void append_bytes(std::vector<int64_t>& key, const Tensor& tensor);
void append_signature(std::vector<int64_t>& key, const Value& value);

// A kernel prepared for one signature.
struct Entry {
  std::vector<int64_t> key;
  Prepared prepared;
  std::vector<PrepareContext::Output> outputs;
  size_t scratch = 0;
  std::string kernel;
};

// What is known of a node before any run.
struct Executor::Step {
  NodeId id;
  const Node* node;
  Provider* provider;
  const std::vector<KernelEntry>* kernels;
  std::vector<char> host_operand;  // parallel to the inputs
  std::vector<char> last_use;      // parallel to the inputs: nothing reads the value afterwards
  std::vector<ValueId> dies;       // captures whose last reader this is, outputs that nobody reads
  std::map<std::string, std::shared_ptr<Body>> bodies;
  std::string description;

  std::mutex mutex;
  std::list<std::shared_ptr<const Entry>> entries;  // most recent first
};

// What is made for one key of a segment.
struct Executor::SegmentPlan {
  std::vector<int64_t> key;
  size_t shapes = 0;                 // the part of the key before values
  std::shared_ptr<const Plan> plan;  // null: the key was seen once
  Segment* rest = nullptr;           // what runs afterwards
  std::vector<ValueId> drops;        // inputs that the rest does not read
};

// Nodes that are planned together: those of the graph, or those behind values that are known only while it
// runs.
struct Executor::Segment {
  enum class When : uint8_t { AtOnce, SeenAgain, Never };
  Segment(const Executor& executor, std::vector<NodeId> nodes, When when, int depth);

  std::vector<NodeId> nodes;
  When when;
  int depth;                    // segments before this one
  std::vector<ValueId> inputs;  // what the nodes read from outside, without constants
  std::vector<char> valued;     // parallel to inputs: dims in the segment may depend on the value

  // Guarded by Executor::plans_mutex_.
  bool by_value = true;                                   // keys hold the values that dims may depend on
  std::list<std::shared_ptr<const SegmentPlan>> planned;  // most recent first
};

// One run of one graph.
struct Executor::Run {
  Executor& executor;
  const RunScope& scope;
  std::vector<Value> slots;
  std::vector<Value> captures;
  std::vector<const Tensor*> presets;  // by value id; empty when there are none
  std::map<Provider*, std::unique_ptr<Queue>> queues;
  std::list<RunContext> in_flight;  // contexts of asynchronous queues
  std::vector<std::shared_ptr<const Entry>> kept;
  std::map<std::pair<int, ValueId>, Value> copies;  // values brought to another device
  RunContext context;                               // reused by synchronous providers
  std::vector<int64_t> key;

  Queue& queue(Provider& provider) {
    auto& slot = queues[&provider];
    if (!slot) slot = provider.make_queue();
    return *slot;
  }
  // Contexts and buffers outlive what is still queued, also when the run ends with an exception.
  ~Run() {
    for (auto& [provider, queue] : queues) {
      try {
        if (!provider->synchronous()) queue->synchronize();
      } catch (...) {
      }
    }
  }
};

}  // namespace sardonyx
