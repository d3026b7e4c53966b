// A rewrite of an immutable graph: what a pass returns.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "graph/builder.h"

namespace sardonyx {

// A pass looks at `before` and records: new values and nodes (through builder(), which starts as a copy
// of the graph), and which values are to be read from elsewhere. Nodes that nothing needs afterwards go.
class Patch {
 public:
  explicit Patch(GraphPtr before) : before_(std::move(before)), builder_(*before_) {}
  const Graph& before() const { return *before_; }
  GraphBuilder& builder() {
    changed_ = true;
    return builder_;
  }
  // Every reader of `old_value`, graph outputs included, reads `new_value` instead. A graph output keeps
  // its name.
  void replace(ValueId old_value, ValueId new_value);
  // The node goes, together with its outputs that nothing reads.
  void remove(NodeId node);
  bool empty() const { return !changed_ && replaced_.empty() && removed_.empty(); }
  // The rewritten graph; `before` itself when the patch is empty.
  GraphPtr apply() &&;

 private:
  GraphPtr before_;
  GraphBuilder builder_;
  bool changed_ = false;
  std::unordered_map<ValueId, ValueId> replaced_;
  std::vector<NodeId> removed_;
};

}  // namespace sardonyx
