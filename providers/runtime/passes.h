// Rewrites of a graph before it runs. Each takes a graph and returns the next; bodies are rewritten too.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "graph/evaluate.h"
#include "graph/graph.h"

namespace sardonyx {

// What becomes of the DequantizeLinear of a constant in a graph that dequantizes other values too: Keep
// leaves it to the fusions, which look for integers behind it.
enum class Quantized { Keep, Fold };
// Folds nodes whose inputs are constants, and If nodes whose condition is one.
GraphPtr fold_constants(const GraphPtr& graph, Evaluator& evaluator, Quantized quantized = Quantized::Fold);
// Removes nodes that pass an input through: Identity, Dropout at inference, Cast to the same type,
// Reshape, Transpose, Slice, Pad, Expand that change nothing.
GraphPtr remove_no_ops(const GraphPtr& graph);
// Merges nodes that compute the same from the same.
GraphPtr merge_common(const GraphPtr& graph);

// The passes of the stage "simplified", by name, in the order they run.
const std::vector<std::string>& simplify_pass_names();
// Runs them, except those in `disabled`, until nothing changes. Types must be inferred before.
GraphPtr simplify(GraphPtr graph, Evaluator& evaluator, const std::set<std::string>& disabled,
                  Quantized quantized = Quantized::Fold);

}  // namespace sardonyx
