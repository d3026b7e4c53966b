// Fusions: rewrites that recognize what exporters write for one operator, and put that operator there.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "graph/evaluate.h"
#include "graph/graph.h"

namespace sardonyx {

struct Fusion {
  std::string name;  // what SessionOptions::disabled_passes calls it
  int order;         // lower ones run first
  // The next graph, bodies included, or the same one when nothing is found. Values keep their types.
  std::function<GraphPtr(const GraphPtr&)> rewrite;
};

class FusionRegistry {
 public:
  void add(Fusion fusion) { fusions_.push_back(std::move(fusion)); }
  const std::vector<Fusion>& all() const { return fusions_; }
  // Filled once from every ops/fusion/<stem>.cpp, in order.
  static const FusionRegistry& instance();

 private:
  std::vector<Fusion> fusions_;
};

struct FusionOptions {
  std::set<std::string> disabled;
  // A fusion that brings in an operator for which this says no is left out.
  std::function<bool(const Node&)> supported;
  // Called for each fusion that found something; may be empty.
  std::function<void(const Fusion&, const Graph& before, const Graph& after)> report;
};

// Runs the fusions, each until it finds nothing more. Types must be inferred before, and are again after.
GraphPtr fuse(GraphPtr graph, Evaluator* evaluator, const FusionOptions& options);

}  // namespace sardonyx
